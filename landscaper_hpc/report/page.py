"""One self-contained page per study: figures, numbers and what they mean, from the store and `results.json`.

Everything on the page follows from those two, so the same study gives the same bytes. The words are in
`templates/report.html.j2`, numbers are the rows of `quantities`; this module reads, draws and arranges.
(Longer than most modules: all that one page shows, in its order.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from landscaper_hpc.directions.numbers import described
from landscaper_hpc.files import publish
from landscaper_hpc.report import figures, refined, text
from landscaper_hpc.report.current_page import sealed, sources_sha256
from landscaper_hpc.report.figures.embed import draw
from landscaper_hpc.report.figures.style import is_log
from landscaper_hpc.report.figures.subject import Subject
from landscaper_hpc.report.interactive import GRID_POINTS, landscape_data, script_data
from landscaper_hpc.report.page_figures import (
    Landscape,
    confirmed_figure,
    distances_between,
    figures_of,
    over_checkpoints,
    sampling_figures,
    smad_curves,
    small_figures,
    trace_of,
)
from landscaper_hpc.report.quantities import ERRORS, shown
from landscaper_hpc.report.quantity import Quantity
from landscaper_hpc.report.results import read_results
from landscaper_hpc.store.folder import StudyFolder
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import IN_PLACE, SCOPE
from landscaper_hpc.study.study import Study
from landscaper_hpc.topology.decided import DECIDED
from landscaper_hpc.topology.drawing import LEAVES, PROFILE_BASINS, PROFILE_POINTS, Drawing
from landscaper_hpc.topology.refinement import TOLERANCE

LISTED = 20
"""Entries of a list that the page shows; all are in `results.json`."""
GROUPS = ("confirmed", "error_bars", "trajectory", "power_law", "metrics")
"""Those that have lists."""
_LISTS_OF_PARTS = ("scope.metrics", "sampling.metrics", "sampling.network")
FEW, MANY = 4, 10
"""Up to so many landscapes stand side by side; of more than so many each has small pictures only."""
SMALL_BYTES = 4_500_000
"""That the figures of many landscapes take together: what would take more is pixels, and not explored."""
_ENOUGH = 0.25
"""The share of a joint scale of colours that every landscape has to make use of."""


def write_report(folder: Path) -> Path:
    """Write `<folder>/report.html` from `results.json` and `study.zarr`, atomically, and return its path.

    Raises `InputError` where either is missing or of another format.
    """
    inside = StudyFolder(Path(folder))
    made_of = sources_sha256(inside.path)
    results = read_results(inside.results)
    with figures.style():
        asked = Study.asked_in(results["provenance"]["configuration"])
        part = next((name for name in IN_PLACE if name in asked), None)
        if part is not None:
            page = _page_of_part(inside, results, part, asked)
        else:
            page = _page(results, [_open(inside.store, item, asked) for item in results["landscapes"]])
    publish(inside.report, sealed(page, made_of))
    return inside.report


def _page_of_part(
    inside: StudyFolder, results: Mapping[str, Any], name: str, asked: Mapping[str, Mapping[str, Any]]
) -> str:
    """The page of a study of which the lowest part or scattered points were evaluated, and nothing is known of the
    whole."""
    drawn = _scope_figures if name == SCOPE else sampling_figures
    landscapes = results["landscapes"]
    stores = [LandscapeStore(inside.store, item["name"]) for item in landscapes]
    return (
        environment()
        .get_template(f"{name}.html.j2")
        .render(
            results=results,
            landscapes=landscapes,
            directions=described(landscapes[0]["directions"], results["provenance"]["configuration"]),
            rows=_rows(landscapes),
            lists={group: [_lists(item, group) for item in landscapes] for group in (*asked, *_LISTS_OF_PARTS)},
            figures=[
                drawn(item, {group: store.whole_answer(group, question).drawing for group, question in asked.items()})
                for item, store in zip(landscapes, stores, strict=True)
            ],
            shown=LEAVES,
        )
    )


def _scope_figures(entry: Mapping[str, Any], answers: Mapping[str, Mapping[str, NDArray[Any]]]) -> dict[str, Markup]:
    name, scope, drawing = entry["name"], entry["scope"], Drawing.from_arrays(answers[SCOPE])
    level = scope["level"]
    if not math.isfinite(level):  # all that was met is below it
        ends = np.concatenate([drawing.bars.birth, drawing.bars.death])
        level = float(ends[np.isfinite(ends)].max(initial=-math.inf))
    minima = scope["n_minima"]
    confirmed = answers.get("confirmed")
    stands = {} if confirmed is None else {"leaves": confirmed["leaves"] == 0}
    shown = Subject(drawing, (scope["lowest"], level), minima, 0, stands=stands)
    said = f"{name}: {refined.basins(minima)} below a loss of {text.number(scope['level'])}"
    found = {
        "barcode": draw(
            partial(figures.plot_barcode, shown),
            f"barcode-{name}",
            f"Persistence barcode of {said}",
        ),
        "tree": draw(
            partial(figures.plot_merge_tree, shown),
            f"tree-{name}",
            f"Merge tree of {said}",
        ),
    }
    if confirmed is not None:
        found["confirmed"] = confirmed_figure(entry, confirmed, (scope["lowest"], level))
    return found


def _open(path: Path, result: Mapping[str, Any], asked: Mapping[str, Mapping[str, Any]]) -> Landscape:
    store = LandscapeStore(path, result["name"])
    drawn = {name: store.whole_answer(name, question).drawing for name, question in asked.items()}
    return Landscape(result, store, Drawing.from_arrays(store.drawing()), drawn)


# ---- the page -------------------------------------------------------------------------------------------------------


@cache
def environment() -> Environment:
    """Where templates of pages are found, and how they write numbers."""
    made = Environment(
        loader=PackageLoader("landscaper_hpc"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"num": text.number, "count": lambda n: f"{n:,}", "percent": text.percent}
    return made


def warm_up() -> None:
    """Do once what the first page takes longer for: templates are compiled, fonts are read."""
    for name in environment().list_templates(filter_func=lambda name: "/" not in name and name.endswith(".j2")):
        environment().get_template(name)
    with figures.style():
        draw(lambda ax: ax.set_title("loss"), "", "")


def _page(results: Mapping[str, Any], landscapes: Sequence[Landscape]) -> str:
    limits = _joint_limits(landscapes)
    one_scale = _share_a_scale(landscapes, limits)
    several = any(item.result["topology"]["n_minima"] > 1 for item in landscapes)
    few, small = len(landscapes) <= FEW, len(landscapes) > MANY
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            results=results,
            landscapes=landscapes,
            directions=described(results["landscapes"][0]["directions"], results["provenance"]["configuration"]),
            sentences=[refined.sentence(item.result) for item in landscapes],
            flat=[refined.flat(item.result) for item in landscapes],
            levels=[refined.table(item.result) for item in landscapes],
            levels_header=refined.HEADER,
            tolerance=TOLERANCE,
            decided=DECIDED,
            rows=_rows(results["landscapes"]),
            lists={group: [_lists(item.result, group) for item in landscapes] for group in GROUPS},
            figures=[
                small_figures(item, limits, one_scale, SMALL_BYTES // len(landscapes))
                if small
                else figures_of(item, limits, one_scale)
                for item in landscapes
            ],
            few=few,
            small=small,
            summary=None if few else _summary(results["landscapes"]),
            over=[] if few else over_checkpoints(results["landscapes"]),
            one_scale=one_scale,
            trace=trace_of(landscapes),
            distances=distances_between([item.name for item in landscapes], results.get("distances")),
            smad_curve=smad_curves(landscapes) if several else None,
            shown={"profile": PROFILE_BASINS, "profile_points": PROFILE_POINTS, "tree": LEAVES},
            data=_data(landscapes, limits if one_scale else None),
            isfinite=math.isfinite,
        )
    )


def _rows(landscapes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The table of numbers: those that at least one of the landscapes has."""
    rows = []
    for row in shown("page"):
        if row.kind.fields:
            continue
        values = [_with_error(row, item) for item in landscapes]
        if any(value is not None for value in values):
            rows.append(
                {"label": row.label, "values": [value or row.text(None) for value in values], "meaning": row.meaning}
            )
    return rows


