"""Merge trees on graphs: scattered samples joined by a mutual nearest-neighbour graph, or any graph in CSR form.

The mutual k-nearest-neighbour graph with k = 4n: Geniesse et al., *Visualizing Loss Functions as Topological Landscape
Profiles*, arXiv 2411.12136. It is the road above five dimensions, where grids grow too large.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology.build import Edges, build_tree
from landscaper_hpc.topology.kernels.compiled import jit
from landscaper_hpc.topology.kernels.forest import Candidates, radix_argsort, spanning_forest
from landscaper_hpc.topology.kernels.order import census, ordered_keys
from landscaper_hpc.topology.readers import array_of, in_working_type
from landscaper_hpc.topology.tree import Direction, MergeTree, check_direction


@jit
def _basins(keys: Any, indptr: Any, indices: Any, root: Any) -> Any:
    """Steepest descent with path compression; `root` becomes each vertex's minimum. Returns the minima."""
    n = keys.size
    for u in range(n):
        best = u
        for e in range(indptr[u], indptr[u + 1]):
            v = indices[e]
            if keys[v] < keys[best] or (keys[v] == keys[best] and v < best):
                best = v
        root[u] = best
    for u in range(n):
        end = root[u]
        while root[end] != end:
            end = root[end]
        v = u
        while root[v] != end:
            below = root[v]
            root[v] = end
            v = below
    return np.flatnonzero(root == np.arange(n))


@jit
def _candidates(keys: Any, indptr: Any, indices: Any, label: Any) -> Any:
    """As `saddles.axis_candidates`: vertices with lower neighbours in other basins, and the labels they join."""
    n = keys.size
    vertices = np.empty(n, np.int64)
    stops = np.empty(n, np.int64)
    labels = np.empty(n + indices.size, np.int64)
    found = 0
    used = 0
    for u in range(n):
        start = used
        labels[used] = label[u]
        used += 1
        for e in range(indptr[u], indptr[u + 1]):
            v = indices[e]
            if label[v] != label[u] and (keys[v] < keys[u] or (keys[v] == keys[u] and v < u)):
                labels[used] = label[v]
                used += 1
        if used == start + 1:
            used = start
        else:
            vertices[found] = u
            stops[found] = used
            found += 1
    return vertices[:found], stops[:found], labels[:used]


def merge_tree_graph(
    values: ArrayLike,
    indptr: ArrayLike,
    indices: ArrayLike,
    direction: Direction = "sublevel",
    labels: bool = False,
    *,
    connectivity: str = "graph",
) -> MergeTree:
    """The merge tree of a field on the vertices of an undirected graph.

    The order of vertices, and all that is said in `MergeTree`, is as on a grid. A graph that is not connected has one
    essential minimum per component.

    Parameters
    ----------
    values
        (n,) the field, in any unit.
    indptr, indices
        (n + 1,) and (edges,): the neighbours of u are indices[indptr[u] : indptr[u + 1]], in any order; the graph must
        hold every edge in both directions.
    direction
        "sublevel" for minima, "superlevel" for maxima.
    labels
        Also give every vertex the index of its minimum.
    connectivity
        What the tree records as the origin of its edges.

    Returns
    -------
    MergeTree
        With the shape (n,).

    Raises
    ------
    InputError
        If the graph is none, or the field is no real one.

    References
    ----------
    Carr, Snoeyink and Axen, *Computing contour trees in all dimensions* (2003): merge (join) trees of graphs.
    """
    check_direction(direction)
    array = in_working_type(array_of(values).reshape(-1))
    pointers, neighbours = _checked_graph(len(array), indptr, indices)
    if direction == "superlevel":
        array = -array
    keys = ordered_keys(array)
    n = len(array)
    root = np.empty(n, np.int64)
    minima = _basins(keys, pointers, neighbours, root)
    minima = minima[radix_argsort(keys[minima].astype(np.int64))]
    number = np.empty(n, np.int64)
    number[minima] = np.arange(len(minima))
    label = number[root]
    vertices, stops, joined = _candidates(keys, pointers, neighbours, label)
    at_vertices = keys[vertices].astype(np.int64)
    child, parent, saddle = spanning_forest(at_vertices, Candidates(vertices, stops, joined), len(minima))
    exact = array.astype(np.float64) + 0.0
    return build_tree(
        minima,
        exact[minima],
        np.bincount(label, minlength=len(minima)),
        Edges(child, parent, saddle, exact[saddle]),
        census(array),
        shape=(n,),
        connectivity=connectivity,
        direction=direction,
        n_vertices=n,
        labels=label if labels else None,
    )


