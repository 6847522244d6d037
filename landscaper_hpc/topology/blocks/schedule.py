"""What one rank does for a distributed merge tree, step by step; `distributed` says in which order."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import Connectivity
from landscaper_hpc.parallel.comm import Comm, agree
from landscaper_hpc.topology.blocks.basin_graph import Part
from landscaper_hpc.topology.blocks.block import Block, TooManyMinima
from landscaper_hpc.topology.blocks.boxes import MINIMUM_BYTES, Boxes, planned_bytes, to_ids
from landscaper_hpc.topology.blocks.exits import Exits, follow, summed
from landscaper_hpc.topology.blocks.labels import LabelWriter
from landscaper_hpc.topology.blocks.stats import RankStats, peak_memory, release
from landscaper_hpc.topology.kernels.forest import Forest
from landscaper_hpc.topology.kernels.order import Census
from landscaper_hpc.topology.kernels.threads import Threads
from landscaper_hpc.topology.readers import Reader, read_block, working_type
from landscaper_hpc.topology.tree import MergeTree


class Schedule:
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
        self._used = np.empty(0, np.int32)
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

    def _room(self) -> NDArray[np.int32]:
        """What all blocks have their labels in, one after the other: memory that is new to the process costs as much
        as the work on it."""
        if self._used.size == 0:
            self._used = np.empty(self.boxes.most_vertices(self.comm.rank), np.int32)
        return self._used

    def block(self, number: int, most: int = 2**31 - 1) -> tuple[Block, tuple[slice, ...]]:
        core, ghosted = self.boxes.core(number), self.boxes.ghosted(number)
        values = read_block(self.reader, ghosted, self.negate)
        low = tuple(c.start - g.start for c, g in zip(core, ghosted, strict=True))
        high = tuple(c.stop - g.start for c, g in zip(core, ghosted, strict=True))
        try:
            return Block(values, low, high, self.connectivity, self.threads, most, self._room()), ghosted
        except TooManyMinima as found:
            where = f"after {self.stats.blocks} of {len(self.boxes.of_rank(self.comm.rank))} blocks and within the next"
            raise self.refuse(self.minima + found.args[0], where) from None

    def work_on_blocks(self, progress: Callable[[int, int], None]) -> Part:
        numbers = self.boxes.of_rank(self.comm.rank)
        sizes = [int(np.prod([s.stop - s.start for s in self.boxes.core(b)])) for b in numbers]
        none = np.empty(0, np.int64)
        parts = [Part(none, np.empty(0), none, none, Forest.empty(), Census())]
        for number, size in zip(numbers, sizes, strict=True):
            new = self._work_on(number)
            if self.boxes.size > 1:
                self._settle([*parts, new])
            parts.append(new)
            self.stats.blocks += 1
            self.stats.vertices += size
            progress(self.stats.vertices, sum(sizes))
            if sum(len(p.forest) for p in parts[1:]) > len(parts[0].forest) // 2 + 100_000:
                parts = [Part.join(parts)]  # keep what accumulates near what the forest of it needs
        self._used = np.empty(0, np.int32)
        return Part.join(parts)

    def _settle(self, parts: list[Part]) -> None:
        """Follow what has become known, at once: a face can have more exits than the tree has minima."""
        at, to = self.exits.settle()
        for part in parts:
            for nodes in (part.forest.child, part.forest.parent):
                follow(at, to, nodes)
        release()

    def _work_on(self, number: int) -> Part:
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
            return Part(minima, values, minima, block.sizes.astype(np.int64), forest, block.census)
        block.forget()
        known = self.exits.add(number, shell, block.sizes, m, ghosts)
        basins, sizes = (np.concatenate([pair[i] for pair in known]) for i in (0, 1))
        return Part(minima, values, *summed(basins, sizes), forest, block.census)

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

    def resolved(self, part: Part) -> Part:
        return Part.join([part.followed(self.exits.roots)])

    def check_minima(self) -> None:
        """Raise InputError, on all ranks alike, unless rank 0 may hold the whole tree."""
        total, self.minima = self.comm.total(self.minima), 0
        if total > self.most_minima():
            raise self.refuse(total, "in all")

    def merge(self, part: Part) -> Part:
        """Pairwise up a binary tree; only rank 0 ends with everything."""
        step = 1
        while step < self.comm.size:
            if self.comm.rank % (2 * step):
                self.comm.send(part.arrays(), self.comm.rank - step)
                break
            if self.comm.rank + step < self.comm.size:
                part = Part.join([part, Part.of(self.comm.receive(self.comm.rank + step))])
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
