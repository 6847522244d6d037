"""The merge tree of a grid block by block: out of core in one process, or spread over MPI ranks. One schedule for both.

Per block, with one layer of ghost cells: descent, basins, spanning forest (`block`). Then paths that leave a block
are followed from block to block and between ranks, by pointer doubling (`exits`). Each rank reduces its forest;
forests merge pairwise up a binary tree to rank 0 (as the merge trees of Morozov and Weber, *Distributed Merge
Trees*, 2013), which applies the elder rule. Exit vertices and forests travel, cells never do. The tree is the same
for any cut into blocks and any number of ranks, bit for bit, because everything is combinatorial in the order of the
vertices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import Connectivity
from landscaper_hpc.parallel.comm import Comm, SerialComm, agree
from landscaper_hpc.topology.blocks.basin_graph import BasinGraph
from landscaper_hpc.topology.blocks.basins import find_basins
from landscaper_hpc.topology.blocks.block import block_of
from landscaper_hpc.topology.blocks.boxes import Boxes, choose_boxes, planned_bytes
from landscaper_hpc.topology.blocks.foreign import ends_of, follow_foreign
from landscaper_hpc.topology.blocks.labels import LabelWriter
from landscaper_hpc.topology.blocks.schedule import Schedule, check_minima, merged, work_on_blocks, write_labels
from landscaper_hpc.topology.blocks.stats import Phases, RankStats, phase
from landscaper_hpc.topology.blocks.warm_up import available_threads, prepare
from landscaper_hpc.topology.build import Edges, build_tree
from landscaper_hpc.topology.kernels.order import ordered_keys
from landscaper_hpc.topology.kernels.stencil import check_connectivity
from landscaper_hpc.topology.kernels.threads import Threads
from landscaper_hpc.topology.readers import ArrayReader, Reader, check_shape, held_by, read_block, working_type
from landscaper_hpc.topology.tree import Direction, MergeTree, check_direction


@dataclass(frozen=True)
class Result:
    """`tree` on rank 0 and None elsewhere; `stats` of all ranks; `boxes`, the cut; `planned_bytes` per process."""

    tree: MergeTree | None
    stats: list[RankStats]
    boxes: Boxes
    planned_bytes: int


def _prepare(connectivity: Connectivity, dtype: np.dtype[Any], comm: Comm) -> None:
    """Compile what blocks need on one rank of each node; then load it on all at once."""
    comm.once_per_node(lambda: compile_kernels(connectivity, dtype))
    compile_kernels(connectivity, dtype)


def compile_kernels(connectivity: Connectivity, dtype: np.dtype[Any]) -> None:
    """Compile or load what blocks need: the kernels are used once, for fields with and without NaN."""
    prepare(connectivity, dtype)
    with Threads(1) as pool:
        for corner in (0.0, np.nan):
            tiny = np.zeros((3, 2), dtype)
            tiny[0, 0] = corner
            schedule = Schedule(ArrayReader(tiny), connectivity, False, Boxes((3, 2), (1, 2)), pool, SerialComm())
            work_on_blocks(schedule, lambda done, total: None)


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
            found += len(find_basins(block_of(values, a, b, connectivity, alone), alone).minima)
            asked += int(np.prod(np.subtract(b, a)))
    return found / asked


def _broadcast(comm: Comm, work: Callable[[], float]) -> float:
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
    comm = comm or SerialComm()
    check_direction(direction)
    shape = tuple(int(k) for k in reader.shape)
    check_shape(shape)
    check_connectivity(connectivity, shape)
    dtype = working_type(np.dtype(reader.dtype))
    if not shape:
        raise InputError("values have no axis; a grid has at least one")
    threads = threads or max(1, available_threads() // comm.ranks_on_node())
    negate, keep = direction == "superlevel", labels is not None
    density = 0.0
    held = held_by(reader)
    if max_memory is not None:
        choose_boxes(shape, dtype.itemsize, comm.size, max_memory, 0.0, keep, held)  # refused before anything is read
        density = _broadcast(comm, lambda: probe(reader, connectivity, negate))
    boxes = (
        Boxes(shape, block_shape, comm.size)
        if block_shape is not None
        else choose_boxes(shape, dtype.itemsize, comm.size, max_memory, density, keep, held)
    )
    phases: Phases = {}
    with Threads(threads) as pool:
        schedule = Schedule(reader, connectivity, negate, boxes, pool, comm, keep, max_memory)
        with phase(comm, phases, "compile", together=True):
            if boxes.size == comm.size == 1:
                prepare(connectivity, dtype)
            else:
                _prepare(connectivity, dtype, comm)
        with phase(comm, phases, "blocks"):
            worked = work_on_blocks(schedule, progress)
        exits, part = worked.exits, worked.part
        with phase(comm, phases, "exchange", together=True):
            foreign, rounds = follow_foreign(exits, boxes, comm)
        with phase(comm, phases, "forest"):
            part = BasinGraph.join([part.followed(lambda nodes: ends_of(nodes, exits, foreign))])
        check_minima(schedule, worked.minima)
        del worked
        with phase(comm, phases, "merge", together=True):
            part = merged(comm, part)
        tree = None
        with phase(comm, phases, "tree"):
            if comm.rank == 0:
                tree = _tree(part, shape, connectivity, direction)
        if labels is not None:
            write_labels(schedule, exits, foreign, tree, labels, phases)
    mine = boxes.of_rank(comm.rank)
    vertices = sum(math.prod(s.stop - s.start for s in boxes.core(b)) for b in mine)
    stats = RankStats(comm.rank, len(mine), vertices, rounds, comm.bytes_sent, phases)
    return Result(tree, comm.gather(stats), boxes, planned_bytes(boxes, dtype.itemsize, density, keep, held))


def _tree(part: BasinGraph, shape: tuple[int, ...], connectivity: Connectivity, direction: Direction) -> MergeTree:
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
