"""Loss landscapes in 2 to 5 dimensions and more: directions, sharded evaluation, exact merge trees, SMAD.

Public names are loaded on first use, so that `import landscaper_hpc` and `landscaper-hpc --help` stay quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.grid import Axis, Grid
    from landscaper_hpc.in_memory import landscape
    from landscaper_hpc.objective.objective import Task
    from landscaper_hpc.orchestrate import run
    from landscaper_hpc.sampling.lowest import lowest
    from landscaper_hpc.store.landscape import LandscapeStore, open_landscape
    from landscaper_hpc.study.site import Site
    from landscaper_hpc.study.study import Study
    from landscaper_hpc.topology import ContourTree, MergeTree, contour_tree, merge_tree
    from landscaper_hpc.topology.landscaper import smad_landscaper
    from landscaper_hpc.topology.metrics import mean_climb, smad

__version__ = "0.1.0"

_HOME = {
    "Axis": "grid",
    "ContourTree": "topology",
    "Grid": "grid",
    "InputError": "errors",
    "LandscapeStore": "store.landscape",
    "MergeTree": "topology",
    "Site": "study.site",
    "Study": "study.study",
    "Task": "objective.objective",
    "contour_tree": "topology",
    "landscape": "in_memory",
    "lowest": "sampling.lowest",
    "mean_climb": "topology.metrics",
    "merge_tree": "topology",
    "open_landscape": "store.landscape",
    "run": "orchestrate",
    "smad": "topology.metrics",
    "smad_landscaper": "topology.landscaper",
}

__all__ = [
    "Axis",
    "ContourTree",
    "Grid",
    "InputError",
    "LandscapeStore",
    "MergeTree",
    "Site",
    "Study",
    "Task",
    "contour_tree",
    "landscape",
    "lowest",
    "mean_climb",
    "merge_tree",
    "open_landscape",
    "run",
    "smad",
    "smad_landscaper",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"landscaper_hpc.{_HOME[name]}"), name)
    raise AttributeError(f"module 'landscaper_hpc' has no attribute {name!r}")
