"""One self-contained page per study: figures, numbers and what they mean, from the store and `results.json`.

Everything on the page follows from those two, so the same study gives the same bytes. The words are in
`templates/report.html.j2`, numbers are the rows of `quantities`; this module reads, draws and arranges.
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
from matplotlib.axes import Axes
from numpy.typing import NDArray

from landscaper_hpc.confirm.ends import CONFIRMED, KINDS
from landscaper_hpc.directions.numbers import described
from landscaper_hpc.files import publish
from landscaper_hpc.report import figures, refined, text
from landscaper_hpc.report.current_page import sealed
from landscaper_hpc.report.figures.embed import draw, embed
from landscaper_hpc.report.quantities import shown
from landscaper_hpc.report.results import read_results
from landscaper_hpc.store.folder import StudyFolder
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import SCOPE
from landscaper_hpc.study.study import Study
from landscaper_hpc.topology.decided import DECIDED
from landscaper_hpc.topology.drawing import LEAVES, PROFILE_BASINS, PROFILE_POINTS, Branches, Drawing
from landscaper_hpc.topology.metrics import SmadCurve
from landscaper_hpc.topology.refinement import TOLERANCE

LISTED = 20
"""Entries of a list that the page shows; all are in `results.json`."""


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

    def stands(self, of: str) -> NDArray[np.bool_] | None:
        """Which of the drawing's "bars", "leaves" or "basins" stand in every answer; None where nothing was asked."""
        confirmed, sure = self.answers.get("confirmed", {}), self.answers.get("error_bars", {})
        said = [confirmed[of] == 0] if of in confirmed else []
        said += [sure[of] == 1] if of in sure else []
        return np.logical_and.reduce(said) if said else None

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
    minima, limits = scope["n_minima"], (scope["lowest"], level)
    said = f"{name}: {refined.basins(minima)} below a loss of {text.number(scope['level'])}"
    return {
        "barcode": draw(
            lambda ax: figures.plot_barcode(ax, drawing.bars, limits, 0.0, minima),
            f"barcode-{name}",
            f"Persistence barcode of {said}",
        ),
        "tree": draw(
            lambda ax: figures.plot_merge_tree(ax, drawing.branches, limits, minima),
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
    several = any(item.result["topology"]["n_minima"] > 1 for item in landscapes)
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
            figures=[_figures(item, limits) for item in landscapes],
            smad_curve=_smad_curves(landscapes) if several else None,
            shown={"profile": PROFILE_BASINS, "profile_points": PROFILE_POINTS, "tree": LEAVES},
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


def _joint_limits(landscapes: Sequence[_Landscape]) -> tuple[float, float]:
    ranges = [item.range for item in landscapes if math.isfinite(item.range[0])]
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else (math.nan, math.nan)


# ---- the figures ----------------------------------------------------------------------------------------------------


def _figures(item: _Landscape, joint: tuple[float, float]) -> dict[str, Any]:
    """All figures of one landscape, as markup; None where there is none."""
    own, topology, drawing = item.range, item.result["topology"], item.drawing
    minima = topology["n_minima"]
    found: dict[str, Any] = {"profile": None, "slices": []}
    basins = f"{item.name}: {refined.basins(minima)}"
    shown = item.answers.get("confirmed")
    if (profile := drawing.profile) is not None:
        found["profile"] = draw(
            lambda ax: figures.plot_profile(ax, profile, item.result["grid"]["points"], joint, item.stands("basins")),
            f"profile-{item.name}",
            f"Landscape profile of {basins}, loss from {text.bounds(own)}",
        )
    found["barcode"] = draw(
        lambda ax: figures.plot_barcode(ax, drawing.bars, own, topology["noise_floor"], minima, item.stands("bars")),
        f"barcode-{item.name}",
        f"Persistence barcode of {basins}",
    )
    found["tree"] = draw(
        lambda ax: figures.plot_merge_tree(ax, drawing.branches, own, minima, item.stands("leaves")),
        f"tree-{item.name}",
        f"Merge tree of {basins}",
    )
    found["confirmed"] = None
    if shown is not None:
        birth, death, parent = shown["branches"]
        ends = Branches(birth, death, parent.astype(np.int64))
        stands = np.isin(shown["kinds"], [KINDS.index(kind) for kind in CONFIRMED])
        found["confirmed"] = draw(
            lambda ax: figures.plot_merge_tree(ax, ends, own, len(birth), stands),
            f"confirmed-{item.name}",
            f"Confirmed tree of {item.name}: {item.result['confirmed']['sentence']}",
        )
    coordinates, labels = item.store.grid.coordinates(), _axis_labels(item.result["directions"])
    for axes in item.slices:
        losses = item.store.read(_through_checkpoint(coordinates, axes)).reshape([len(coordinates[a]) for a in axes])
        where = [coordinates[a] for a in axes], [labels[a] for a in axes]
        found["slices"].append(
            draw(
                partial(_draw_slice, losses=losses, limits=own, coordinates=where[0], labels=where[1]),
                f"slice-{item.name}-{'-'.join(map(str, axes))}",
                f"Loss of {item.name} over {' and '.join(where[1])}",
                width=3.8,
                height=3.1,
            )
        )
    return found


def _draw_slice(
    ax: Axes, coordinates: Sequence[Any], losses: Any, limits: tuple[float, float], labels: Sequence[str]
) -> None:
    if len(coordinates) == 1:
        figures.plot_line(ax, coordinates[0], losses, limits, labels[0])
    else:
        figures.plot_slice(ax, coordinates[0], coordinates[1], losses, limits, (labels[0], labels[1]))


def _through_checkpoint(coordinates: Sequence[Any], axes: Sequence[int]) -> tuple[slice, ...]:
    """The box of grid points over `axes`, at the point nearest to the checkpoint on the others."""
    at = [int(np.argmin(np.abs(c))) for c in coordinates]
    return tuple(slice(0, len(c)) if d in axes else slice(at[d], at[d] + 1) for d, c in enumerate(coordinates))


def _axis_labels(directions: Mapping[str, Any]) -> list[str]:
    unit = {"model": "‖Δθ‖/‖θ*‖", "unit": "‖Δθ‖", "imported": "as imported"}.get(
        directions["normalization"], f"{directions['normalization']} norm"
    )
    labels = []
    for i in range(directions["n"]):
        label = f"α{str(i + 1).translate(str.maketrans('0123456789', '₀₁₂₃₄₅₆₇₈₉'))} ({unit})"
        if directions["eigenvalues"] is not None:
            label += f", λ = {text.number(float(directions['eigenvalues'][i]))}"
        labels.append(label)
    return labels


def _smad_curves(landscapes: Sequence[_Landscape]) -> Markup:
    curves = {
        item.name: SmadCurve(**{key: np.array(values) for key, values in item.result["topology"]["curve"].items()})
        for item in landscapes
        if item.result["topology"]["n_minima"]
    }
    floor = max(float(item.result["topology"]["noise_floor"]) for item in landscapes)
    figure, above = figures.new_figure(7, 5.6)
    above.remove()
    figures.plot_smad_curves(figure.subplots(3, 1), curves, floor)
    return embed(figures.svg(figure), "smad", "Mean climb, SMAD and number of minima over the persistence threshold")
