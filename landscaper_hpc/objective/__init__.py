"""A task file, a checkpoint and data become a deterministic loss of named parameters.

What users import from here (as the `train.py` that `landscaper-hpc init` writes does) is loaded on first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscaper_hpc.objective.loading import load_objective, load_task
    from landscaper_hpc.objective.objective import Objective, Task

__all__ = ["Objective", "Task", "load_objective", "load_task"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from landscaper_hpc.objective import loading

        return getattr(loading, name)  # which imports the others
    raise AttributeError(f"module 'landscaper_hpc.objective' has no attribute {name!r}")
