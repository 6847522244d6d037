"""What Landscaper 1.3.1 makes of a field: the pairs that its SMAD is a mean over.

It pairs a minimum with the other end of an arc of the contour tree, where that end has several arcs. Its contour tree
is that of topopy 1.0.4: in single precision, with vertices that are joined to strictly lower neighbours only, taken
apart from above once and then from below once, so that arcs may be missing. What follows from that is part of the
number, and computed here in the same way: source of Landscaper 1.3.1, landscape.py and tda.py; topopy 1.0.4,
ContourTree.py, MergeTree.cpp, MorseComplex.cpp.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.grid import Connectivity
from landscaper_hpc.topology.kernels.carr import strip
from landscaper_hpc.topology.kernels.forest import radix_argsort
from landscaper_hpc.topology.kernels.order import ordered_keys
from landscaper_hpc.topology.kernels.stencil import block_stencil
from landscaper_hpc.topology.kernels.strict import steepest, strict_arcs, strict_tree
from landscaper_hpc.topology.kernels.threads import Threads


class ExactTrees(NamedTuple):
    """The merge trees of sublevel and superlevel sets in the order (value, id), as in `contour.ContourTree`."""

    nodes: NDArray[np.int64]
    join: NDArray[np.int32]
    down: NDArray[np.int32]
    split: NDArray[np.int32]
    up: NDArray[np.int32]


class LandscaperPairs(NamedTuple):
    """What Landscaper's SMAD is a mean over.

    edges       (e, 2) the arcs of its contour tree, lower end first
    pairs       (p, 2) minima and the saddles that it pairs them with; a minimum may be in several
    sizes       (p,) how many vertices descend to each of these minima
    branches    how many nodes have several arcs
    """

    edges: NDArray[np.int64]
    pairs: NDArray[np.int64]
    sizes: NDArray[np.int64]
    branches: int


def landscaper_pairs(field: NDArray[Any], connectivity: Connectivity, trees: ExactTrees) -> LandscaperPairs | None:
    """The saddle-minimum pairs that Landscaper 1.3.1 makes of a finite field; None where it fails.

    The coordinates are np.linspace(-1, 1, k) along each axis, as Landscaper makes them but for a factor.
    """
    compile_kernels()
    return _pairs(field, connectivity, trees)


@lru_cache(maxsize=1)
def compile_kernels() -> None:
    """Compile or load what pairs need."""
    none = np.zeros(2, np.int32)
    _pairs(np.array([3.0, 0.0, 1.0, 2.0, 0.0]), "axis", ExactTrees(none.astype(np.int64), none, none, none, none))


def _pairs(field: NDArray[Any], connectivity: Connectivity, trees: ExactTrees) -> LandscaperPairs | None:
    exact = field.reshape(-1)
    with np.errstate(over="ignore"):
        y = exact.astype(np.float32, copy=False)
    if not np.isfinite(y).all():
        return None
    shape = field.shape
    stencil = block_stencil(connectivity, shape)
    where = (np.array(shape, np.int64), stencil.steps, stencil.dist)
    if all_distinct(trees.nodes, y.reshape(shape), stencil.steps):
        below, above = _as_they_are(trees.join, trees.down), _as_they_are(trees.split, trees.up)
        if trees.down[-1] != 1 or trees.up[0] != 1:  # topopy cannot work with a root that is a saddle, too
            return None
        ids = trees.nodes
    else:
        with Threads(2) as pool:
            swept = pool.map(lambda i, _: _sweep(-y if i else y, where), 2, 2)
        if not all(sweep.sound for sweep in swept):
            return None
        ids = np.flatnonzero(swept[0].node | swept[1].node)
        below, above = (_on_arcs(sweep, ids) for sweep in swept)
    arcs = np.empty((2 * len(ids), 2), np.int32)
    used = strip(*above, *below, arcs, 0)
    if used >= 0:
        used = strip(*below, *above, arcs, used)
    if used < 0:
        return None
    edges = ids[arcs[:used]]
    swap = ~(exact[edges[:, 0]] < exact[edges[:, 1]])
    edges[swap] = edges[swap][:, ::-1]
    x = np.zeros((len(shape), max(shape)), np.float32)
    for axis, length in enumerate(shape):
        x[axis, :length] = np.linspace(-1, 1, length)
    root = steepest(y, x, *where)
    minimum = root[edges] == edges
    times = np.bincount(edges.reshape(-1), minlength=len(y))
    several = times[edges] > 1
    paired = (several[:, 0] & minimum[:, 1]) | (several[:, 1] & minimum[:, 0])
    chosen = edges[paired]
    pairs = np.where(minimum[paired, :1], chosen, chosen[:, ::-1])
    sizes = np.bincount(root, minlength=len(y))[pairs[:, 0]]
    return LandscaperPairs(edges, pairs, sizes, int(np.count_nonzero(times > 1)))


def all_distinct(nodes: NDArray[np.int64], y: NDArray[np.float32], steps: NDArray[np.int64]) -> bool:
    """Whether in single precision no neighbours are equal and every node's value is its own: then the order of equal
    values changes nothing, and topopy's merge trees are the exact ones."""
    own = y.reshape(-1)[nodes]
    if not (np.diff(own) > 0).all() or np.count_nonzero(own[np.searchsorted(own[:-1], y)] == y) > len(own):
        return False
    for step in steps[len(steps) // 2 :]:  # the others are their opposites
        here = tuple(slice(max(0, -s), min(k, k - s)) for s, k in zip(step, y.shape, strict=True))
        there = tuple(slice(max(0, s), min(k, k + s)) for s, k in zip(step, y.shape, strict=True))
        if (y[here] == y[there]).any():
            return False
    return True


_Arcs = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]
"""Of a merge tree: pointers between its nodes, how many lead to each, and which nodes are in it."""


def _as_they_are(next_: NDArray[np.int32], count: NDArray[np.int32]) -> _Arcs:
    return next_.copy(), count.copy(), np.ones(len(count), np.bool_)


class _Sweep(NamedTuple):
    """What `strict_tree` finds, in the order of its sweep."""

    order: NDArray[np.int32]
    end: NDArray[np.int32]
    owner: NDArray[np.int32]
    node: NDArray[np.bool_]
    sound: bool


def _sweep(y: NDArray[np.float32], where: tuple[Any, ...]) -> _Sweep:
    order = radix_argsort(ordered_keys(y).astype(np.int64))
    end, owner = np.full((2, len(y)), -1, np.int32)
    node = np.zeros(len(y), np.bool_)
    return _Sweep(order, end, owner, node, strict_tree(y, order, *where, end, owner, node))


def _on_arcs(sweep: _Sweep, ids: NDArray[np.int64]) -> _Arcs:
    """A merge tree with the critical vertices of both, `ids`, on its arcs."""
    number = np.full(len(sweep.node), -1, np.int32)
    number[ids] = np.arange(len(ids))
    next_, inside = np.full(len(ids), -1, np.int32), np.zeros(len(ids), np.bool_)
    count = strict_arcs(sweep.order, sweep.end, sweep.owner, sweep.node, number, next_, inside)
    return next_, count, inside
