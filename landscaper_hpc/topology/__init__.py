"""Exact merge trees and contour trees of scalar fields on grids of any dimension and on graphs.

Public names are loaded on first use: what only reads trees needs no compiler.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscaper_hpc.topology.contour import contour_tree
    from landscaper_hpc.topology.contour_result import Branches, ContourTree
    from landscaper_hpc.topology.graph import merge_tree_graph, merge_tree_points, mutual_knn
    from landscaper_hpc.topology.merge import merge_tree
    from landscaper_hpc.topology.tree import MergeTree, Persistence

_HOME = {
    "Branches": "contour_result",
    "ContourTree": "contour_result",
    "MergeTree": "tree",
    "Persistence": "tree",
    "contour_tree": "contour",
    "merge_tree": "merge",
    "merge_tree_graph": "graph",
    "merge_tree_points": "graph",
    "mutual_knn": "graph",
}

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


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"landscaper_hpc.topology.{_HOME[name]}"), name)
    raise AttributeError(f"module 'landscaper_hpc.topology' has no attribute {name!r}")
