"""What one rank does for a distributed merge tree, step by step; `distributed` says in which order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import Connectivity
from landscaper_hpc.parallel.comm import Comm
from landscaper_hpc.topology.blocks.basin_graph import BasinGraph
from landscaper_hpc.topology.blocks.basins import MOST_MINIMA, Basins, TooManyMinima, find_basins, named_core
from landscaper_hpc.topology.blocks.block import Block, block_of, values_at
from landscaper_hpc.topology.blocks.block_forest import block_forest
from landscaper_hpc.topology.blocks.boxes import MINIMUM_BYTES, Boxes, planned_bytes, to_ids
from landscaper_hpc.topology.blocks.exits import Exits, Ids, Question, asked, settled
from landscaper_hpc.topology.blocks.foreign import Foreign, ends_of
from landscaper_hpc.topology.blocks.labels import LabelWriter
from landscaper_hpc.topology.blocks.shells import shell_of
from landscaper_hpc.topology.blocks.stats import Phases, phase, release
from landscaper_hpc.topology.kernels.forest import Forest
from landscaper_hpc.topology.kernels.ids import follow, summed
from landscaper_hpc.topology.kernels.order import Census
from landscaper_hpc.topology.kernels.threads import Threads
from landscaper_hpc.topology.readers import Reader, held_by, read_block, working_type
from landscaper_hpc.topology.tree import MergeTree

_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class Schedule:
    """One merge tree as one rank sees it: the field and its cut, and who shares the work. `keep` what is found out
    about exits, for a second walk over the blocks; `max_memory`: bytes, or None for no limit."""

    reader: Reader
    connectivity: Connectivity
    negate: bool
    boxes: Boxes
    threads: Threads
    comm: Comm
    keep: bool = False
    max_memory: int | None = None

    @property
    def numbers(self) -> range:
        """The blocks of this rank."""
        return self.boxes.of_rank(self.comm.rank)

    @property
    def fixed_bytes(self) -> int:
        """What is needed whatever the field is like."""
        itemsize = working_type(np.dtype(self.reader.dtype)).itemsize
        return planned_bytes(self.boxes, itemsize, keep=self.keep, held=held_by(self.reader))


@dataclass(frozen=True)
class Worked:
    """What has come of a rank's blocks: its part of the basin graph, and what it knows and asks of exits."""

    part: BasinGraph
    exits: Exits
    minima: int


