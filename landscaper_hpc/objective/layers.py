"""The layers of a model, each as what a study says of it in `only`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landscaper_hpc.errors import InputError, list_some
from landscaper_hpc.objective.loading import load_task
from landscaper_hpc.objective.moving import modules_like


def each_layer(task_file: Path, options: Mapping[str, Any], pattern: str) -> list[list[str]]:
    """`only` of each module that the pattern names, in the model's order; `*` stands for one part of a name.

    Raises
    ------
    InputError
        No module with parameters has such a name.
    """
    modules = load_task(task_file, options).model.named_modules()
    named = [name for name, module in modules if name and any(True for _ in module.parameters())]
    found = modules_like(pattern, named)
    if not found:
        raise InputError(
            f"--each-layer {pattern!r}: no module with parameters has such a name; there are {list_some(named)}"
        )
    return [[f"{name}.*"] for name in found]
