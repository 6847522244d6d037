"""The contour tree of a scalar field on a grid: how level sets appear, join, split and vanish as the level rises.

Carr, Snoeyink and Axen, *Computing contour trees in all dimensions* (2003), on the critical vertices alone: the merge
trees of sublevel and superlevel sets give them, and where each lies on an arc of the other tree follows from the
minimum that it descends to and the maximum that it ascends to, so no vertex is swept. Branches: Pascucci,
Cole-McLaughlin and Scorzelli, *Multi-resolution computation and presentation of contour trees* (2004).

The theorem that both merge trees belong to one tree holds on a triangulated ball, thus for "freudenthal". The graphs
"axis" and "full" are none: there the same algorithm gives a tree that need not have both merge trees, and which one
depends on the turn in which leaves are taken. It is fixed here: from above as long as there are any, then from below,
and so on, which is how topopy (and so Landscaper) begins.

Everything is of the one total order of vertices by (value, id), NaN last: the tree of superlevel sets is that of the
same order from its end, so that both belong together where values are equal, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import Connectivity
from landscaper_hpc.topology.kernels.branches import branch_decomposition
from landscaper_hpc.topology.kernels.carr import arcs, combine
from landscaper_hpc.topology.kernels.compiled import compiling
from landscaper_hpc.topology.kernels.forest import radix_argsort
from landscaper_hpc.topology.kernels.order import Census, census, ordered_keys
from landscaper_hpc.topology.kernels.stencil import check_connectivity
from landscaper_hpc.topology.merge import checked_values, merge_tree
from landscaper_hpc.topology.topopy import ExactTrees, LandscaperPairs, landscaper_pairs

if TYPE_CHECKING:
    import networkx

BYTES = 80
"""Per vertex, at most, that a contour tree needs, its field included."""


class Branches(NamedTuple):
    """The branch decomposition of a contour tree: one branch per leaf but two, and the main one, the most persistent
    first.

    Attributes
    ----------
    leaf, end
        (b,) flat ids of the extremum where a branch begins, and of the saddle where it ends; those of the main branch
        are the two extrema that are left at the end.
    persistence
        (b,) |f(end) - f(leaf)|, in the units of the field; infinite where either is not finite.
    parent
        (b,) the number of the branch on which it ends; -1 for the main one.
    """

    leaf: NDArray[np.int64]
    end: NDArray[np.int64]
    persistence: NDArray[np.float64]
    parent: NDArray[np.int64]


@dataclass(frozen=True)
class ContourTree:
    """The contour tree of a field: its critical vertices and the arcs between them. `contour_tree` makes it.

    Ids are flat (C order, int64), values in the units of the field. The tree is that of the order (value, id) with all
    vertices, so that ends of it may be NaN or infinite; `minima` and `maxima` leave out those that are none: +inf and
    NaN are no minimum, -inf and NaN no maximum.

    Attributes
    ----------
    shape
        Of the grid.
    connectivity
        "axis", "freudenthal" or "full".
    nodes, values
        (c,) the critical vertices in order from the lowest up, and the field there.
    edges
        (c - 1, 2) the arcs, as flat ids (lower, upper), in the order of the nodes.
    down, up
        (c,) how many components of lower vertices meet at each node, and how many of higher ones: 0 down at a minimum,
        0 up at a maximum, 2 or more at saddles. For "freudenthal" as many arcs lead down and up.
    ascending, descending
        On request: per vertex the index of the minimum that it descends to, and of the maximum that it ascends to, in
        the grid's shape; -1 for none. The vertices of one minimum are its ascending manifold, those of one maximum its
        descending manifold.
    join, split
        (c,) the merge trees of sublevel and of superlevel sets with all nodes: the number of the next node above and
        below each, by its place in `nodes`; -1 where there is none.
    value_range
        Smallest and largest finite value of the field; NaN if there is none.
    nonfinite
        How many vertices are NaN ("nan"), +inf ("posinf") and -inf ("neginf").
    source
        What the tree is of, not copied: for what Landscaper makes of it.

    References
    ----------
    Carr, Snoeyink and Axen, *Computing contour trees in all dimensions* (2003).
    """

    shape: tuple[int, ...]
    connectivity: str
    nodes: NDArray[np.int64]
    values: NDArray[np.float64]
    edges: NDArray[np.int64]
    down: NDArray[np.int32]
    up: NDArray[np.int32]
    join: NDArray[np.int32]
    split: NDArray[np.int32]
    value_range: tuple[float, float]
    nonfinite: dict[str, int]
    source: NDArray[Any] = field(repr=False)
    ascending: NDArray[Any] | None = field(default=None, repr=False)
    descending: NDArray[Any] | None = field(default=None, repr=False)

    @property
    def n_vertices(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def minima(self) -> NDArray[np.int64]:
        """Flat ids from the lowest up; the same as those of `merge_tree`."""
        ids: NDArray[np.int64] = self.nodes[(self.down == 0) & (self.values < np.inf)]
        return ids

    @property
    def maxima(self) -> NDArray[np.int64]:
        """Flat ids from the highest down."""
        ids: NDArray[np.int64] = self.nodes[(self.up == 0) & (self.values > -np.inf)][::-1]
        return ids

    @property
    def join_saddles(self) -> NDArray[np.int64]:
        """Flat ids of the nodes where two or more components of sublevel sets meet, from the lowest up; `join_index`
        has how many more than one."""
        return self.nodes[self.down > 1]

    @property
    def join_index(self) -> NDArray[np.int32]:
        """(saddles,) by how many each of the `join_saddles` lowers the number of components."""
        return self.down[self.down > 1] - 1

    @property
    def split_saddles(self) -> NDArray[np.int64]:
        """Flat ids of the nodes where two or more components of superlevel sets meet, from the lowest up; a node may
        be a saddle of both kinds."""
        return self.nodes[self.up > 1]

    @property
    def split_index(self) -> NDArray[np.int32]:
        """(saddles,) by how many each of the `split_saddles` lowers the number of components, from above."""
        return self.up[self.up > 1] - 1

    @cached_property
    def branches(self) -> Branches:
        """The branch decomposition: leaves are taken off one after the other, the least persistent first, as long as
        their saddle keeps an arc in the same direction. Computed on first use."""
        leaf, end, parent = branch_decomposition(self._numbers(self.edges), len(self.nodes), self.values)
        with np.errstate(invalid="ignore"):
            life = np.abs(self.values[end] - self.values[leaf])
        life[~np.isfinite(life)] = np.inf
        return Branches(self.nodes[leaf], self.nodes[end], life, parent)

    @cached_property
    def as_landscaper(self) -> LandscaperPairs | None:
        """What Landscaper 1.3.1 makes of the same field; None where it fails, or where values are not finite. Computed
        on first use."""
        if sum(self.nonfinite.values()):
            return None
        trees = ExactTrees(self.nodes, self.join, self.down, self.split, self.up)
        return landscaper_pairs(self.source, self.connectivity, trees)

    def pairs(self) -> NDArray[np.int64]:
        """The pairs (minimum, saddle) that Landscaper 1.3.1 makes from arcs of the contour tree: a minimum may be in
        several or in none, and the saddle may be one of maxima. For the elder rule's see `MergeTree.persistence`.

        Returns
        -------
        (p, 2) flat ids; empty where Landscaper fails on the field, see `smad_landscaper`.
        """
        made = self.as_landscaper
        return np.empty((0, 2), np.int64) if made is None else made.pairs

    def cells(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The cells of both: what descends to one minimum and ascends to one maximum.

        Returns
        -------
        pairs, labels
            (p, 2) indices of minimum and maximum (-1 for none), in their order; and per vertex the number of its cell,
            in the grid's shape.

        Raises
        ------
        InputError
            Where the tree was made without labels.
        """
        if self.ascending is None or self.descending is None:
            raise InputError("cells need labels; use contour_tree(values, labels=True)")
        wide = len(self.maxima) + 1
        code = (self.ascending.astype(np.int64) + 1) * wide + (self.descending + 1)
        found, labels = np.unique(code.reshape(-1), return_inverse=True)
        return np.stack([found // wide - 1, found % wide - 1], 1), labels.reshape(self.shape)

    def to_networkx(self) -> networkx.DiGraph:
        """The tree as a networkx graph whose edges lead upwards; nodes have `value`, `down` and `up`.

        Raises
        ------
        InputError
            Where networkx is not installed.
        """
        try:
            import networkx
        except ImportError:
            raise InputError("networkx is not installed; pip install networkx") from None
        graph: networkx.DiGraph = networkx.DiGraph()
        rows = zip(self.nodes.tolist(), self.values.tolist(), self.down.tolist(), self.up.tolist(), strict=True)
        graph.add_nodes_from((node, {"value": v, "down": d, "up": u}) for node, v, d, u in rows)
        graph.add_edges_from(self.edges.tolist())
        return graph

    def _numbers(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        """The places of nodes in `nodes`, by their ids."""
        number = np.empty(self.n_vertices, np.int32)
        number[self.nodes] = np.arange(len(self.nodes))
        return number[ids]


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