def most_minima(schedule: Schedule, found: int) -> int:
    """How many more minima there is memory for."""
    if schedule.max_memory is None:
        return MOST_MINIMA
    return min(MOST_MINIMA, max(0, (schedule.max_memory - schedule.fixed_bytes) // MINIMUM_BYTES - found))


def _too_many(schedule: Schedule, minima: int, where: str) -> InputError:
    """What to say where the field has more minima than `most_minima`."""
    needed = schedule.fixed_bytes + minima * MINIMUM_BYTES
    return InputError(
        f"max-memory is {schedule.max_memory} bytes; {where} there are {minima} minima, which need at least {needed}: "
        "give more, or start more processes"
    )


def check_minima(schedule: Schedule, minima: int) -> None:
    """Raise InputError, on all ranks alike, unless rank 0 may hold the whole tree."""
    total = schedule.comm.total(minima)
    if total > most_minima(schedule, 0):
        raise _too_many(schedule, total, "in all")


def _room(schedule: Schedule) -> NDArray[np.int32]:
    """What all blocks have their labels in, one after the other: memory that is new to the process costs as much as
    the work on it."""
    return np.empty(schedule.boxes.most_vertices(schedule.comm.rank), np.int32)


def _read(schedule: Schedule, number: int) -> Block:
    core, ghosted = schedule.boxes.core(number), schedule.boxes.ghosted(number)
    low = tuple(c.start - g.start for c, g in zip(core, ghosted, strict=True))
    high = tuple(c.stop - g.start for c, g in zip(core, ghosted, strict=True))
    values = read_block(schedule.reader, ghosted, schedule.negate)
    return block_of(values, low, high, schedule.connectivity, schedule.threads)


def _nodes(schedule: Schedule, number: int, basins: Basins) -> Ids:
    """The vertices that the labels of a block stand for."""
    boxes = schedule.boxes
    return to_ids(np.concatenate([basins.minima, basins.exits]), boxes.ghosted(number), boxes.shape)


def work_on_blocks(schedule: Schedule, progress: Callable[[int, int], None]) -> Worked:
    """Walk over the blocks of this rank. `progress` is called with (vertices done, vertices in all) after each."""
    boxes, numbers = schedule.boxes, schedule.numbers
    done = list(itertools.accumulate(math.prod(s.stop - s.start for s in boxes.core(b)) for b in numbers))
    parts = [BasinGraph(_NONE, np.empty(0), _NONE, _NONE, Forest.empty(), Census())]
    exits, minima, room = Exits(), 0, _room(schedule)
    for i, number in enumerate(numbers):
        try:
            part, question = _work_on(schedule, number, room, most_minima(schedule, minima))
        except TooManyMinima as found:
            where = f"after {i} of {len(numbers)} blocks and within the next"
            raise _too_many(schedule, minima + found.args[0], where) from None
        minima += len(part.minima)
        if question is not None:
            exits, known, answers = asked(exits, boxes, schedule.comm.rank, question)
            del question
            basins, sizes = summed(*(np.concatenate([pair[i] for pair in known]) for i in (0, 1)))
            part = replace(part, basins=basins, sizes=sizes)
            del known
            exits, at, to = settled(exits, answers, schedule.keep)
            # at once: a face can have more exits than the tree has minima
            for p in (*parts, part):
                follow(at, to, p.forest.child)
                follow(at, to, p.forest.parent)
            del answers, at, to
            release()
        parts.append(part)
        progress(done[i], done[-1])
        if sum(len(p.forest) for p in parts[1:]) > len(parts[0].forest) // 2 + 100_000:
            parts = [BasinGraph.join(parts)]  # keep what accumulates near what the forest of it needs
    del room
    return Worked(BasinGraph.join(parts), exits, minima)


def _work_on(schedule: Schedule, number: int, room: NDArray[np.int32], most: int) -> tuple[BasinGraph, Question | None]:
    """What a block by itself shows, its basins as far as they lie in it; and what it asks the blocks around it."""
    boxes, ghosted = schedule.boxes, schedule.boxes.ghosted(number)
    block = _read(schedule, number)
    basins = find_basins(block, schedule.threads, most, room)
    nodes, m = _nodes(schedule, number, basins), len(basins.minima)
    minima, values = nodes[:m].copy(), values_at(block, basins.minima)
    shell = shell_of(basins.root, nodes, boxes, number) if boxes.size > 1 else None  # before the forest uses it up
    child, parent, saddle, lowest = block_forest(block, basins, schedule.threads)
    ghosts = to_ids(lowest, ghosted, boxes.shape)
    ends = np.concatenate([minima, ghosts])
    forest = Forest(ends[child], ends[parent], to_ids(saddle, ghosted, boxes.shape), values_at(block, saddle))
    part = BasinGraph(minima, values, minima, basins.sizes[:m].astype(np.int64), forest, block.census)
    return part, None if shell is None else Question(number, shell, m, basins.sizes, ghosts)


def merged(comm: Comm, part: BasinGraph) -> BasinGraph:
    """The parts of all ranks, pairwise up a binary tree; only rank 0 ends with everything."""
    step = 1
    while step < comm.size:
        if comm.rank % (2 * step):
            comm.send(part.arrays(), comm.rank - step)
            break
        if comm.rank + step < comm.size:
            part = BasinGraph.join([part, BasinGraph.of(comm.receive(comm.rank + step))])
        step *= 2
    return part


def write_labels(
    schedule: Schedule, exits: Exits, foreign: Foreign, tree: MergeTree | None, writer: LabelWriter, phases: Phases
) -> None:
    """A second walk over the blocks: now the minima have their numbers."""
    comm, boxes, mine = schedule.comm, schedule.boxes, schedule.numbers
    dtype = np.int32 if comm.total(tree.n_minima if tree else 0) < 2**31 else np.int64
    with phase(comm, phases, "label store"):
        if comm.rank == 0:
            writer.create(boxes.shape, boxes.block, dtype)
    with phase(comm, phases, "labels", together=True):
        room = _room(schedule)
        for turn in range(max(len(boxes.of_rank(r)) for r in range(comm.size))):
            if turn >= len(mine):
                _numbers(comm, tree, _NONE)
                continue
            number = mine[turn]
            block = _read(schedule, number)
            basins, box = find_basins(block, schedule.threads, room=room), block.box
            del block
            wanted = ends_of(_nodes(schedule, number, basins), exits, foreign)
            labels = named_core(basins.root, box, _numbers(comm, tree, wanted).astype(dtype))
            writer.write(boxes.core(number), labels.reshape([s.stop - s.start for s in boxes.core(number)]))
            del labels
            release()


def _numbers(comm: Comm, tree: MergeTree | None, minima: Ids) -> Ids:
    """The indices in the tree, which rank 0 has, of every rank's own minima; -1 for one that is none."""
    none = [_NONE] * comm.size
    asked = comm.exchange([minima, *none[1:]])
    return comm.exchange(none if tree is None else [_index(tree, nodes) for nodes in asked])[0]


def _index(tree: MergeTree, nodes: Ids) -> Ids:
    if tree.n_minima == 0:
        return np.full(len(nodes), -1)
    by_id = np.argsort(tree.minima)
    place = np.minimum(np.searchsorted(tree.minima, nodes, sorter=by_id), tree.n_minima - 1)
    index = by_id[place]
    return np.where(tree.minima[index] == nodes, index, -1)
