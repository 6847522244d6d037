"""The table of a sweep: one row for each landscape, from whatever is finished."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscaper_hpc.files import publish
from landscaper_hpc.report import quantities
from landscaper_hpc.report.quantity import ESTIMATE, Quantity
from landscaper_hpc.report.results import read_results
from landscaper_hpc.store.failures import Failures
from landscaper_hpc.store.folder import StudyFolder, SweepFolder
from landscaper_hpc.store.layout import IN_PLACE
from landscaper_hpc.store.sweep_record import Entry, Recorded

if TYPE_CHECKING:
    import pandas as pd

STATES = ("done", "failed", "evaluating", "missing")


def table(folder: Path, recorded: Recorded) -> pd.DataFrame:
    """One row for each landscape of the sweep in `folder`, in the order of its studies' names.

    `state` is done; failed, where a part is quarantined; evaluating, where a store is there; or missing. Only rows that
    are done have numbers: a column for each quantity that is one number, two for an estimate and its error, and one for
    what SMAD is decided by, in words.
    """
    import pandas as pd

    rows = [row for entry in recorded.entries for row in _rows(SweepFolder(folder).study(entry.name), entry)]
    found = pd.DataFrame(rows)
    words = {"checkpoint", "run", *(row.column for row in _told() if not row.kind.scalar)}
    for name in found.columns:
        kinds = {type(value) for value in found[name].dropna()}
        if found[name].dtype == object and kinds and kinds != {str}:
            found[name] = found[name].map(lambda v: v if v is None or isinstance(v, str) else json.dumps(v))
        elif kinds == {int} and found[name].isna().any():
            found[name] = found[name].astype("Int64")
        elif not kinds and name not in words:
            found[name] = found[name].astype("float64")
    if "step" in found:
        found["step"] = found["step"].astype("Int64")
    return found


def write_table(folder: Path, found: pd.DataFrame) -> None:
    """`sweep.parquet` and `sweep.csv`."""
    buffer = io.BytesIO()
    found.to_parquet(buffer, index=False)
    publish(SweepFolder(folder).parquet, buffer.getvalue())
    publish(SweepFolder(folder).csv, found.to_csv(index=False).encode())


def _rows(folder: StudyFolder, entry: Entry) -> Iterator[dict[str, Any]]:
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


def _results(folder: StudyFolder) -> dict[str, Mapping[str, Any]]:
    if not folder.finished():
        return {}
    return {item["name"]: item for item in read_results(folder.results)["landscapes"]}


def _state(folder: StudyFolder) -> str:
    if Failures(folder.failed).quarantined():
        return "failed"
    return "evaluating" if folder.store.exists() else "missing"


def _numbers(item: Mapping[str, Any] | None) -> dict[str, float | int | str | None]:
    """What the table holds of a landscape's entry in `results.json`; None for everything where there is none."""
    found = {row.column: None if item is None else row.value(item) for row in _told()}
    for row in estimates():
        value = None if item is None else row.value(item)
        found[row.column], found[f"{row.column}_error"] = (None, None) if value is None else value
    return found


def estimates() -> list[Quantity]:
    """The quantities that are an estimate and its standard error: a column each."""
    return [row for row in quantities.ROWS if row.kind is ESTIMATE]


def _told() -> list[Quantity]:
    """The quantities that are columns: those that are one number, and the words of a sweep's page."""
    whole = [row for row in quantities.ROWS if row.origin not in IN_PLACE]
    return [row for row in whole if row.kind.scalar or "sweep" in row.places]
