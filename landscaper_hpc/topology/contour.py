"""The contour tree of a scalar field on a grid: how level sets appear, join, split and vanish as the level rises.

Carr, Snoeyink and Axen, *Computing contour trees in all dimensions* (2003), on the critical vertices alone: the merge
trees of sublevel and superlevel sets give them, and where each lies on an arc of the other tree follows from the
minimum that it descends to and the maximum that it ascends to, so no vertex is swept.

The theorem that both merge trees belong to one tree holds on a triangulated ball, thus for "freudenthal". The graphs
"axis" and "full" are none: there the same algorithm gives a tree that need not have both merge trees, and which one
depends on the turn in which leaves are taken. It is fixed here: from above as long as there are any, then from below,
and so on, which is how topopy (and so Landscaper) begins.

Everything is of the one total order of vertices by (value, id), NaN last: the tree of superlevel sets is that of the
same order from its end, so that both belong together where values are equal, too.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscaper_hpc.grid import Connectivity
from landscaper_hpc.topology.contour_result import ContourTree
from landscaper_hpc.topology.kernels.carr import arcs, combine
from landscaper_hpc.topology.kernels.compiled import compiling
from landscaper_hpc.topology.kernels.forest import radix_argsort
from landscaper_hpc.topology.kernels.order import Census, census, ordered_keys
from landscaper_hpc.topology.kernels.stencil import check_connectivity
from landscaper_hpc.topology.merge import checked_values, merge_tree

BYTES = 80
"""Per vertex, at most, that a contour tree needs, its field included."""


def contour_tree(
    values: ArrayLike, connectivity: Connectivity = "axis", labels: bool = False, *, threads: int | None = None
) -> ContourTree:
    """The exact contour tree of a field on a grid of any dimension, the same bit for bit for any number of threads.

    Parameters
    ----------
    values
        The field, of any shape, in any unit; float32 and float64 as they are, other real types as float64. Values are
        never repaired: -inf comes first in the order of the vertices, +inf and then NaN last.
    connectivity
        Which vertices are neighbours: "axis" (2n), "freudenthal" (2 (2^n - 1)) or "full" (3^n - 1), see `grid.stencil`.
    labels
        Also give every vertex the index of its minimum and of its maximum.
    threads
        How many to use; by default as many as the process may run on.

    Returns
    -------
    ContourTree
        Flat arrays, one entry per node.

    Raises
    ------
    InputError
        For anything that is no real field of at least one vertex, and for unknown names.

    References
    ----------
    Carr, Snoeyink and Axen, *Computing contour trees in all dimensions* (2003).

    Examples
    --------
    >>> tree = contour_tree([3.0, 1.0, 2.0, 0.0, 4.0])
    >>> tree.edges.tolist(), tree.minima.tolist(), tree.maxima.tolist()
    ([[1, 2], [3, 2], [2, 0], [2, 4]], [3, 1], [4, 0])
    """
    array = checked_values(values)
    if array.ndim == 0:
        array = array.reshape(1)
    check_connectivity(connectivity, array.shape)
    seen = census(array.reshape(-1))
    finite = _as_finite(array, seen)
    _prepare()
    halves = _halves(finite, connectivity, threads)
    return _combined(array, finite, seen, connectivity, halves, labels)


class _Half(NamedTuple):
    """What is needed of a merge tree, with all deaths and labels of all vertices."""

    minima: NDArray[np.int64]
    death: NDArray[np.int64]
    parent: NDArray[np.int64]
    labels: NDArray[Any]


def _half(field: NDArray[Any], connectivity: Connectivity, threads: int | None) -> _Half:
    tree = merge_tree(field, connectivity, labels=True, threads=threads)
    assert tree.labels is not None
    return _Half(tree.minima, tree.death, tree.parent, tree.labels.reshape(-1))


def _halves(field: NDArray[Any], connectivity: Connectivity, threads: int | None) -> list[_Half]:
    """Those of the order, and of the same order from its end, whose ids count backwards."""
    below = _half(field, connectivity, threads)
    backwards = np.negative(field).reshape(-1)[::-1].reshape(field.shape)
    return [below, _half(backwards, connectivity, threads)]


@lru_cache(maxsize=1)
def _prepare() -> None:
    """Compile or load what a tree needs, while no other process of this host does."""
    field = np.array([[0.0, 3.0], [2.0, 1.0]])
    halves = _halves(field, "axis", 1)
    with compiling():
        _ = _combined(field, field, census(field.reshape(-1)), "axis", halves, False).branches


def _combined(
    array: NDArray[Any],
    finite: NDArray[Any],
    seen: Census,
    connectivity: Connectivity,
    halves: list[_Half],
    labels: bool,
) -> ContourTree:
    below, above = halves
    halves.clear()  # nobody else holds them: where critical vertices are many, memory is what counts
    last = array.size - 1
    critical = np.zeros(array.size, np.bool_)
    for ids in (below.minima, below.death[below.death >= 0]):
        critical[ids] = True
    for ids in (above.minima, above.death[above.death >= 0]):
        critical[last - ids] = True
    nodes = np.flatnonzero(critical)
    del critical
    nodes = nodes[radix_argsort(ordered_keys(finite.reshape(-1)[nodes]).astype(np.int64))]
    number = np.empty(array.size, np.int32)  # a tree of more nodes would not fit into memory
    number[nodes] = np.arange(len(nodes))
    join, down = _arcs(below, nodes, number)
    number[nodes] = np.arange(len(nodes))[::-1]
    split, up = _arcs(above, last - nodes[::-1], number[::-1])
    split, up = np.where(split < 0, -1, len(nodes) - 1 - split)[::-1].copy(), up[::-1].copy()
    del number
    found = array.reshape(-1)[nodes].astype(np.float64) + 0.0
    ascending = descending = None
    if labels:
        ascending = _renumbered(below.labels, found[down == 0] < np.inf).reshape(array.shape)
        descending = _renumbered(above.labels[::-1], found[up == 0][::-1] > -np.inf).reshape(array.shape)
    del below, above
    edges = combine(join.copy(), down.copy(), split.copy(), up.copy())
    edges.sort(axis=1)
    code = edges[:, 0] * np.int64(len(nodes)) + edges[:, 1]
    del edges
    code.sort()
    return ContourTree(
        shape=array.shape,
        connectivity=connectivity,
        nodes=nodes,
        values=found,
        edges=nodes[np.stack(np.divmod(code, len(nodes)), 1)],
        down=down,
        up=up,
        join=join,
        split=split,
        value_range=(seen.low, seen.high) if seen.low <= seen.high else (np.nan, np.nan),
        nonfinite={"nan": seen.nan, "posinf": seen.posinf, "neginf": seen.neginf},
        source=array,
        ascending=ascending,
        descending=descending,
    )


def _as_finite(array: NDArray[Any], seen: Census) -> NDArray[Any]:
    """The field, or where it is not finite its ranks, equal ones for equal values: the same order."""
    if not seen.nan + seen.posinf + seen.neginf:
        return array
    _, rank = np.unique(ordered_keys(array).reshape(-1), return_inverse=True)
    return rank.reshape(array.shape).astype(np.float32 if len(rank) <= 2**24 else np.float64)


def _arcs(
    half: _Half, nodes: NDArray[np.int64], number: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pointers from each node to the next one of a merge tree, and how many lead to each; nodes in the tree's order,
    `number` by their ids."""
    dying = np.flatnonzero(half.death >= 0)
    at = number[half.death[dying]].astype(np.int64)
    order = radix_argsort(at)
    dying, at = dying[order], at[order]
    next_, count = np.full(len(nodes), -1, np.int32), np.zeros(len(nodes), np.int32)
    arcs(half.labels[nodes], dying, half.parent[dying], at, len(half.minima), next_, count)
    return next_, count


def _renumbered(labels: NDArray[Any], proper: NDArray[np.bool_]) -> NDArray[Any]:
    """Labels by the number of the leaf among those that are proper; -1 for the others."""
    if proper.all():
        return labels
    table = np.where(proper, np.cumsum(proper) - 1, -1).astype(labels.dtype)
    renumbered: NDArray[Any] = table[labels]
    return renumbered