def _with_error(row: Quantity, entry: Mapping[str, Any]) -> str | None:
    said, error = row.said(entry), ERRORS.get(row.key)
    value = None if error is None else error.value(entry)
    return said if said is None or error is None or value is None else f"{said} ± {error.text(value)}"


def _lists(landscape: Mapping[str, Any], group: str) -> list[dict[str, Any]]:
    """The lists of a group of a landscape's entry: the LISTED first of each, and how many there are."""
    found = []
    for row in shown("page"):
        if row.kind.fields and row.key.startswith(f"{group}.") and (entries := row.value(landscape)):
            rows = [[field.text(entry) for field in row.kind.fields] for entry in entries[:LISTED]]
            found.append({"row": row, "rows": rows, "count": len(entries)})
    return found


def _summary(landscapes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row for each of many landscapes, with the numbers that matter most."""
    columns = [row for row in shown("sweep") if any(row.value(item) is not None for item in landscapes)]
    rows = [[item["name"], *(row.text(row.value(item)) for row in columns)] for item in landscapes]
    counts = [item["topology"]["n_minima"] for item in landscapes]
    return {
        "header": [row.label for row in columns],
        "rows": rows,
        "single": counts.count(1),
        "least": min(counts),
        "most": max(counts),
    }


def _joint_limits(landscapes: Sequence[Landscape]) -> tuple[float, float]:
    ranges = [item.range for item in landscapes if math.isfinite(item.range[0])]
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else (math.nan, math.nan)


def _share_a_scale(landscapes: Sequence[Landscape], joint: tuple[float, float]) -> bool:
    """Whether slices of all landscapes have one scale of colours: if each makes use of enough of it."""

    def length(low: float, high: float) -> float:
        return math.log(high / low) if is_log(*joint) else high - low

    ranges = [item.range for item in landscapes if math.isfinite(item.range[0])]
    return all(length(*own) >= _ENOUGH * length(*joint) for own in ranges)


def _data(landscapes: Sequence[Landscape], joint: tuple[float, float] | None) -> Markup:
    room, found = GRID_POINTS // max(1, len(landscapes)), []
    for item in landscapes:
        limits, fates = joint or item.range, item.answers.get("confirmed")
        found.append(landscape_data(item.result, item.store, item.drawing.marks, fates, limits, room))
    return script_data(found)
