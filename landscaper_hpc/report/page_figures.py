"""The figures of a page: of each landscape, and of all together. What is drawn is what is stored.

(Longer than most modules: it is one list, in the order of the page.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray

from landscaper_hpc.confirm.ends import CONFIRMED, KINDS
from landscaper_hpc.report import figures, refined, text
from landscaper_hpc.report.figures.curves import LABELS, Simplified
from landscaper_hpc.report.figures.embed import draw, paint
from landscaper_hpc.report.figures.slices import cut
from landscaper_hpc.report.figures.subject import Subject
from landscaper_hpc.report.figures.trajectory import mark_places
from landscaper_hpc.report.metric_figures import metric_figures
from landscaper_hpc.report.quantities import shown
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import SAMPLING, StoredDirections
from landscaper_hpc.topology.drawing import Bars, Branches, Drawing
from landscaper_hpc.topology.metrics import SmadCurve


@dataclass(frozen=True)
class Landscape:
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


def over_checkpoints(landscapes: Sequence[Mapping[str, Any]]) -> list[Markup]:
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


def figures_of(item: Landscape, joint: tuple[float, float], one_scale: bool) -> dict[str, Any]:
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
        found["confirmed"] = confirmed_figure(item.result, confirmed, item.range)
    for axes in item.slices:
        part = cut(item.store, axes)
        curvature = _curvature(item.result, axes)
        plot: Any = (
            partial(figures.plot_line, part, limits=item.range, curvature=curvature)
            if len(axes) == 1
            else partial(figures.plot_slice, part, limits=joint if one_scale else item.range)
        )
        plot = with_places(plot, item.result, axes)
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
    found["metrics"] = list(metric_figures(item.result, item.store, item.slices))
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


def confirmed_figure(
    entry: Mapping[str, Any], drawn: Mapping[str, NDArray[Any]], limits: tuple[float, float]
) -> Markup:
    """The confirmed tree of a landscape."""
    return draw(
        partial(figures.plot_merge_tree, _of_ends(drawn["branches"], drawn["kinds"], limits)),
        f"confirmed-{entry['name']}",
        f"Confirmed tree of {entry['name']}: {entry['confirmed']['sentence']}",
    )


def _of_ends(drawn: NDArray[np.float64], kinds: NDArray[np.int64], limits: tuple[float, float]) -> Subject:
    """The tree of confirmed minima and other ends, which are hollow."""
    birth, death, parent = drawn
    stands = np.isin(kinds, [KINDS.index(kind) for kind in CONFIRMED])
    ends = Drawing(Bars(*np.empty((4, 0))), Branches(birth, death, parent.astype(np.int64)), None)
    return Subject(ends, limits, len(birth), 0, stands={"leaves": stands})


def sampling_figures(entry: Mapping[str, Any], answers: Mapping[str, Mapping[str, NDArray[Any]]]) -> dict[str, Markup]:
    """The figures of scattered points, and of the network that they lead to, where there is one."""
    name, told, drawn = entry["name"], entry["sampling"], answers[SAMPLING]
    low, high = told["range"]
    shown = Subject(Drawing.from_arrays(drawn), (low, high), told["n_minima"], told["points"])
    said = f"{refined.basins(told['n_minima'])} of scattered points"

    def profile(ax: Axes) -> None:
        figures.plot_profile(shown, ax)
        ax.set_xlabel(ax.get_xlabel().replace("grid", "scattered"))

    found = {
        "profile": draw(profile, f"profile-{name}", f"Landscape profile of {name}: {said}"),
        "barcode": draw(
            partial(figures.plot_barcode, shown), f"barcode-{name}", f"Persistence barcode of {name}: {said}"
        ),
    }
    if "network" in drawn:
        birth, death, _ = drawn["network"]
        ends = np.concatenate([birth, death])
        ends = ends[np.isfinite(ends)]
        limits = (float(ends.min(initial=low)), float(ends.max(initial=low)))
        found["network"] = draw(
            partial(figures.plot_merge_tree, _of_ends(drawn["network"], drawn["kinds"], limits)),
            f"network-{name}",
            f"Disconnectivity tree of {name}: {told['network']['sentence']}",
        )
    return found


def small_figures(item: Landscape, joint: tuple[float, float], one_scale: bool, room: int) -> dict[str, Any]:
    """The profile and the first slice of one of many landscapes, as pixels where they would take more than `room`."""
    shown, name, axes = item.subject, item.name, item.slices[0]
    part = cut(item.store, axes)
    found: dict[str, Any] = {"profile": None, "slices": [], "hessian": [], "metrics": []}

    def small(plot: Any, key: str, alt: str, plane: Sequence[int] = ()) -> Markup:
        nonlocal room
        made = draw(plot, f"{key}-{name}", alt, *_SMALL, plane=plane)
        made = made if len(made) <= room else paint(plot, alt, *_SMALL)
        room -= len(made)
        return made

    plot: Any = (
        partial(figures.plot_line, part, limits=item.range)
        if len(axes) == 1
        else partial(figures.plot_slice, part, limits=joint if one_scale else item.range, written=False)
    )
    plot = with_places(plot, item.result, axes)
    found["slices"].append(small(plot, "slice", f"Loss of {name} over {' and '.join(part.labels)}", axes))
    if item.drawing.profile is not None:
        alt = f"Landscape profile of {name}: {refined.basins(shown.n_minima)}"
        found["profile"] = small(partial(figures.plot_profile, shown, limits=joint), "profile", alt)
    return found


_SMALL = (3.4, 2.6)
_NAMED = 6
"""Up to so many checkpoints have their names in slices."""


def with_places(plot: Callable[[Axes], object], entry: Mapping[str, Any], axes: Sequence[int]) -> Any:
    """A slice with the checkpoints of the trajectory, where there are some: joined, or those of a plane named."""
    places = entry.get("trajectory", {}).get("checkpoints")
    if not places:
        return plot
    points = np.array([[place["point"][axis] for axis in axes] for place in places])
    apart = entry["directions"]["kind"] == "plane" and len(places) <= _NAMED
    names = [PurePath(place["file"]).stem for place in places] if apart else []

    def both(ax: Axes) -> None:
        plot(ax)
        mark_places(ax, points, names)

    return both


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


def trace_of(landscapes: Sequence[Landscape]) -> Markup | None:
    """The traces of the Hessian side by side; None for less than two."""
    traces = {item.name: item.result["hessian"]["trace"] for item in landscapes}
    if sum(trace is not None for trace in traces.values()) < 2:
        return None
    return draw(partial(figures.plot_trace, traces), "trace", "Trace of the Hessian over the checkpoints", 4.6, 2.6)


def distances_between(names: Sequence[str], found: Mapping[str, Any] | None) -> list[Markup]:
    """How far landscapes are from each other; nothing where that is not known."""
    if found is None:
        return []
    size = min(7.0, 3.0 + 0.15 * len(names))
    return [
        draw(
            partial(figures.plot_distances, np.array(found[kind], float), names, label=f"{said} distance (loss)"),
            f"distances-{kind}",
            f"{said} distance between any two landscapes",
            width=size + 0.8,
            height=size,
        )
        for kind, said in (("bottleneck", "bottleneck"), ("wasserstein", "Wasserstein"))
    ]


def smad_curves(landscapes: Sequence[Landscape]) -> list[Markup]:
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
