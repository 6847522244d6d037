"""A sweep's table and its page, from what is finished: one self-contained file that links to the studies' own reports.

The words are in `templates/sweep.html.j2`; everything follows from `sweep.json` and the studies' `results.json`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from landscaper_hpc.files import publish
from landscaper_hpc.report import figures
from landscaper_hpc.report.figures.embed import draw
from landscaper_hpc.report.page import environment
from landscaper_hpc.report.page_figures import distances_between
from landscaper_hpc.report.quantities import shown
from landscaper_hpc.report.quantity import Quantity
from landscaper_hpc.report.sweep_table import STATES, estimates, table, write_table
from landscaper_hpc.store.folder import SweepFolder
from landscaper_hpc.store.sweep_record import Recorded, read_sweep

if TYPE_CHECKING:
    import pandas as pd

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def write_sweep(folder: Path) -> Path:
    """Write `sweep.parquet`, `sweep.csv` and `sweep.html`, whatever is finished, and return the page's path."""
    recorded = read_sweep(folder)
    found = table(folder, recorded)
    write_table(folder, found)
    with figures.style():
        page = _page(recorded, found, _distances(SweepFolder(folder).distances))
    file = SweepFolder(folder).page
    publish(file, page.encode())
    return file


def _distances(file: Path) -> tuple[list[str], dict[str, Any]] | None:
    """Names, and what is known of how far they are from each other."""
    import pandas as pd

    if not file.exists():
        return None
    table = pd.read_csv(file)
    names = list(dict.fromkeys([*table["landscape"], *table["other"]]))
    found: dict[str, Any] = {"pairs": int(table["pairs"][0]), "left_out": float(table["left_out"][0])}
    for kind in ("bottleneck", "wasserstein"):
        matrix = np.zeros((len(names), len(names)))
        i, j = (table[column].map(names.index) for column in ("landscape", "other"))
        matrix[i, j] = matrix[j, i] = table[kind]
        found[kind] = matrix
    return names, found


def _page(recorded: Recorded, found: pd.DataFrame, distances: tuple[list[str], dict[str, Any]] | None = None) -> str:
    varied = sorted({key for entry in recorded.entries for key in entry.values})
    states = {state: int((found["state"] == state).sum()) for state in STATES}
    identity = [key for key in ("step", *varied) if key in found and found[key].notna().any()]
    several = any(len(entry.landscapes) > 1 for entry in recorded.entries)
    columns = shown("sweep")
    rows = [
        {
            "study": row["study"],
            "landscape": row["landscape"] if several else None,
            "state": row["state"],
            "identity": [_said(row[key]) for key in identity],
            "numbers": [column.text(_plain(row[column.column])) for column in columns],
        }
        for row in found.astype(object).where(found.notna(), None).to_dict("records")
    ]
    return (
        environment()
        .get_template("sweep.html.j2")
        .render(
            recorded=recorded,
            states=states,
            total=len(found),
            identity=identity,
            columns=columns,
            drawn=[*shown("figure"), *_estimated(found)],
            rows=rows,
            several=several,
            varied=varied,
            definition=recorded.definition,
            distances=[] if distances is None else distances_between(*distances),
            pairs=0 if distances is None else distances[1]["pairs"],
            left_out=0.0 if distances is None else distances[1]["left_out"],
            figures=_figures(found, varied) if states["done"] else {},
        )
    )


def _figures(found: pd.DataFrame, varied: Sequence[str]) -> dict[str, Markup]:
    """Each number over the checkpoints, or over what varies: one line for each run and each combination of values."""
    done = found[found["state"] == "done"]
    over, place, ticks = _across(done, varied)
    others = [key for key in varied if key != over]
    stepped = over == "step"
    runs = done["run"].fillna("") if stepped else np.full(len(done), "")
    keys = [runs, *(done[key].astype(str) for key in others)]
    if stepped and done.groupby("study")["landscape"].nunique().max() > 1:
        keys.append(done["landscape"])
    groups = list(done.assign(place=place).groupby(keys, sort=True))
    drawn: dict[str, Markup] = {}
    sorted_groups = {_line(key, others): rows.sort_values("place", kind="stable") for key, rows in groups}
    # of values that are no numbers, such as layers, those of the Hessian are bars
    apart = bool(ticks) and over != "checkpoint" and len(sorted_groups) == 1
    uncertain = _estimated(done)
    for row in (*shown("figure"), *uncertain):
        column, label = row.column, row.label
        options: dict[str, Any] = {"label": label, "over": over}
        if row in uncertain:
            options["errors"] = {
                name: rows[f"{column}_error"].astype(float).tolist() for name, rows in sorted_groups.items()
            }
        plot: Any
        if apart and row.key.startswith("hessian."):
            ((name, rows),) = sorted_groups.items()
            if row in uncertain:
                options["errors"] = dict(zip(ticks, options["errors"][name], strict=True))
            plot = partial(figures.plot_bars, dict(zip(ticks, rows[column].astype(float), strict=True)), **options)
        else:
            series: Series = {
                name: (rows["place"].tolist(), rows[column].astype(float).tolist())
                for name, rows in sorted_groups.items()
            }
            plot = partial(figures.plot_series, series, ticks=ticks, **options)
        drawn[label] = draw(
            plot,
            f"sweep-{column}",
            f"{label} over the {'checkpoints' if over in ('step', 'checkpoint') else f'values of {over}'}",
        )
    return drawn


def _estimated(found: pd.DataFrame) -> list[Quantity]:
    """The estimates that a study asked for."""
    return [row for row in estimates() if row.column in found and found[row.column].notna().any()]


def _across(done: pd.DataFrame, varied: Sequence[str]) -> tuple[str, pd.Series[float], list[str]]:
    """What figures are over: steps or checkpoints, or of a single one the key whose number varies most; where on that
    axis each row is, and the names of places where these are no numbers."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    names = done["checkpoint"].fillna(done["landscape"])
    stepped = bool(done["step"].notna().all())
    if (done["step"] if stepped else names).nunique() == 1:
        numbers = [key for key in varied if is_numeric_dtype(done[key]) and not is_bool_dtype(done[key])]
        most = max(numbers, key=lambda key: done[key].nunique(), default=None)
        if most is not None and done[most].nunique() > 1:
            return most, done[most].astype(float), []
        others = [key for key in varied if key not in numbers and done[key].nunique() > 1]
        if others:
            values = sorted(done[others[0]].astype(str).unique(), key=_natural)
            return others[0], done[others[0]].astype(str).map(values.index).astype(float), values
    if stepped:
        return "step", done["step"].astype(float), []
    ticks = list(dict.fromkeys(names))
    return "checkpoint", names.map(ticks.index).astype(float), ticks


def _natural(text: str) -> list[tuple[str, int]]:
    """What sorts layer 10 after layer 9."""
    parts = re.split(r"(\d+)", text)
    return [(part, int(number or 0)) for part, number in zip(parts[::2], [*parts[1::2], ""], strict=True)]


def _line(key: Hashable, varied: Sequence[str]) -> str:
    run, *rest = key if isinstance(key, tuple) else (key,)
    values = [f"{name} = {value}" for name, value in zip(varied, rest, strict=False)]
    return ", ".join(filter(None, [str(run), *values, *map(str, rest[len(varied) :])]))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _said(value: Any) -> str:
    return "–" if value is None else str(value)
