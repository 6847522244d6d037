"""The contour tree as a value: its nodes, arcs, branches, and the cells of its minima and maxima.

Branches: Pascucci, Cole-McLaughlin and Scorzelli, *Multi-resolution computation and presentation of contour trees*
(2004).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc import notebook
from landscaper_hpc.errors import InputError
from landscaper_hpc.topology.heights import apart, unit_of

if TYPE_CHECKING:
    import networkx

    from landscaper_hpc.topology.topopy import LandscaperPairs


class Branches(NamedTuple):
    """The branch decomposition of a contour tree: one branch per leaf but two, and the main one, the most persistent
    first.

    Attributes
    ----------
    leaf, end
        (b,) flat ids of the extremum where a branch begins, and of the saddle where it ends; those of the main branch
        are the two extrema that are left at the end.
    persistence
        (b,) |f(end) - f(leaf)|, in the units of the field; infinite where either is not finite; one that is larger than
        numbers go counts as the largest.
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
        """Of the whole grid."""
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
        from landscaper_hpc.topology.kernels.branches import branch_decomposition  # numba, as all kernels

        unit = unit_of(self.value_range)  # in which all differences are numbers
        leaf, end, parent = branch_decomposition(self._numbers(self.edges), len(self.nodes), self.values / unit)
        life = apart(self.values[leaf], self.values[end])
        return Branches(self.nodes[leaf], self.nodes[end], life, parent)

    @cached_property
    def as_landscaper(self) -> LandscaperPairs | None:
        """What Landscaper 1.3.1 makes of the same field; None where it fails, or where values are not finite. Computed
        on first use."""
        from landscaper_hpc.topology.topopy import ExactTrees, landscaper_pairs

        if sum(self.nonfinite.values()):
            return None
        trees = ExactTrees(self.nodes, self.join, self.down, self.split, self.up)
        return landscaper_pairs(self.source, self.connectivity, trees)

    def _repr_html_(self) -> str:
        """For notebooks."""
        rows: list[tuple[str, object]] = [
            ("grid", " × ".join(f"{k:,}" for k in self.shape)),
            ("connectivity", self.connectivity),
            ("minima", len(self.minima)),
            ("maxima", len(self.maxima)),
            ("saddles", int(np.count_nonzero((self.down > 1) | (self.up > 1)))),
            ("range of values", " to ".join(map(notebook.number, self.value_range))),
        ]
        rows += [(f"values that are {name}", count) for name, count in self.nonfinite.items() if count]
        ends = [self.values[self._numbers(ids)] for ids in (self.branches.leaf, self.branches.end)]
        return notebook.card("contour tree", rows, notebook.bars(np.minimum(*ends), np.maximum(*ends)))

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
        """The tree as a networkx graph whose edges lead upwards.

        Returns
        -------
        networkx.DiGraph
            Nodes are flat ids and have `value`, `down` and `up`.

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
