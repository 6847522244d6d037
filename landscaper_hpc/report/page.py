"""One self-contained page per study: figures, numbers and what they mean, from the store and `results.json`.

Everything on the page follows from those two, so the same study gives the same bytes. The words are in
`templates/report.html.j2`, numbers are the rows of `quantities`; this module reads, draws and arranges.
(Longer than most modules: all that one page shows, in its order.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from landscaper_hpc.confirm.ends import CONFIRMED, KINDS
from landscaper_hpc.directions.numbers import described
from landscaper_hpc.files import publish
from landscaper_hpc.report import figures, refined, text
from landscaper_hpc.report.current_page import sealed
from landscaper_hpc.report.figures.curves import LABELS, Simplified
from landscaper_hpc.report.figures.embed import draw, paint
from landscaper_hpc.report.figures.slices import cut
from landscaper_hpc.report.figures.style import is_log
from landscaper_hpc.report.figures.subject import Subject
from landscaper_hpc.report.interactive import GRID_POINTS, landscape_data, script_data
from landscaper_hpc.report.quantities import shown
from landscaper_hpc.report.results import read_results
from landscaper_hpc.store.folder import StudyFolder
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import SCOPE, StoredDirections
from landscaper_hpc.study.study import Study
from landscaper_hpc.topology.decided import DECIDED
from landscaper_hpc.topology.drawing import LEAVES, PROFILE_BASINS, PROFILE_POINTS, Bars, Branches, Drawing
from landscaper_hpc.topology.metrics import SmadCurve
from landscaper_hpc.topology.refinement import TOLERANCE

LISTED = 20
"""Entries of a list that the page shows; all are in `results.json`."""
FEW, MANY = 4, 10
"""Up to so many landscapes stand side by side; of more than so many each has small pictures only."""
_ENOUGH = 0.25
"""The share of a joint scale of colours that every landscape has to make use of."""


@dataclass(frozen=True)
class _Landscape:
    """A landscape's entry in `results.json`, its store, and what its figures show."""

    result: Mapping[str, Any]
    store: LandscapeStore
    drawing: Drawing
    answers: Mapping[str, Mapping[str, NDArray[Any]]]
    """What figures show of what else was asked for (`store.layout.ANSWERS`)."""

    @property
    def name(self) -> str:
        return str(self.result["name"])

    @property
    def range(self) -> tuple[float, float]:
        low, high = self.result["topology"]["range"]
        return low, high

    def _stands(self, of: str) -> NDArray[np.bool_] | None:
        """Which of the drawing's "bars", "leaves" or "basins" stand in every answer; None where nothing was asked."""
        confirmed, sure = self.answers.get("confirmed", {}), self.answers.get("error_bars", {})
        said = [confirmed[of] == 0] if of in confirmed else []
        said += [sure[of] == 1] if of in sure else []
        return np.logical_and.reduce(said) if said else None

    @property
    def subject(self) -> Subject:
        """What its figures are of, with the names that tie them together."""
        topology = self.result["topology"]
        stands = {of: found for of in ("bars", "leaves", "basins") if (found := self._stands(of)) is not None}
        links = {} if self.drawing.marks is None else self.drawing.marks.minima
        points, floor = self.result["grid"]["points"], float(topology["noise_floor"])
        return Subject(self.drawing, self.range, topology["n_minima"], points, floor, stands, links)

    @property
    def slices(self) -> list[tuple[int, ...]]:
        """The pairs of axes; the only axis of a line."""
        n = self.store.grid.ndim
        return list(itertools.combinations(range(n), min(n, 2)))


def write_report(folder: Path) -> Path:
    """Write `<folder>/report.html` from `results.json` and `study.zarr`, atomically, and return its path.

    Raises `InputError` where either is missing or of another format.
    """
    inside = StudyFolder(Path(folder))
    results = read_results(inside.results)
    with figures.style():
        asked = Study.asked_in(results["provenance"]["configuration"])
        if SCOPE in asked:
            return _write_scope(inside, results, asked)
        page = _page(results, [_open(inside.store, item, asked) for item in results["landscapes"]])
    publish(inside.report, sealed(page, inside.path))
    return inside.report


def _write_scope(inside: StudyFolder, results: Mapping[str, Any], asked: Mapping[str, Mapping[str, Any]]) -> Path:
    """The page of a study of which the lowest part was evaluated, and nothing is known of the whole."""
    found = []
    for item in results["landscapes"]:
        answer = LandscapeStore(inside.store, item["name"]).whole_answer(SCOPE, asked[SCOPE])
        found.append(_scope_figures(item, Drawing.from_arrays(answer.drawing)))
    page = (
        environment()
        .get_template("scope.html.j2")
        .render(
            results=results,
            landscapes=results["landscapes"],
            directions=described(results["landscapes"][0]["directions"]),
            rows=_rows(results["landscapes"]),
            figures=found,
            shown=LEAVES,
        )
    )
    publish(inside.report, sealed(page, inside.path))
    return inside.report


