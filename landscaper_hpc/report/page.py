"""One self-contained page per study: figures, numbers and what they mean, from the store and `results.json`.

Everything on the page follows from those two, so the same study gives the same bytes. The words are in
`templates/report.html.j2`; this module reads, draws and arranges.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes

from landscaper_hpc.errors import InputError
from landscaper_hpc.files import publish
from landscaper_hpc.report import figures
from landscaper_hpc.report.figures.embed import draw, embed
from landscaper_hpc.report.results import SCHEMA
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.topology import MergeTree, merge_tree
from landscaper_hpc.topology.metrics import smad_curve
from landscaper_hpc.topology.profile import landscape_profile

_PROFILE_POINTS = 50_000_000  # a profile needs the whole grid in memory, about 100 bytes per point
_PROFILE_BASINS = 300
_LEAVES = 200


@dataclass(frozen=True)
class _Landscape:
    """A landscape's entry in `results.json`, its store and its merge tree (with labels where memory allows)."""

    result: Mapping[str, Any]
    store: LandscapeStore
    tree: MergeTree

    @property
    def name(self) -> str:
        return str(self.result["name"])

    @property
    def on_edge(self) -> int:
        """How many minima lie on the edge of the grid."""
        index = np.unravel_index(self.tree.minima, self.tree.shape)
        edge = [(i == 0) | (i == k - 1) for i, k in zip(index, self.tree.shape, strict=True)]
        return int(np.count_nonzero(np.any(edge, axis=0)))

    @property
    def skew(self) -> float:
        """The largest |cosine| between two directions."""
        gram = np.array(self.result["directions"]["gram"], np.float64)
        length = np.sqrt(np.diag(gram))
        cosine = np.abs(gram / np.outer(length, length))
        np.fill_diagonal(cosine, 0)
        return float(cosine.max())

    @property
    def slices(self) -> list[tuple[int, ...]]:
        """The pairs of axes; the only axis of a line."""
        n = self.store.grid.ndim
        return list(itertools.combinations(range(n), min(n, 2)))


def write_report(folder: Path) -> Path:
    """Write `<folder>/report.html` from `results.json` and `study.zarr`, atomically, and return its path.

    Raises `InputError` where either is missing or of another format.
    """
    folder = Path(folder)
    results = _read(folder / "results.json")
    with figures.style():
        page = _page(results, [_open(folder / "study.zarr", item) for item in results["landscapes"]])
    path = folder / "report.html"
    publish(path, page.encode())
    return path


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
        schema = found["schema"]
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); `landscaper-hpc run` makes it") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file}: is not a study's results; `landscaper-hpc run` makes it again") from None
    if schema != SCHEMA:
        raise InputError(f"{file}: has format {schema!r}, this version reads {SCHEMA}; run the study again")
    return _numbers(found)  # type: ignore[no-any-return]


def _numbers(value: Any) -> Any:
    """`results.json` writes numbers that are not finite as strings."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def _open(path: Path, result: Mapping[str, Any]) -> _Landscape:
    store = LandscapeStore(path, result["name"])
    if store.grid.size <= _PROFILE_POINTS:
        return _Landscape(result, store, merge_tree(store.loss(), result["connectivity"], labels=True))
    return _Landscape(result, store, store.tree())


# ---- the page -------------------------------------------------------------------------------------------------------


def environment() -> Environment:
    """Where templates of pages are found, and how they write numbers."""
    made = Environment(
        loader=PackageLoader("landscaper_hpc"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"num": number, "count": lambda n: f"{n:,}", "percent": percent}
    return made


def _page(results: Mapping[str, Any], landscapes: Sequence[_Landscape]) -> str:
    limits = _joint_limits(landscapes)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            results=results,
            landscapes=landscapes,
            figures=[_figures(item, limits) for item in landscapes],
            smad_curve=_smad_curves(landscapes) if any(item.tree.n_minima > 1 for item in landscapes) else None,
            shown={"profile": _PROFILE_BASINS, "tree": _LEAVES},
            isfinite=math.isfinite,
        )
    )


def _joint_limits(landscapes: Sequence[_Landscape]) -> tuple[float, float]:
    ranges = [item.tree.value_range for item in landscapes if math.isfinite(item.tree.value_range[0])]
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else (math.nan, math.nan)


def number(value: float | None) -> str:
    """Four significant digits, in words' notation: 0.0125, 17,541, 3.574 × 10⁻⁵."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    mantissa, _, exponent = f"{value:.3e}".partition("e")
    if value == 0 or -4 <= int(exponent) <= 5:
        digits = max(0, 3 - int(exponent))
        text = f"{value:,.{digits}f}"
        return _sign(text.rstrip("0").rstrip(".") if "." in text else text)
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return _sign(f"{mantissa.rstrip('0').rstrip('.')} × 10{raised}")


