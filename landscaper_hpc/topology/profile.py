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

from landscaper_hpc.topology.kernels.compiled import jit
from landscaper_hpc.topology.kernels.order import ordered_keys
from landscaper_hpc.topology.tree import MergeTree

_POINTS_ACROSS = 256  # an outline gets a new point at the latest when it has grown by this fraction of the grid …
_POINTS_PER_E = 25  # … or by this fraction of itself, so that small basins and deep bottoms are as smooth


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
        Where the tree has no labels, or is of direction "superlevel".

    References
    ----------
    Geniesse et al., *Visualizing Loss Functions as Topological Landscape Profiles*, arXiv 2411.12136.
    """
    if tree.labels is None or tree.direction != "sublevel":
        raise ValueError("a profile needs merge_tree(values, labels=True) of direction 'sublevel'")
    flat = np.ascontiguousarray(values, np.float64).reshape(-1)
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
    left, depth = _place(start, size, after, tree.parent, dies)
    return Profile(start, flat[vertex[by_branch]] + 0.0, left, left + size, depth, dies)


def _step(n_vertices: int) -> int:
    return max(1, n_vertices // _POINTS_ACROSS)


@jit
def sweep_upwards(order: Any, labels: Any, parent: Any, dying: Any, death: Any, step: int) -> Any:
    """Add the vertices from the lowest up and note outline points: branch, vertex, size of the branch's component, and
    which branch it has just absorbed (-1 for none)."""
    m = parent.size
    size = np.zeros(m, np.int64)
    noted = np.zeros(m, np.int64)
    component = np.arange(m)
    last = np.zeros(m, np.int64)
    most = order.size + 4 * m
    branch = np.empty(most, np.int64)
    vertex = np.empty(most, np.int64)
    sizes = np.empty(most, np.int64)
    after = np.full(most, -1, np.int64)
    p = 0
    d = 0
    for v in order:
        while d < dying.size and death[dying[d]] == v:
            child = dying[d]
            elder = parent[child]
            d += 1
            for i in (child, elder):
                branch[p], vertex[p], sizes[p] = i, v, size[i]
                p += 1
            size[elder] += size[child]
            component[child] = elder
            branch[p], vertex[p], sizes[p], after[p] = elder, v, size[elder], child
            noted[elder] = size[elder]
            p += 1
        i = labels[v]
        while component[i] != i:
            component[i] = component[component[i]]
            i = component[i]
        size[i] += 1
        last[i] = v
        if size[i] - noted[i] >= min(step, max(1, noted[i] // _POINTS_PER_E)):
            branch[p], vertex[p], sizes[p] = i, v, size[i]
            noted[i] = size[i]
            p += 1
    for i in range(m):
        if component[i] == i and size[i] > noted[i]:  # lives to the top
            branch[p], vertex[p], sizes[p] = i, last[i], size[i]
            p += 1
    return branch[:p], vertex[:p], sizes[:p], after[:p]


@jit
def _place(start: Any, size: Any, after: Any, parent: Any, dies: Any) -> Any:
    """Left edges of all outline points, from the top down, and how deeply branches are nested.

    An outline narrows about its middle; where it splits, the absorbed branch goes to the side that keeps the
    elder's bottom nearer the middle.
    """
    m = parent.size
    left = np.zeros(size.size)
    depth = np.zeros(m, np.int64)
    top = np.zeros(m)  # left edge at the top of each branch
    x = 0.0
    for i in range(m):
        if not dies[i]:  # essential: side by side
            top[i] = x
            x += size[start[i + 1] - 1]
    for i in range(m):  # parents come first
        edge = top[i]
        width = size[start[i + 1] - 1]
        middle = edge + width / 2
        for p in range(start[i + 1] - 1, start[i] - 1, -1):
            edge += (width - size[p]) / 2
            width = size[p]
            left[p] = edge
            child = after[p]
            if child >= 0:
                own = size[p - 1]
                depth[child] = depth[i] + 1
                if edge + width / 2 <= middle:  # we have drifted left: the child takes the left side
                    top[child] = edge
                    edge += width - own
                else:
                    top[child] = edge + own
                width = own
    return left, depth
