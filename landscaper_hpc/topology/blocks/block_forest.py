"""Where the basins of one block meet: a spanning forest of its basin graph.

Every vertex of the core looks at all its lower neighbours, so that each edge of the grid is examined once, by the block
that owns its higher end.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.blocks.basins import Basins, join_ghosts, relabel
from landscaper_hpc.topology.blocks.block import Block, limits, order_at
from landscaper_hpc.topology.kernels import dense_saddles, pairs, saddles
from landscaper_hpc.topology.kernels.basins import PIECE
from landscaper_hpc.topology.kernels.forest import Candidates, LabelEdges, component_labels, spanning_forest
from landscaper_hpc.topology.kernels.rows import row_count
from landscaper_hpc.topology.kernels.threads import Threads

_MANY = 64
_LIMITS = (0.2, 0.35)


class BlockForest(NamedTuple):
    """Edges in order: `child` and `parent` (labels) meet at `saddle` (position). `ghosts`: the ghost vertices
    (positions) that appear in it, whose labels follow those of the minima."""

    child: NDArray[np.int32]
    parent: NDArray[np.int32]
    saddle: NDArray[np.int32]
    ghosts: NDArray[np.int32]


def block_forest(block: Block, basins: Basins, threads: Threads) -> BlockForest:
    """The spanning forest of a block's basin graph. Uses up `basins.root`."""
    ghosts = join_ghosts(block, basins, threads)
    n = len(basins.minima) + len(ghosts)
    few = n <= pairs.MOST_LABELS and block.connectivity == "axis" and len(block.axes) <= pairs.MOST_AXES
    child, parent, saddle = (_of_pairs if few else _of_candidates)(block, basins.root, n, threads)
    return BlockForest(child, parent, saddle, ghosts)


def _of_pairs(block: Block, root: NDArray[np.int32], n: int, threads: Threads) -> Any:
    axes, size = pairs.groups(tuple(block.box.shape.tolist()))
    groups, most = root.size // size, limits(block)[1]
    found = threads.map(
        lambda a, b: pairs.lowest_saddles(block.values, root, block.box, axes, a, b, n, most),
        groups,
        min(groups, threads.count),
    )
    vertices, labels = (np.concatenate(x) for x in zip(*found, strict=True))
    order = np.argsort(vertices, kind="stable")  # equal values are in id order
    stops = 2 * np.arange(1, len(vertices) + 1, dtype=np.int32)
    vertices = vertices[order]
    return spanning_forest(order_at(block, vertices), Candidates(vertices, stops, labels[order].reshape(-1)), n)


def _of_candidates(block: Block, root: NDArray[np.int32], n: int, threads: Threads) -> Any:
    """Where minima are many, first what is low: what then lies within one component is no candidate any more."""
    rows = row_count(block.box)
    parts = 1 if block.parts == 1 else min(rows, threads.count)
    everywhere = np.ones((root.size >> PIECE) + 1, np.uint8)
    forests: list[Any] = []
    for band in _bands(block, n):
        if forests:
            child, parent, _ = forests[-1]
            relabel(block, root, component_labels(child, parent, n), everywhere, threads)
        found = _together(threads.map(partial(_candidates, block, root, band, n), rows, parts))
        forests.append(_forest_of(block, found, n))
        del found
    return tuple(np.concatenate(x) for x in zip(*forests, strict=True))


def _bands(block: Block, n: int) -> list[NDArray[Any]]:
    """Ranges of values, ends included, that are worked on one after the other."""
    low, high = ends = limits(block)
    f = block.values
    if n < f.size // _MANY:
        return [ends]
    sample = np.sort(f[:: max(1, f.size // 4096)])
    cuts = sample[[int(q * len(sample)) for q in _LIMITS]]
    above = np.nextafter(cuts, high) if cuts.dtype.kind == "f" else np.where(cuts < high, cuts + 1, high)
    return [np.array(pair, f.dtype) for pair in zip([low, *above], [*cuts, high], strict=True)]


def _together(found: list[Candidates]) -> Candidates:
    """The candidates of all parts. Equal values are in id order: in each part, and the parts are."""
    ends = itertools.accumulate((len(c.labels) for c in found), initial=0)
    return Candidates(
        np.concatenate([c.vertices for c in found]),
        np.concatenate([c.stops + np.int32(end) for c, end in zip(found, ends, strict=False)]),
        np.concatenate([c.labels for c in found]),
    )


def _forest_of(block: Block, candidates: Candidates, n: int) -> LabelEdges:
    edges: LabelEdges = spanning_forest(order_at(block, candidates.vertices), candidates, n)
    return edges


def _candidates(block: Block, root: NDArray[np.int32], band: NDArray[Any], n: int, begin: int, end: int) -> Candidates:
    """Candidates of some rows, with the labels that they join. Where there are too many to be held at a time, only
    those that a spanning forest of the rows needs."""
    f = block.values
    found: list[Candidates] = []
    while begin < end:
        if block.connectivity == "axis" and len(block.axes) <= saddles.MOST_AXES:
            new, begin = saddles.axis_candidates(f, root, block.box, block.axes, begin, end, band)
        else:
            new, begin = dense_saddles.dense_candidates(f, root, block.box, block.stencil, begin, end, band)
        found.append(new)
        if len(found) > 1 or begin < end:
            child, parent, saddle = _forest_of(block, _together(found), n)
            order = np.argsort(saddle, kind="stable")
            stops = 2 * np.arange(1, len(order) + 1, dtype=np.int32)
            labels = np.stack([child[order], parent[order]], axis=1).reshape(-1)
            found = [Candidates(saddle[order], stops, labels)]
    return found[0]