def _sign(text: str) -> str:
    return text.replace("-", "−")


def percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


# ---- the figures ----------------------------------------------------------------------------------------------------


def _figures(item: _Landscape, joint: tuple[float, float]) -> dict[str, Any]:
    """All figures of one landscape, as markup; None where there is none."""
    tree, own = item.tree, item.tree.value_range
    topology = item.result["topology"]
    found: dict[str, Any] = {"profile": None, "slices": []}
    basins = f"{item.name}: {_basins(tree.n_minima)}"
    if tree.labels is not None:
        profile = landscape_profile(item.store.loss(), most_persistent(tree, _PROFILE_BASINS))
        found["profile"] = draw(
            lambda ax: figures.plot_profile(ax, profile, tree.n_vertices, joint),
            f"profile-{item.name}",
            f"Landscape profile of {basins}, loss from {number(own[0])} to {number(own[1])}",
        )
    found["barcode"] = draw(
        lambda ax: figures.plot_barcode(ax, tree, own, topology["noise_floor"]),
        f"barcode-{item.name}",
        f"Persistence barcode of {basins}",
    )
    found["tree"] = draw(
        lambda ax: figures.plot_merge_tree(ax, most_persistent(tree, _LEAVES), own, tree.n_minima),
        f"tree-{item.name}",
        f"Merge tree of {basins}",
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
    unit = {"model": "‖Δθ‖/‖θ*‖", "unit": "‖Δθ‖"}.get(
        directions["normalization"], f"{directions['normalization']} norm"
    )
    labels = []
    for i in range(directions["n"]):
        label = f"α{str(i + 1).translate(str.maketrans('0123456789', '₀₁₂₃₄₅₆₇₈₉'))} ({unit})"
        if directions["eigenvalues"] is not None:
            label += f", λ = {number(float(directions['eigenvalues'][i]))}"
        labels.append(label)
    return labels


def _smad_curves(landscapes: Sequence[_Landscape]) -> Markup:
    curves = {item.name: smad_curve(item.tree) for item in landscapes if item.tree.n_minima}
    floor = max(float(item.result["topology"]["noise_floor"]) for item in landscapes)
    figure, above = figures.new_figure(7, 4.2)
    above.remove()
    above, below = figure.subplots(2, 1)
    figures.plot_smad_curves(above, below, curves, floor)
    return embed(figures.svg(figure), "smad", "SMAD and number of minima over the persistence threshold")


def most_persistent(tree: MergeTree, most: int) -> MergeTree:
    """The tree of at most the `most` most persistent minima; of several that are equally persistent all or none."""
    if tree.n_minima <= most:
        return tree
    threshold = float(np.sort(tree.lifetimes)[-most])
    if np.count_nonzero(tree.lifetimes >= threshold) > most:
        threshold = math.nextafter(threshold, math.inf)
    return tree.simplify(threshold)


def _basins(n: int) -> str:
    return {0: "no basin", 1: "a single basin"}.get(n, f"{n:,} basins")
