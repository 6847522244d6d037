"""The table of a sweep: one row for each landscape, from whatever is finished."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscaper_hpc.files import publish
from landscaper_hpc.store.failures import Failures
from landscaper_hpc.store.sweep_record import Entry, Recorded

if TYPE_CHECKING:
    import pandas as pd

STATES = ("done", "failed", "evaluating", "missing")


def table(folder: Path, recorded: Recorded) -> pd.DataFrame:
    """One row for each landscape of the sweep in `folder`, in the order of its studies' names.

    `state` is done; failed, where a part is quarantined; evaluating, where a store is there; or missing. Only rows that
    are done have numbers. `lambda_max` is the largest eigenvalue that is known: of the directions, or else the largest
    node of the spectral density, which it is a lower bound of.
    """
    import pandas as pd

    rows = [row for entry in recorded.entries for row in _rows(folder / "studies" / entry.name, entry)]
    found = pd.DataFrame(rows)
    for name in found.columns:
        kinds = {type(value) for value in found[name].dropna()}
        if found[name].dtype == object and kinds and kinds != {str}:
            found[name] = found[name].map(lambda v: v if v is None or isinstance(v, str) else json.dumps(v))
        elif kinds == {int} and found[name].isna().any():
            found[name] = found[name].astype("Int64")
        elif not kinds and name not in ("checkpoint", "run"):
            found[name] = found[name].astype("float64")
    if "step" in found:
        found["step"] = found["step"].astype("Int64")
    return found


def write_table(folder: Path, found: pd.DataFrame) -> None:
    """`sweep.parquet` and `sweep.csv`."""
    buffer = io.BytesIO()
    found.to_parquet(buffer, index=False)
    publish(folder / "sweep.parquet", buffer.getvalue())
    publish(folder / "sweep.csv", found.to_csv(index=False).encode())


def _rows(folder: Path, entry: Entry) -> Iterator[dict[str, Any]]:
    finished = _results(folder)
    state = "done" if finished else _state(folder)
    for name in entry.landscapes:
        row: dict[str, Any] = {
            "study": entry.name,
            "landscape": name,
            "checkpoint": entry.checkpoint,
            "run": entry.run,
            "step": entry.step,
            **entry.values,
            "state": state,
        }
        yield row | _numbers(finished[name] if finished else None)


def _results(folder: Path) -> dict[str, Mapping[str, Any]]:
    if not (folder / "report.html").exists():
        return {}
    found = json.loads((folder / "results.json").read_bytes())
    which = found["provenance"]["configuration"]["directions"]["which"]
    return {item["name"]: {**item, "which": which} for item in found["landscapes"]}


def _state(folder: Path) -> str:
    if Failures(folder / "failed").quarantined():
        return "failed"
    return "evaluating" if (folder / "study.zarr").exists() else "missing"


def _numbers(item: Mapping[str, Any] | None) -> dict[str, float | int | None]:
    """What the table holds of a landscape's entry in `results.json`; None for everything where there is none."""
    found: dict[str, Any] = {
        "loss": ("loss",),
        "lambda_max": (),
        "points": ("grid", "points"),
        **{key: ("topology", key) for key in ("n_minima", "n_above_noise", "n_saddles")},
        **{key: ("topology", key) for key in ("smad", "smad_normalized", "smad_raw")},
        **{
            f"persistence_{key}": ("topology", "persistence", key)
            for key in ("pairs", "mean", "max", "total", "entropy", "distance_to_diagonal")
        },
        "persistence_range": ("topology", "persistence", "persistence_range"),
        "noise_floor": ("topology", "noise_floor"),
        **{key: ("topology", "nonfinite", key) for key in ("nan", "posinf", "neginf")},
    }
    if item is None:
        return dict.fromkeys(found)
    for name, path in found.items():
        value: Any = _lambda_max(item) if name == "lambda_max" else item
        for key in path:
            value = value[key]
        found[name] = float(value) if isinstance(value, str) else value  # numbers that are not finite are strings
    return found


def _lambda_max(item: Mapping[str, Any]) -> float | None:
    eigenvalues, nodes = item["directions"]["eigenvalues"], item["hessian"]["density_nodes"]
    upper = item["which"] != "negative" and item["which"] != {"largest": 0, "negative": len(eigenvalues or ())}
    # of those of largest magnitude a positive one is the largest of all
    if eigenvalues is not None and upper and (largest := max(map(float, eigenvalues))) > 0:
        return largest
    return None if nodes is None else max(float(node) for probe in nodes for node in probe)
