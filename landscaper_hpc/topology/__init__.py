"""Exact merge trees and contour trees of scalar fields on grids of any dimension and on graphs."""

from landscaper_hpc.topology.contour import contour_tree
from landscaper_hpc.topology.contour_tree import Branches, ContourTree
from landscaper_hpc.topology.graph import merge_tree_graph, merge_tree_points, mutual_knn
from landscaper_hpc.topology.merge import merge_tree
from landscaper_hpc.topology.tree import MergeTree, Persistence

__all__ = [
    "Branches",
    "ContourTree",
    "MergeTree",
    "Persistence",
    "contour_tree",
    "merge_tree",
    "merge_tree_graph",
    "merge_tree_points",
    "mutual_knn",
]
