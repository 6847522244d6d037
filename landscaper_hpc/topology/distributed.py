"""The merge tree of a grid block by block: out of core in one process, or spread over MPI ranks. One schedule for both.

Per block, with one layer of ghost cells: descent, basins, spanning forest (`block`). Then paths that leave a block
are followed from block to block and between ranks, by pointer doubling (`shells`). Each rank reduces its forest;
forests merge pairwise up a binary tree to rank 0 (as the merge trees of Morozov and Weber, *Distributed Merge
Trees*, 2013), which applies the elder rule. Exit vertices and forests travel, cells never do. The tree is the same
for any cut into blocks and any number of ranks, bit for bit, because everything is combinatorial in the order of the
vertices.
"""

from __future__ import annotations

import ctypes
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import Connectivity

from .block import Block, Threads, TooManyMinima
from .boxes import MINIMUM_BYTES, Boxes, choose_boxes, planned_bytes, to_ids
from .comm import Alone, Arrays, Comm, agree
from .compiled import compiling
from .forest import Forest
from .merge import Direction, available_threads, check_direction, prepare
from .order import Census, ordered_keys
from .readers import ArrayReader, Reader, Region, check_shape, read_block, working_type
from .shells import Exits, follow, summed
from .stencil import check_connectivity
from .tree import Edges, MergeTree, build_tree


class LabelWriter(Protocol):
    """Takes basin labels block by block; blocks of one writer never overlap, and it may be called on every rank."""

    def create(self, shape: tuple[int, ...], block: tuple[int, ...], dtype: Any) -> None:
        """Called once, on rank 0, before any `write`."""
        ...

    def write(self, region: Region, labels: NDArray[Any]) -> None: ...


@dataclass
class RankStats:
    """What one rank did: seconds, peak memory and bytes sent until the end of each phase, rounds of following exits."""

    rank: int
    blocks: int = 0
    vertices: int = 0
    rounds: int = 0
    bytes_sent: int = 0
    phases: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """`tree` on rank 0 and None elsewhere; `stats` of all ranks; `boxes`, the cut; `planned_bytes` per process."""

    tree: MergeTree | None
    stats: list[RankStats]
    boxes: Boxes
    planned_bytes: int


def release() -> None:
    """Give freed memory back to the system. The C library keeps it, in pieces that the next larger array cannot use."""
    global _trim
    if _trim is None:
        try:
            _trim = ctypes.CDLL(None).malloc_trim
        except (OSError, AttributeError):  # another C library
            _trim = int
    _trim(0)


_trim: Callable[[int], int] | None = None


