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

from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import Connectivity
from landscaper_hpc.topology.blocks.boxes import MAX_BLOCK
from landscaper_hpc.topology.contour_result import ContourTree
from landscaper_hpc.topology.kernels.carr import arcs, combine
from landscaper_hpc.topology.kernels.forest import radix_argsort
from landscaper_hpc.topology.kernels.order import Census, census, ordered_keys
from landscaper_hpc.topology.kernels.stencil import check_connectivity
from landscaper_hpc.topology.merge import checked_values, merge_tree, spanned
from landscaper_hpc.topology.tree import MergeTree

BYTES = 80
"""Per vertex, at most, that a contour tree needs, its field included."""


def contour_tree(
    values: ArrayLike,
    connectivity: Connectivity = "axis",
    labels: bool = False,
    *,
    threads: int | None = None,
    tree: MergeTree | None = None,
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
    tree
        The merge tree of the same values and connectivity with labels, where it is known: it is not computed again.
        That it is theirs is seen from its shape, its range, and its values at minima and saddles.

    Returns
    -------
    ContourTree
        Flat arrays, one entry per node.

    Raises
    ------
    InputError
        For anything that is no real field of at least one vertex, for unknown names, and for the tree of other values.

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
    compile_kernels()
    if tree is not None:
        _refuse_others(tree, array, seen, connectivity)
        if tree.labels is None or tree.direction != "sublevel" or _nonfinite(seen):
            tree = None  # of what is not finite it leaves out minima
    return _combined(array, seen, connectivity, _halves(array, seen, connectivity, threads, tree), labels)


def _refuse_others(tree: MergeTree, array: NDArray[Any], seen: Census, connectivity: str) -> None:
    """`InputError` for the tree of other values, as far as can be seen without making it."""
    if not isinstance(tree, MergeTree):
        raise InputError(f"tree is a {type(tree).__name__}; give the merge tree of these values, or leave it out")
    if tree.shape != array.shape or tree.connectivity != connectivity:
        raise InputError(
            f"the merge tree has the shape {tree.shape} and the connectivity {tree.connectivity}, the values have "
            f"{array.shape} and {connectivity}; give the tree of these values"
        )
    if tree.simplified > 0:
        raise InputError(
            f"the merge tree is simplified, without pairs below {float(tree.simplified)!r}, and a contour tree is of "
            "all; give the whole one, and leave short branches of the contour tree out"
        )
    flat, dies = array.reshape(-1), tree.death >= 0
    for what, ids, its in (
        ("minimum", tree.minima, tree.values),
        ("saddle", tree.death[dies], tree.death_value[dies]),
    ):
        other = np.flatnonzero((flat[ids] != its) & ~(np.isnan(flat[ids]) & np.isnan(its)))
        if len(other):
            raise InputError(
                f"the merge tree is of other values: at its {what} {ids[other[0]]} it has {float(its[other[0]])!r}, "
                f"and they have {float(flat[ids[other[0]]])!r}; give the tree of these values"
            )
    if seen.low <= seen.high and (seen.low, seen.high) != tree.value_range:
        raise InputError(
            f"the merge tree is of other values, from {tree.value_range[0]!r} to {tree.value_range[1]!r}, and these go "
            f"from {seen.low!r} to {seen.high!r}; give the tree of these values"
        )


class _Half(NamedTuple):
    """What is needed of a merge tree: its minima, a forest that spans them, whose `child` and `parent` meet at the
    vertex `saddle`, and the labels of all vertices."""

    minima: NDArray[Any]
    child: NDArray[Any]
    parent: NDArray[Any]
    saddle: NDArray[Any]
    labels: NDArray[Any]

    @classmethod
    def of_tree(cls, tree: MergeTree) -> _Half:
        """Of a merge tree with labels, whose minima are all that there are: of a finite field."""
        assert tree.labels is not None
        dies = np.flatnonzero(tree.parent >= 0)
        return cls(tree.minima, dies, tree.parent[dies], tree.death[dies], tree.labels.reshape(-1))


def half_of(field: NDArray[Any], connectivity: Connectivity, threads: int | None) -> _Half:
    if field.size > MAX_BLOCK:
        return _Half.of_tree(merge_tree(field, connectivity, labels=True, threads=threads))
    _, minima, _, forest, labels = spanned(field, connectivity, True, threads)
    assert labels is not None
    return _Half(minima, forest.child, forest.parent, forest.saddle, labels.reshape(-1))


def _backwards(field: NDArray[Any]) -> NDArray[Any]:
    """The field whose order is the same from its end: ids count backwards."""
    found = np.empty(field.size, field.dtype)
    np.negative(field.reshape(-1)[::-1], out=found)
    return found.reshape(field.shape)


def _halves(
    array: NDArray[Any], seen: Census, connectivity: Connectivity, threads: int | None, tree: MergeTree | None
) -> list[_Half]:
    """Those of the order, and of the same order from its end."""
    field = _as_finite(array, seen)
    below = half_of(field, connectivity, threads) if tree is None else _Half.of_tree(tree)
    field = _backwards(field)
    return [below, half_of(field, connectivity, threads)]


@lru_cache(maxsize=1)
def compile_kernels() -> None:
    """Compile or load what a tree needs, what is needed last first (see `compiling`)."""
    field = np.array([[0.0, 3.0], [2.0, 1.0]])
    seen = census(field.reshape(-1))
    below, above = (
        _Half(*(np.array(ids, np.int32) for ids in half))
        for half in (([0, 3], [1], [0], [2], [0, 0, 0, 1]), ([2, 1], [1], [0], [0], [0, 1, 0, 0]))
    )
    _ = _combined(field, seen, "axis", [below, above], False).branches
    _halves(field, seen, "axis", 1, None)


def _combined(
    array: NDArray[Any],
    seen: Census,
    connectivity: Connectivity,
    halves: list[_Half],
    labels: bool,
) -> ContourTree:
    below, above = halves
    halves.clear()  # nobody else holds them: where critical vertices are many, memory is what counts
    last = array.size - 1
    critical = np.zeros(array.size, np.bool_)
    for ids in (below.minima, below.saddle):
        critical[ids] = True
    for ids in (above.minima, above.saddle):
        critical[last - ids] = True
    nodes = np.flatnonzero(critical)
    del critical
    nodes = nodes[radix_argsort(ordered_keys(array.reshape(-1)[nodes]).astype(np.int64))]
    number = np.empty(array.size, np.int32)  # a tree of more nodes would not fit into memory
    number[nodes] = np.arange(len(nodes))
    join, down = _arcs(below, nodes, number)
    ascending = descending = None
    flat = array.reshape(-1)
    if labels:
        ascending = _renumbered(below.labels, flat[nodes[down == 0]] < np.inf).reshape(array.shape)
    del below
    number[nodes] = np.arange(len(nodes))[::-1]
    split, up = _arcs(above, last - nodes[::-1], number[::-1])
    del number
    split, up = np.where(split < 0, -1, len(nodes) - 1 - split)[::-1].copy(), up[::-1].copy()
    if labels:
        descending = _renumbered(above.labels[::-1], flat[nodes[up == 0]][::-1] > -np.inf).reshape(array.shape)
    del above
    taken = combine(join.copy(), down.copy(), split.copy(), up.copy())
    taken.sort(axis=1)
    code = taken[:, 0] * np.int64(len(nodes))
    code += taken[:, 1]
    del taken
    code.sort()
    edges = np.empty((len(code), 2), np.int64)
    edges[:, 0] = nodes[code // len(nodes)]
    code %= len(nodes)
    edges[:, 1] = nodes[code]
    del code
    return ContourTree(
        shape=array.shape,
        connectivity=connectivity,
        nodes=nodes,
        values=flat[nodes].astype(np.float64) + 0.0,
        edges=edges,
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
    """The field, or where it is not finite one with the same order: -inf becomes a value below all, +inf one above all
    and NaN one above that; where there are no such numbers, all become their ranks."""
    if not _nonfinite(seen):
        return array
    ends = _beyond(seen, array.dtype)
    if np.isfinite(ends).all():
        found: NDArray[Any] = np.nan_to_num(array, nan=ends[2], posinf=ends[1], neginf=ends[0])
        return found
    _, rank = np.unique(ordered_keys(array).reshape(-1), return_inverse=True)
    return rank.reshape(array.shape).astype(np.float32 if len(rank) <= 2**24 else np.float64)


def _nonfinite(seen: Census) -> int:
    return seen.nan + seen.posinf + seen.neginf


def _beyond(seen: Census, kind: Any) -> list[float]:
    """A number below all finite values, one above them, and one above that; infinite where the type has none."""
    low, high = (seen.low, seen.high) if seen.low <= seen.high else (0.0, 0.0)
    higher = high + max(1.0, abs(high))
    with np.errstate(over="ignore"):
        return [float(np.dtype(kind).type(x)) for x in (low - max(1.0, abs(low)), higher, 2 * max(1.0, higher))]


def _arcs(
    half: _Half, nodes: NDArray[np.int64], number: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pointers from each node to the next one of a merge tree, and how many lead to each; nodes in the tree's order,
    `number` by their ids."""
    at = number[half.saddle]
    order = radix_argsort(at.astype(np.int64))
    # one type for all: a tree that is known may be of ranks, with others
    leaf, child, parent, at = (
        x.astype(np.int32) for x in (half.labels[nodes], half.child[order], half.parent[order], at[order])
    )
    next_, count = np.full(len(nodes), -1, np.int32), np.zeros(len(nodes), np.int32)
    arcs(leaf, child, parent, at, len(half.minima), next_, count)
    return next_, count


def _renumbered(labels: NDArray[Any], proper: NDArray[np.bool_]) -> NDArray[Any]:
    """Labels by the number of the leaf among those that are proper; -1 for the others."""
    if proper.all():
        return labels
    table = np.where(proper, np.cumsum(proper) - 1, -1).astype(labels.dtype)
    renumbered: NDArray[Any] = table[labels]
    return renumbered
