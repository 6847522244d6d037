"""Merge trees as graphs: minima and saddles as nodes, an edge from each to the saddle above it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.tree import MergeTree

if TYPE_CHECKING:
    import networkx


class Skeleton(NamedTuple):
    """The nodes and edges of a merge tree.

    points, values  (k,) where nodes are (flat ids), and the field there: the minima in the tree's order, then saddles
    edges           (e, 2) from the lower node to the upper, by index
    """

    points: NDArray[np.int64]
    values: NDArray[np.float64]
    edges: NDArray[np.int64]


def skeleton(tree: MergeTree) -> Skeleton:
    """The merge tree without its regular vertices. A saddle at which several components meet is one node."""
    dying = np.flatnonzero(tree.parent >= 0)
    sign = -1.0 if tree.direction == "superlevel" else 1.0
    dying = dying[np.lexsort((tree.death[dying], sign * tree.death_value[dying]))]  # NaN is last, as in the order
    saddles, first = np.unique(tree.death[dying], return_index=True)
    by_order = np.argsort(first)
    node = {int(point): tree.n_minima + i for i, point in enumerate(saddles[by_order])}
    top = list(range(tree.n_minima))
    edges: dict[tuple[int, int], None] = {}
    for child in dying.tolist():
        saddle, parent = node[int(tree.death[child])], int(tree.parent[child])
        for branch in (child, parent):
            if top[branch] != saddle:
                edges[top[branch], saddle] = None
                top[branch] = saddle
    at = dying[first[by_order]]
    return Skeleton(
        np.concatenate([tree.minima, tree.death[at]]),
        np.concatenate([tree.values, tree.death_value[at]]),
        np.array(list(edges), np.int64).reshape(-1, 2),
    )


def to_networkx(tree: MergeTree) -> networkx.DiGraph:
    """A merge tree as a directed graph of networkx.

    Parameters
    ----------
    tree
        Of a grid or a graph.

    Returns
    -------
    networkx.DiGraph
        A node for each minimum and each saddle, numbered from 0, the minima first and in their order, with `kind`
        ("minimum", "saddle"), `point` (flat id) and `loss`; those of minima also with `basin_size` and `persistence`.
        Edges lead up.
    """
    import networkx as nx

    found, life = skeleton(tree), tree.lifetimes
    graph = nx.DiGraph(connectivity=tree.connectivity, direction=tree.direction)
    for i, (point, value) in enumerate(zip(found.points.tolist(), found.values.tolist(), strict=True)):
        graph.add_node(i, kind="minimum" if i < tree.n_minima else "saddle", point=point, loss=value)
    for i in range(tree.n_minima):
        graph.add_node(i, basin_size=int(tree.basin_size[i]), persistence=float(life[i]))
    graph.add_edges_from(found.edges.tolist())
    return graph