def _scope_figures(entry: Mapping[str, Any], drawing: Drawing) -> dict[str, Markup]:
    name, scope = entry["name"], entry["scope"]
    level = scope["level"]
    if not math.isfinite(level):  # all that was met is below it
        ends = np.concatenate([drawing.bars.birth, drawing.bars.death])
        level = float(ends[np.isfinite(ends)].max(initial=-math.inf))
    minima = scope["n_minima"]
    shown = Subject(drawing, (scope["lowest"], level), minima, 0)
    said = f"{name}: {refined.basins(minima)} below a loss of {text.number(scope['level'])}"
    return {
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


def _open(path: Path, result: Mapping[str, Any], asked: Mapping[str, Mapping[str, Any]]) -> _Landscape:
    store = LandscapeStore(path, result["name"])
    drawn = {name: store.whole_answer(name, question).drawing for name, question in asked.items()}
    return _Landscape(result, store, Drawing.from_arrays(store.drawing()), drawn)


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


def _page(results: Mapping[str, Any], landscapes: Sequence[_Landscape]) -> str:
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
            directions=described(results["landscapes"][0]["directions"]),
            sentences=[refined.sentence(item.result) for item in landscapes],
            levels=[refined.table(item.result) for item in landscapes],
            levels_header=refined.HEADER,
            tolerance=TOLERANCE,
            decided=DECIDED,
            rows=_rows(results["landscapes"]),
            lists={group: [_lists(item.result, group) for item in landscapes] for group in ("confirmed", "error_bars")},
            figures=[(_small_figures if small else _figures)(item, limits, one_scale) for item in landscapes],
            few=few,
            small=small,
            summary=None if few else _summary(results["landscapes"]),
            over=[] if few else _over_checkpoints(results["landscapes"]),
            one_scale=one_scale,
            trace=_trace(landscapes),
            smad_curve=_smad_curves(landscapes) if several else None,
            shown={"profile": PROFILE_BASINS, "profile_points": PROFILE_POINTS, "tree": LEAVES},
            data=_data([] if small else landscapes, limits if one_scale else None),
            isfinite=math.isfinite,
        )
    )