def merge_tree_points(
    points: ArrayLike,
    values: ArrayLike,
    k: int | None = None,
    direction: Direction = "sublevel",
    labels: bool = False,
) -> MergeTree:
    """The merge tree of scattered samples on their mutual k-nearest-neighbour graph.

    Parameters
    ----------
    points
        (m, n) finite coordinates, scaled so that distances along all axes can be compared.
    values
        (m,) the field there, in any unit.
    k
        Number of neighbours; 4n by default.
    direction
        "sublevel" for minima, "superlevel" for maxima.
    labels
        Also give every sample the index of its minimum.

    Returns
    -------
    MergeTree
        With the shape (m,) and the connectivity "knn".

    Raises
    ------
    InputError
        For points that are not finite, a k below 1, or values that do not fit.

    References
    ----------
    Geniesse et al., *Visualizing Loss Functions as Topological Landscape Profiles*, arXiv 2411.12136.
    """
    given = array_of(values).size
    indptr, indices = mutual_knn(points, k)
    if given != len(indptr) - 1:
        raise InputError(f"there are {len(indptr) - 1} points and {given} values; give one for each")
    return merge_tree_graph(values, indptr, indices, direction, labels, connectivity="knn")


def mutual_knn(points: ArrayLike, k: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The graph that joins points that are both among the other's k nearest; equal distances are ordered by id, so
    that it is unique.

    Parameters
    ----------
    points
        (m, n) finite coordinates. The distance is the Euclidean one: scale the coordinates if their units differ.
    k
        Number of neighbours; 4n by default, and less if there are fewer points.

    Returns
    -------
    indptr, indices
        (m + 1,) and (edges,) int64: the neighbours of u are indices[indptr[u] : indptr[u + 1]], in order; every edge is
        there in both directions.

    Raises
    ------
    InputError
        For points that are not finite, or a k below 1.

    References
    ----------
    Geniesse et al., *Visualizing Loss Functions as Topological Landscape Profiles*, arXiv 2411.12136.
    """
    x = in_working_type(array_of(points, "points"), "points").astype(np.float64)
    if x.ndim != 2 or len(x) == 0 or not np.isfinite(x).all():
        raise InputError(f"points have shape {x.shape}; give finite coordinates of shape (samples, dimensions)")
    k = 4 * x.shape[1] if k is None else k
    if k < 1:
        raise InputError(f"k is {k}; give the number of neighbours, at least 1")
    k = min(k, len(x) - 1)
    # a power of two, so that squares of distances neither vanish nor overflow
    near = _nearest(np.ldexp(x, -int(np.frexp(np.abs(x).max(initial=0.0))[1])), k)
    start = np.repeat(np.arange(len(x)), k)
    there = start * len(x) + near.reshape(-1)
    back = near.reshape(-1) * len(x) + start
    both = np.intersect1d(there, back, assume_unique=True)
    indptr = np.searchsorted(both, np.arange(len(x) + 1) * len(x))
    return indptr.astype(np.int64), both % len(x)


def _nearest(x: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """The k nearest other points of each by (distance, id), shape (m, k).

    The library orders equal distances as it likes: points are asked for until a distance beyond the k-th comes.
    """
    from scipy.spatial import KDTree

    m = len(x)
    tree = KDTree(x)
    near = np.empty((m, k), np.int64)
    open_ = np.arange(m)
    ask = min(m, k + 2)
    while len(open_):
        distance, found = tree.query(x[open_], np.arange(1, ask + 1))
        found = found.astype(np.int64)
        distance[found == open_[:, None]] = -1.0  # the point itself first, also among others at the same place
        order = np.lexsort((found, distance))
        distance = np.take_along_axis(distance, order, 1)
        found = np.take_along_axis(found, order, 1)
        settled = (distance[:, -1] > distance[:, k]) | (ask == m)
        near[open_[settled]] = found[settled, 1 : k + 1]
        open_ = open_[~settled]
        ask = min(m, 2 * ask)
    return near


def _checked_graph(n: int, indptr: ArrayLike, indices: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    from scipy.sparse import csr_array

    given = array_of(indptr, "indptr"), array_of(indices, "indices")
    if any(array.dtype.kind not in "iu" and array.size for array in given):
        raise InputError(f"indptr and indices are {given[0].dtype} and {given[1].dtype}; give integers")
    pointers, neighbours = (array.astype(np.int64, copy=False) for array in given)
    if n == 0:
        raise InputError("values hold no vertex; give at least one value")
    if (
        pointers.shape != (n + 1,)
        or pointers[0] != 0
        or pointers[-1] != len(neighbours)
        or (np.diff(pointers) < 0).any()
    ):
        raise InputError(f"indptr does not describe the neighbours of {n} vertices; give {n + 1} growing positions")
    if len(neighbours) and not 0 <= neighbours.min() <= neighbours.max() < n:
        raise InputError(f"indices name vertices outside 0 ... {n - 1}; give flat ids of vertices")
    matrix = csr_array((np.ones(len(neighbours), bool), neighbours, pointers), shape=(n, n))
    if (matrix != matrix.T).nnz:
        raise InputError("the graph has edges in one direction only; give every edge in both directions")
    return pointers, neighbours
