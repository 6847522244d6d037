"""Exact merge trees of scalar fields on grids of any dimension and on graphs."""

from landscaper_hpc.topology.graph import merge_tree_graph, merge_tree_points, mutual_knn
from landscaper_hpc.topology.merge import merge_tree
from landscaper_hpc.topology.tree import MergeTree, Persistence

__all__ = [
    "MergeTree",
    "Persistence",
    "merge_tree",
    "merge_tree_graph",
    "merge_tree_points",
    "mutual_knn",
]