def _rows(landscapes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The table of numbers: those that at least one of the landscapes has."""
    rows = []
    for row in shown("page"):
        if row.kind.fields:
            continue
        values = [row.said(item) for item in landscapes]
        if any(value is not None for value in values):
            rows.append(
                {"label": row.label, "values": [value or row.text(None) for value in values], "meaning": row.meaning}
            )
    return rows


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


def _over_checkpoints(landscapes: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """What the page of a sweep draws over its checkpoints, over those of one study."""
    names = [item["name"] for item in landscapes]
    places = list(range(len(names)))
    return [
        draw(
            partial(
                figures.plot_series,
                {"": (places, [math.nan if (v := row.value(item)) is None else v for item in landscapes])},
                label=row.label,
                over="checkpoint",
                ticks=names,
            ),
            f"over-{row.column}",
            f"{row.label} over the checkpoints",
        )
        for row in shown("figure")
    ]


def _joint_limits(landscapes: Sequence[_Landscape]) -> tuple[float, float]:
    ranges = [item.range for item in landscapes if math.isfinite(item.range[0])]
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else (math.nan, math.nan)


def _share_a_scale(landscapes: Sequence[_Landscape], joint: tuple[float, float]) -> bool:
    """Whether slices of all landscapes have one scale of colours: if each makes use of enough of it."""

    def length(low: float, high: float) -> float:
        return math.log(high / low) if is_log(*joint) else high - low

    ranges = [item.range for item in landscapes if math.isfinite(item.range[0])]
    return all(length(*own) >= _ENOUGH * length(*joint) for own in ranges)


def _data(landscapes: Sequence[_Landscape], joint: tuple[float, float] | None) -> Markup:
    room, found = GRID_POINTS // max(1, len(landscapes)), []
    for item in landscapes:
        limits, fates = joint or item.range, item.answers.get("confirmed")
        found.append(landscape_data(item.result, item.store, item.drawing.marks, fates, limits, room))
    return script_data(found)


# ---- the figures ----------------------------------------------------------------------------------------------------


def _figures(item: _Landscape, joint: tuple[float, float], one_scale: bool) -> dict[str, Any]:
    """All figures of one landscape, as markup; None where there is none."""
    shown, name = item.subject, item.name
    found: dict[str, Any] = {"profile": None, "slices": []}
    basins = f"{name}: {refined.basins(shown.n_minima)}"
    if item.drawing.profile is not None:
        found["profile"] = draw(
            partial(figures.plot_profile, shown, limits=joint),
            f"profile-{name}",
            f"Landscape profile of {basins}, loss from {text.bounds(item.range)}",
        )
    found["barcode"] = draw(partial(figures.plot_barcode, shown), f"barcode-{name}", f"Persistence barcode of {basins}")
    found["tree"] = draw(partial(figures.plot_merge_tree, shown), f"tree-{name}", f"Merge tree of {basins}")
    found["confirmed"] = None
    if (confirmed := item.answers.get("confirmed")) is not None:
        birth, death, parent = confirmed["branches"]
        stands = np.isin(confirmed["kinds"], [KINDS.index(kind) for kind in CONFIRMED])
        ends = Drawing(Bars(*np.empty((4, 0))), Branches(birth, death, parent.astype(np.int64)), None)
        found["confirmed"] = draw(
            partial(figures.plot_merge_tree, Subject(ends, item.range, len(birth), 0, stands={"leaves": stands})),
            f"confirmed-{name}",
            f"Confirmed tree of {name}: {item.result['confirmed']['sentence']}",
        )
    for axes in item.slices:
        part = cut(item.store, axes)
        curvature = _curvature(item.result, axes)
        plot: Any = (
            partial(figures.plot_line, part, limits=item.range, curvature=curvature)
            if len(axes) == 1
            else partial(figures.plot_slice, part, limits=joint if one_scale else item.range)
        )
        found["slices"].append(
            draw(
                plot,
                f"slice-{name}-{'-'.join(map(str, axes))}",
                f"Loss of {name} over {' and '.join(part.labels)}",
                width=3.8,
                height=3.1,
                plane=axes,
            )
        )
    hessian = StoredDirections({}, np.empty((0, 0)), _hessian(item.result))
    found["hessian"] = []
    if "eigenvalues" in hessian.hessian:
        said = text.numbers(hessian.hessian["eigenvalues"].tolist())
        found["hessian"].append(
            draw(
                partial(figures.plot_eigenvalues, hessian),
                f"eigenvalues-{name}",
                f"Eigenvalues of {name}: {said}",
                3.4,
                2.6,
            )
        )
    if "density_nodes" in hessian.hessian:
        found["hessian"].append(
            draw(partial(figures.plot_density, hessian), f"density-{name}", f"Spectral density of {name}", 4.6, 2.6)
        )
    return found


def _small_figures(item: _Landscape, joint: tuple[float, float], one_scale: bool) -> dict[str, Any]:
    """The profile and the first slice of one of many landscapes, as pixels."""
    shown, name, part = item.subject, item.name, cut(item.store, item.slices[0])
    found: dict[str, Any] = {"small": [], "hessian": []}
    if item.drawing.profile is not None:
        alt = f"Landscape profile of {name}: {refined.basins(shown.n_minima)}"
        found["small"].append(paint(partial(figures.plot_profile, shown, limits=joint), alt, 3.4, 2.6))
    plot: Any = (
        partial(figures.plot_line, part, limits=item.range)
        if len(part.coordinates) == 1
        else partial(figures.plot_slice, part, limits=joint if one_scale else item.range, written=False)
    )
    found["small"].append(paint(plot, f"Loss of {name} over {' and '.join(part.labels)}", 3.4, 2.6))
    return found


def _hessian(entry: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """What is known of the Hessian at the checkpoint, as the store has it."""
    known = {name: entry["directions"].get(name) for name in ("eigenvalues", "residuals")}
    known |= {name: entry["hessian"].get(name) for name in ("density_nodes", "density_weights")}
    return {name: np.array(values, np.float64) for name, values in known.items() if values is not None}


def _curvature(entry: Mapping[str, Any], axes: Sequence[int]) -> float | None:
    """Second derivative of the loss along the only axis: of a parabola."""
    eigenvalues, gram = entry["directions"]["eigenvalues"], entry["directions"]["gram"]
    if len(axes) != 1 or eigenvalues is None:
        return None
    return float(eigenvalues[axes[0]] * gram[axes[0]][axes[0]])


def _trace(landscapes: Sequence[_Landscape]) -> Markup | None:
    """The traces of the Hessian side by side; None for less than two."""
    traces = {item.name: item.result["hessian"]["trace"] for item in landscapes}
    if sum(trace is not None for trace in traces.values()) < 2:
        return None
    return draw(partial(figures.plot_trace, traces), "trace", "Trace of the Hessian over the checkpoints", 4.6, 2.6)


def _smad_curves(landscapes: Sequence[_Landscape]) -> list[Markup]:
    curves = {
        item.name: Simplified(
            SmadCurve(**{key: np.array(values) for key, values in item.result["topology"]["curve"].items()}),
            item.range,
            float(item.result["topology"]["noise_floor"]),
        )
        for item in landscapes
        if item.result["topology"]["n_minima"]
    }
    return [
        draw(
            partial(figures.plot_over_threshold, curves, quantity=name),
            f"threshold-{name}",
            f"{label[0].upper()}{label[1:]} over the persistence threshold",
            width=4.6,
            height=2.6,
        )
        for name, label in LABELS.items()
    ]