def peak_memory() -> int:
    """The largest resident set of this process so far, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass
class _Part:
    """What a rank knows of the basin graph: minima with their values, vertices per basin (also of basins whose minimum
    lies on another rank), and a forest."""

    minima: NDArray[np.int64]
    values: NDArray[np.float64]
    basins: NDArray[np.int64]
    sizes: NDArray[np.int64]
    forest: Forest
    census: Census

    def arrays(self) -> Arrays:
        c = self.census
        return {
            **{name: getattr(self, name) for name in ("minima", "values", "basins", "sizes")},
            **{f"forest_{name}": getattr(self.forest, name) for name in ("child", "parent", "saddle", "value")},
            "range": np.array([c.low, c.high]),
            "nonfinite": np.array([c.nan, c.posinf, c.neginf]),
        }

    @classmethod
    def of(cls, a: Arrays) -> _Part:
        forest = Forest(*(a[f"forest_{name}"] for name in ("child", "parent", "saddle", "value")))
        (low, high), (nan, posinf, neginf) = a["range"].tolist(), a["nonfinite"].tolist()
        census = Census(low, high, nan, posinf, neginf)
        return cls(a["minima"], a["values"], a["basins"], a["sizes"], forest, census)

    def followed(self, roots: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> _Part:
        """With every exit replaced by where it leads."""
        f = self.forest
        forest = Forest(roots(f.child), roots(f.parent), f.saddle, f.value)
        return _Part(self.minima, self.values, roots(self.basins), self.sizes, forest, self.census)

    @classmethod
    def join(cls, parts: list[_Part]) -> _Part:
        basins, sizes = summed(np.concatenate([p.basins for p in parts]), np.concatenate([p.sizes for p in parts]))
        return cls(
            np.concatenate([p.minima for p in parts]),
            np.concatenate([p.values for p in parts]),
            basins,
            sizes,
            Forest.concatenate([p.forest for p in parts]).reduced(),
            sum((p.census for p in parts), Census()),
        )


class _Run:
    """One rank's share of one merge tree."""

    def __init__(
        self,
        reader: Reader,
        connectivity: Connectivity,
        negate: bool,
        boxes: Boxes,
        threads: Threads,
        comm: Comm,
        keep: bool,
        max_memory: int | None = None,
    ) -> None:
        self.reader, self.connectivity, self.negate = reader, connectivity, negate
        self.boxes, self.threads, self.comm = boxes, threads, comm
        self.exits = Exits(boxes, comm.rank, keep)
        self.stats = RankStats(comm.rank)
        self.max_memory, self.minima = max_memory, 0
        itemsize = working_type(np.dtype(reader.dtype)).itemsize
        self.fixed_bytes = planned_bytes(boxes, itemsize, keep=keep)

    def most_minima(self) -> int:
        """How many more minima there is memory for."""
        if self.max_memory is None:
            return 2**31 - 1
        return min(2**31 - 1, max(0, (self.max_memory - self.fixed_bytes) // MINIMUM_BYTES - self.minima))

    def refuse(self, minima: int, where: str) -> InputError:
        """What to say where the field has more minima than `most_minima`."""
        needed = self.fixed_bytes + minima * MINIMUM_BYTES
        return InputError(
            f"max-memory is {self.max_memory} bytes; {where} there are {minima} minima, which need at least {needed}: "
            "give more, or start more processes"
        )

    @contextmanager
    def phase(self, name: str, together: bool = False) -> Iterator[None]:
        """Time a phase; at its end all ranks agree that it went well, or stop. Where ranks talk to each other within
        the phase (`together`), the others may be waiting for one that fails, so it ends them at once."""
        start, sent = time.perf_counter(), self.comm.bytes_sent
        error: Exception | None = None
        try:
            yield
        except Exception as caught:
            if together:
                self.comm.abort(caught)
            error = caught
        agree(self.comm, error)
        self.stats.phases[name] = {
            "seconds": time.perf_counter() - start,
            "peak_rss_mb": peak_memory() / 1e6,
            "bytes_sent": self.comm.bytes_sent - sent,
        }

    def block(self, number: int, most: int = 2**31 - 1) -> tuple[Block, tuple[slice, ...]]:
        core, ghosted = self.boxes.core(number), self.boxes.ghosted(number)
        values = read_block(self.reader, ghosted, self.negate)
        low = tuple(c.start - g.start for c, g in zip(core, ghosted, strict=True))
        high = tuple(c.stop - g.start for c, g in zip(core, ghosted, strict=True))
        try:
            return Block(values, low, high, self.connectivity, self.threads, most), ghosted
        except TooManyMinima as found:
            where = f"after {self.stats.blocks} of {len(self.boxes.of_rank(self.comm.rank))} blocks and within the next"
            raise self.refuse(self.minima + found.args[0], where) from None

    def work_on_blocks(self, progress: Callable[[int, int], None]) -> _Part:
        numbers = self.boxes.of_rank(self.comm.rank)
        sizes = [int(np.prod([s.stop - s.start for s in self.boxes.core(b)])) for b in numbers]
        none = np.empty(0, np.int64)
        parts = [_Part(none, np.empty(0), none, none, Forest.empty(), Census())]
        for number, size in zip(numbers, sizes, strict=True):
            new = self._work_on(number)
            if self.boxes.size > 1:
                self._settle([*parts, new])
            parts.append(new)
            self.stats.blocks += 1
            self.stats.vertices += size
            progress(self.stats.vertices, sum(sizes))
            if sum(len(p.forest) for p in parts[1:]) > len(parts[0].forest) // 2 + 100_000:
                parts = [_Part.join(parts)]  # keep what accumulates near what the forest of it needs
        return _Part.join(parts)

    def _settle(self, parts: list[_Part]) -> None:
        """Follow what has become known, at once: a face can have more exits than the tree has minima."""
        at, to = self.exits.settle()
        for part in parts:
            for nodes in (part.forest.child, part.forest.parent):
                follow(at, to, nodes)
        release()

    def _work_on(self, number: int) -> _Part:
        block, ghosted = self.block(number, self.most_minima())
        m, shape = len(block.minima), self.boxes.shape
        self.minima += m
        nodes = to_ids(np.concatenate([block.minima, block.exits]), ghosted, shape)
        minima, values = nodes[:m].copy(), block.values_at(block.minima)
        shell = self.exits.shell(number, block, nodes) if self.boxes.size > 1 else None
        child, parent, saddle, lowest = block.forest()
        ghosts = to_ids(lowest, ghosted, shape)
        ends = np.concatenate([minima, ghosts])
        forest = Forest(ends[child], ends[parent], to_ids(saddle, ghosted, shape), block.values_at(saddle))
        del child, parent, saddle, ends
        if shell is None:
            return _Part(minima, values, minima, block.sizes.astype(np.int64), forest, block.census)
        block.forget()
        known = self.exits.add(number, shell, block.sizes, m, ghosts)
        basins, sizes = (np.concatenate([pair[i] for pair in known]) for i in (0, 1))
        return _Part(minima, values, *summed(basins, sizes), forest, block.census)

    def follow_exits(self) -> None:
        """Ask the other ranks where foreign vertices lead, all of them together, until everybody knows."""
        exits, comm = self.exits, self.comm
        exits.start_asking()
        while comm.size > 1:
            open_ = np.flatnonzero(~exits.foreign_done)
            if comm.total(len(open_)) == 0:
                break
            vertices = exits.foreign_to[open_]
            owners = self.boxes.owner(self.boxes.block_of(vertices))
            order = np.argsort(owners, kind="stable")
            bounds = np.searchsorted(owners[order], np.arange(comm.size + 1))
            asked = comm.exchange([vertices[order[a:b]] for a, b in itertools.pairwise(bounds)])
            replies = np.concatenate(comm.exchange([exits.answer(v) for v in asked]))
            exits.foreign_done[open_[order]] = replies >= 0
            exits.foreign_to[open_[order]] = np.where(replies >= 0, replies, -1 - replies)
            self.stats.rounds += 1

    def resolved(self, part: _Part) -> _Part:
        return _Part.join([part.followed(self.exits.roots)])

    def check_minima(self) -> None:
        """Raise InputError, on all ranks alike, unless rank 0 may hold the whole tree."""
        total, self.minima = self.comm.total(self.minima), 0
        if total > self.most_minima():
            raise self.refuse(total, "in all")

    def merge(self, part: _Part) -> _Part:
        """Pairwise up a binary tree; only rank 0 ends with everything."""
        step = 1
        while step < self.comm.size:
            if self.comm.rank % (2 * step):
                self.comm.send(part.arrays(), self.comm.rank - step)
                break
            if self.comm.rank + step < self.comm.size:
                part = _Part.join([part, _Part.of(self.comm.receive(self.comm.rank + step))])
            step *= 2
        return part

    def write_labels(self, tree: MergeTree | None, writer: LabelWriter) -> None:
        """A second walk over the blocks: now the minima have their numbers."""
        comm, boxes = self.comm, self.boxes
        dtype = np.int32 if comm.total(tree.n_minima if tree else 0) < 2**31 else np.int64
        with self.phase("label store"):
            if comm.rank == 0:
                writer.create(boxes.shape, boxes.block, dtype)
        with self.phase("labels", together=True):
            for turn in range(max(len(boxes.of_rank(r)) for r in range(comm.size))):
                mine = boxes.of_rank(comm.rank)
                wanted = np.empty(0, np.int64)
                if turn < len(mine):
                    block, ghosted = self.block(mine[turn])
                    nodes = to_ids(np.concatenate([block.minima, block.exits]), ghosted, boxes.shape)
                    wanted = self.exits.roots(nodes)
                asked = comm.exchange([wanted] + [np.empty(0, np.int64)] * (comm.size - 1))
                index = self._index(tree, asked) if tree is not None else [np.empty(0, np.int64)] * comm.size
                numbers = comm.exchange(index)[0]
                if turn < len(mine):
                    writer.write(boxes.core(mine[turn]), block.labels(numbers.astype(dtype)))
                    del block
                    release()

    @staticmethod
    def _index(tree: MergeTree, asked: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        by_id = np.argsort(tree.minima)
        found = []
        for nodes in asked:
            place = np.minimum(np.searchsorted(tree.minima, nodes, sorter=by_id), max(tree.n_minima - 1, 0))
            index = by_id[place] if tree.n_minima else np.full(len(nodes), -1)
            found.append(np.where(tree.minima[index] == nodes, index, -1) if tree.n_minima else index)
        return found


def _compile(connectivity: Connectivity, dtype: np.dtype[Any]) -> None:
    """Compile all that ranks may need, for fields with and without NaN, while no other process of this host does."""
    with compiling(), Threads(1) as pool:
        for corner in (0.0, np.nan):
            tiny = np.zeros((3, 2), dtype)
            tiny[0, 0] = corner
            run = _Run(ArrayReader(tiny), connectivity, False, Boxes((3, 2), (1, 2)), pool, Alone(), False)
            run.work_on_blocks(lambda done, total: None)


_PROBE = 20_000


def probe(reader: Reader, connectivity: Connectivity, negate: bool) -> float:
    """About how many minima there are per vertex, from three small boxes along the diagonal: in a rough field most of
    the memory goes to the tree. Vertices on the surface of a box are not asked."""
    found = asked = 0
    side = [min(k, 3) for k in reader.shape]
    while int(np.prod(side)) < _PROBE and any(s < k for s, k in zip(side, reader.shape, strict=True)):
        side = [min(k, s + 1) for s, k in zip(side, reader.shape, strict=True)]
    with Threads(1) as alone:
        for part in range(3):
            low = [(k - s) * part // 2 for s, k in zip(side, reader.shape, strict=True)]
            values = read_block(reader, tuple(slice(a, a + s) for a, s in zip(low, side, strict=True)), negate)
            # an axis of one or two points has no inside
            a = tuple(int(s > 2) for s in side)
            b = tuple(s - int(s > 2) for s in side)
            block = Block(values, a, b, connectivity, alone)
            found += len(block.minima)
            asked += int(np.prod(np.subtract(b, a)))
    return found / asked


def _share(comm: Comm, work: Callable[[], float]) -> float:
    """What rank 0 finds, on every rank; its error everywhere."""
    result, error = 0.0, None
    if comm.rank == 0:
        try:
            result = work()
        except Exception as caught:
            error = caught
    agree(comm, error)
    return float(comm.gather(result)[0])


def merge_tree_blocks(
    reader: Reader,
    connectivity: Connectivity = "axis",
    direction: Direction = "sublevel",
    labels: LabelWriter | None = None,
    *,
    block_shape: tuple[int, ...] | None = None,
    max_memory: int | None = None,
    threads: int | None = None,
    comm: Comm | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """The merge tree of a field that is read block by block; `merge_tree` for its arguments and what it gives.

    labels      writes basin labels (-1 for none), which reads the values a second time
    block_shape the cut; by default as few blocks as ranks and memory allow
    max_memory  bytes per process; InputError if no cut fits. How rough the field is, and so how large the tree will be,
                is seen from three small boxes that are read beforehand, for the choice of the cut. If it turns out
                rougher than the limit allows, that is an InputError before the memory is taken
    comm        the ranks that share the work, all of which call this function; by default this process alone
    progress    called with (vertices done, vertices in all) of this rank, after each block

    Raises InputError on bad input. An error on one rank ends the call on every rank.
    """
    comm = comm or Alone()
    check_connectivity(connectivity)
    check_direction(direction)
    shape = tuple(int(k) for k in reader.shape)
    check_shape(shape)
    dtype = working_type(np.dtype(reader.dtype))
    if not shape:
        raise InputError("values have no axis; a grid has at least one")
    threads = threads or max(1, available_threads() // comm.ranks_on_node())
    negate, keep = direction == "superlevel", labels is not None
    density = 0.0
    if max_memory is not None:
        density = _share(comm, lambda: probe(reader, connectivity, negate))
    boxes = (
        Boxes(shape, block_shape, comm.size)
        if block_shape is not None
        else choose_boxes(shape, dtype.itemsize, comm.size, max_memory, density, keep)
    )
    with Threads(threads) as pool:
        run = _Run(reader, connectivity, negate, boxes, pool, comm, keep, max_memory)
        with run.phase("compile", together=True):
            if comm.size == 1:
                prepare(connectivity, dtype)
            else:
                comm.once_per_node(lambda: _compile(connectivity, dtype))
        with run.phase("blocks"):
            part = run.work_on_blocks(progress)
        with run.phase("exchange", together=True):
            run.follow_exits()
        with run.phase("forest"):
            part = run.resolved(part)
        run.check_minima()
        with run.phase("merge", together=True):
            part = run.merge(part)
        tree = None
        with run.phase("tree"):
            if comm.rank == 0:
                tree = _tree(part, shape, connectivity, direction)
        if labels is not None:
            run.write_labels(tree, labels)
    run.stats.bytes_sent = comm.bytes_sent
    return Result(tree, comm.gather(run.stats), boxes, planned_bytes(boxes, dtype.itemsize, density, keep))


def _tree(part: _Part, shape: tuple[int, ...], connectivity: Connectivity, direction: Direction) -> MergeTree:
    order = np.lexsort((part.minima, ordered_keys(part.values)))
    minima = part.minima[order]
    by_id = np.argsort(minima)
    child, parent = (by_id[np.searchsorted(minima, x, sorter=by_id)] for x in (part.forest.child, part.forest.parent))
    return build_tree(
        minima,
        part.values[order],
        part.sizes[np.searchsorted(part.basins, minima)].astype(np.int64),
        Edges(child, parent, part.forest.saddle, part.forest.value),
        part.census,
        shape=shape,
        connectivity=connectivity,
        direction=direction,
        n_vertices=int(np.prod(shape, dtype=np.int64)),
    )
