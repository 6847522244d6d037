"""The topological landscape profile: how many grid points each basin holds at each height, as nested outlines.

Geniesse et al., *Visualizing Loss Functions as Topological Landscape Profiles*, arXiv 2411.12136, after Oesterling et
al. (2013). A vertex v belongs, at every level at or above f(v), to the component that holds the minimum it descends to:
the whole descent lies below f(v). So the merge tree and its labels give every component's size, without the grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.tree import MergeTree

_POINTS_ACROSS = 256  # an outline gets a new point at the latest when it has grown by this fraction of the grid


@dataclass(frozen=True)
class Profile:
    """Outlines of all branches of a merge tree, one after the other, each from its minimum upwards.

    start       (m + 1,) the outline of branch i (the i-th minimum of the tree) is start[i]:start[i + 1]
    height      (p,) the value of the vertex that brings the branch's component to this size
    left, right (p,) where it is drawn; right - left is the component's size, an exact number of vertices. Where a
                branch dies, the one that absorbs it has a point just before that vertex and one just after
    depth       (m,) how many branches it is nested in: 0 for an essential one
    dies        (m,) whether the branch ends where another absorbs it; else it ends at the largest value below +inf

    Outlines nest: where a branch dies, it and the branch that absorbs it lie side by side within the joint outline.
    """

    start: NDArray[np.int64]
    height: NDArray[np.float64]
    left: NDArray[np.float64]
    right: NDArray[np.float64]
    depth: NDArray[np.int64]
    dies: NDArray[np.bool_]

    @property
    def n_branches(self) -> int:
        return len(self.depth)

    @property
    def size(self) -> NDArray[np.float64]:
        """Number of vertices in the component, (p,)."""
        return self.right - self.left

    def branch(self, i: int) -> slice:
        return slice(int(self.start[i]), int(self.start[i + 1]))


def landscape_profile(values: NDArray[Any], tree: MergeTree) -> Profile:
    """The topological landscape profile of a field by a merge tree of it, simplified or not.

    Of a simplified tree, a cancelled basin counts from its bottom up with the branch that it went to. One sort of the
    vertices, then one pass; needs six times the memory of the values.

    Parameters
    ----------
    values
        The field, of the tree's shape.
    tree
        With `labels`, of direction "sublevel".

    Returns
    -------
    Profile
        Vertices that are +inf or NaN are in no outline; a height of -inf stays -inf.

    Raises
    ------
    ValueError
        Where the tree has no labels, is of direction "superlevel", or of another number of values.

    References
    ----------
    Geniesse et al., *Visualizing Loss Functions as Topological Landscape Profiles*, arXiv 2411.12136.
    """
    from landscaper_hpc.topology.kernels.order import ordered_keys  # a page, which shows profiles, needs no compiler
    from landscaper_hpc.topology.kernels.outlines import place, sweep_upwards

    if tree.labels is None or tree.direction != "sublevel":
        raise ValueError("a profile needs merge_tree(values, labels=True) of direction 'sublevel'")
    flat = np.ascontiguousarray(values, np.float64).reshape(-1)
    if len(flat) != tree.n_vertices:
        raise ValueError(f"the field has {len(flat)} values, the merge tree {tree.n_vertices}; give those of one grid")
    labels = np.ascontiguousarray(tree.labels).reshape(-1)
    order = np.argsort(ordered_keys(flat), kind="stable")
    order = order[: np.count_nonzero(flat < np.inf)]
    rank = np.full(len(flat), len(flat), np.int64)
    rank[order] = np.arange(len(order))

    dies = (tree.death >= 0) & (rank[tree.death] < len(order))
    dying = np.flatnonzero(dies)
    dying = dying[np.argsort(rank[tree.death[dying]], kind="stable")]
    branch, vertex, size, after = sweep_upwards(order, labels, tree.parent, dying, tree.death, _step(len(flat)))

    by_branch = np.argsort(branch, kind="stable")
    branch, size, after = branch[by_branch], size[by_branch], after[by_branch]
    start = np.searchsorted(branch, np.arange(tree.n_minima + 1))
    left, depth = place(start, size, after, tree.parent, dies)
    return Profile(start, flat[vertex[by_branch]] + 0.0, left, left + size, depth, dies)


def _step(n_vertices: int) -> int:
    return max(1, n_vertices // _POINTS_ACROSS)
