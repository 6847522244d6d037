"""The table of a landscape's nested grids, and the sentence that says what came of them: for page and terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from landscaper_hpc.report import text
from landscaper_hpc.report.quantity import SCOPE_SHARE
from landscaper_hpc.topology.refinement import NOT_RESOLVED, NOT_TESTED, SETTLED

_LOWEST = f"lowest {100 * SCOPE_SHARE:.0f} %"
HEADER = (
    "points",
    "mean climb",
    "SMAD",
    "SMAD decided by",
    "minima",
    "mean climb of the log-loss",
    f"minima in the {_LOWEST}",
    f"mean climb in the {_LOWEST}",
    "bottleneck distance from the coarser grid",
)


def table(entry: Mapping[str, Any]) -> list[list[str]]:
    """One row a grid, the coarsest first, under HEADER, of a landscape's entry of `results.json`; none for one grid."""
    found = entry["topology"]["refinement"]
    if found["shapes"] is None or len(found["shapes"]) < 2:
        return []
    grids = len(found["shapes"])

    def column(name: str) -> list[str]:
        return ["–"] * grids if found[name] is None else list(map(text.number, found[name]))

    columns: list[Sequence[str]] = [
        list(map(text.shape, found["shapes"])),
        column("mean_climb"),
        column("smad"),
        [by or "–" for by in found["smad_decided_by"]],
        *map(column, ("n_minima", "mean_climb_log", "scope_n_minima", "scope_mean_climb")),
        ["", *(f"{text.percent(share)} of the range" for share in found["bottleneck"])],
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def basins(n: int) -> str:
    return {0: "no basin", 1: "a single basin"}.get(n, f"{n:,} basins")


def flat(entry: Mapping[str, Any]) -> bool:
    """Whether a landscape's losses are all the same but for one rounding error."""
    topology = entry["topology"]
    low, high = topology["range"]
    return bool(topology["n_nonfinite"] == 0 and high - low <= topology["noise_floor"])


def sentence(entry: Mapping[str, Any]) -> str:
    """What a landscape shows, and whether it is the loss's or the grid's."""
    topology, name = entry["topology"], entry["name"]
    if flat(entry):
        return (
            f"The landscape of {name} is flat: all of its losses are {text.number(topology['range'][0])}, to rounding."
        )
    found, shows = topology["refinement"], basins(topology["n_minima"])
    lowest = found["scope_verdict"]
    if found["verdict"] == SETTLED:
        return f"The landscape of {name} has {shows}, settled on {_and(list(map(text.shape, found['shapes'])))} points."
    if found["verdict"] == NOT_RESOLVED:
        counts = _and([f"{n:,}" for n in found["n_minima"]])
        said = f"The landscape of {name} is not resolved: it shows {shows}, but {counts} minima on nested grids"
        if lowest == SETTLED:
            return f"{said}; in its {_LOWEST} of the points it is, with {basins(topology['scope']['n_minima'])}."
        return f"{said}."
    grid = text.shape(entry["grid"]["shape"])
    return (
        f"On {grid} points the landscape of {name} shows {shows}; whether a finer grid shows the same is {NOT_TESTED}."
    )


def _and(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
