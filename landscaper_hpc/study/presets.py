"""Presets: names for keys of a study that belong together. What is written beside one wins."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # what Landscaper 1.3.1 makes without arguments: compute_loss_landscape, PyHessianComputer.eigenvalues
    "landscaper": {
        "directions": {
            "kind": "hessian",
            "n": 3,
            "which": "magnitude",
            "solver": "pyhessian",
            "normalization": "landscaper",
            "tolerance": 1e-3,
            "max_iterations": 100,
        },
        "grid": {"range": 0.01, "count": 41, "scale": "uniform"},
        "connectivity": "axis",
        "precision": "float32",
    },
}


def expanded(data: Mapping[str, Any]) -> dict[str, Any]:
    """A study's keys with those of its preset written out; `ValueError` for one that there is not."""
    name = data.get("preset")
    if name is None:
        return dict(data)
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset: must be one of {', '.join(PRESETS)}; found {name!r}")
    preset = copy.deepcopy(dict(PRESETS[name]))
    given = data.get("directions")
    if isinstance(given, Mapping) and given.get("kind", "hessian") != "hessian":
        preset["directions"] = {key: preset["directions"][key] for key in ("n", "normalization")}
    grid = data.get("grid")
    if isinstance(grid, Mapping) and grid.get("axes") is not None:
        preset["grid"] = {"scale": preset["grid"]["scale"]}
    return _merged(preset, data)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = [key for key in under if isinstance(under[key], Mapping) and isinstance(over.get(key), Mapping)]
    return {**under, **over, **{key: _merged(under[key], over[key]) for key in both}}
