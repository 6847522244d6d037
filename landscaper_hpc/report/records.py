"""Lists that are told of a landscape, one entry a minimum or a pair: what `quantities` is for single numbers.

An entry is a dict with a key for each of the list's fields; the most persistent minimum comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.comparison.weight_spectra import PowerLaws
from landscaper_hpc.confirm.ends import KINDS
from landscaper_hpc.confirm.result import PASSES, Confirmed
from landscaper_hpc.confirm.surface import Box
from landscaper_hpc.grid import Grid
from landscaper_hpc.report.quantity import COUNT, COUNTS, FLAG, NUMBER, NUMBERS, SHARE, TEXT, Field, MetricsAt, records
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.topology.basins import per_basin
from landscaper_hpc.topology.drawing import LEAVES, longest
from landscaper_hpc.topology.error_bars import ErrorBars
from landscaper_hpc.topology.tree import MergeTree

Entry = dict[str, Any]

ENDS = records(
    Field("kind", "what it is", "", f"one of {', '.join(KINDS)}", TEXT),
    Field("loss", "loss", "loss", "there", NUMBER),
    Field("persistence", "persistence", "loss", "in the tree of these ends; null: nothing ends it", NUMBER),
    Field(
        "grid_minima",
        "minima that lead there",
        "",
        "of the grid, or of scattered points; 0: found beyond a saddle",
        COUNT,
    ),
    Field("gradient_norm", "‖∇f‖", "loss/α", "of the exact gradient, along the faces that it lies on", NUMBER),
    Field("eigenvalues", "eigenvalues", "loss/α²", "of the exact Hessian, along these faces; none on a kink", NUMBERS),
    Field("point", "α", "", "its coordinates", NUMBERS),
)
JOINS = records(
    Field("ends", "between", "", "places in the list of ends, from 0", COUNTS),
    Field(
        "kind",
        "what it is",
        "",
        f"one of {', '.join(PASSES)}: without a saddle searches led to saddles between others, or to none",
        TEXT,
    ),
    Field("loss", "loss", "loss", "at which they meet", NUMBER),
    Field(
        "eigenvalues", "eigenvalues", "loss/α²", "at the saddle, one negative; null where none was confirmed", NUMBERS
    ),
    Field("point", "α", "", "coordinates of the saddle; null where none was confirmed", NUMBERS),
)
HEIGHTS = records(
    Field("minimum", "minimum", "", "its index in the grid", COUNTS),
    Field("loss", "loss", "loss", "there", NUMBER),
    Field("height", "height", "loss", "up to where a deeper one takes it in, by all data; null if none does", NUMBER),
    Field("standard_error", "standard error", "loss", "of the height, paired: over the same groups of data", NUMBER),
    Field("p_value", "p", "", "of “it is no higher”, after Holm's correction", NUMBER),
    Field("rounding", "rounding", "loss", "by how much it moves the height", NUMBER),
    Field("stands", "stands", "", "p < 0.05 and higher than rounding, or nothing ends it", FLAG),
)
PLACES = records(
    Field("file", "checkpoint", "", "as the study names it", TEXT),
    Field("point", "α", "", "of the point of the directions' space that is nearest to it", NUMBERS),
    Field("share", "share", "", "of its squared distance from θ* that lies in that space", SHARE),
    Field("distance", "distance", "‖Δθ‖/‖θ*‖", "from θ*, all of it", NUMBER),
    Field("on_grid", "on the grid", "", "whether that point lies within the grid's ranges", FLAG),
    Field("sha256", "SHA-256", "", "of the file, or of all files of a folder", TEXT),
)
_NAME = Field("name", "metric", "", "as the task calls it", TEXT)
_VALUES = (
    Field("mean", "mean", "", "over the points where it is finite", NUMBER),
    Field("lowest", "lowest", "", "of the finite ones", NUMBER),
    Field("highest", "highest", "", "of the finite ones", NUMBER),
    Field("n_nonfinite", "not finite", "", "NaN, +∞ and −∞: kept as they came", COUNT),
)
_MEANS = Field("means", "means", "", "of each metric over these points, in the order of the metrics", NUMBERS)
_MINIMUM = Field("minimum", "minimum", "", "its index in the grid", COUNTS)
_THERE = Field("loss", "loss", "loss", "there", NUMBER)
METRICS = records(
    _NAME, Field("checkpoint", "at the checkpoint", "", "at the grid point nearest to it", NUMBER), *_VALUES
)
BASINS = records(_MINIMUM, _THERE, Field("points", "points", "", "of the grid, that descend to it", COUNT), _MEANS)
METRICS_OF_SCOPE = records(
    _NAME, Field("checkpoint", "at the checkpoint", "", "null where it is no point of the grid", NUMBER), *_VALUES
)
METRICS_OF_POINTS = records(_NAME, *_VALUES)
BASINS_OF_SCOPE = records(
    _MINIMUM, _THERE, Field("points", "points", "", "below the level, that descend to it", COUNT), _MEANS
)
BASINS_OF_POINTS = records(
    Field("point", "α", "", "of the minimum", NUMBERS),
    _THERE,
    Field("points", "points", "", "of the scattered ones, that descend to it", COUNT),
    _MEANS,
)
EXPONENTS = records(
    Field("layer", "layer", "", "its name in the model", TEXT),
    Field("alpha", "α", "", "of the tail of the eigenvalues of WᵀW", NUMBER),
    Field("error", "standard error", "", "of the fit, (α − 1)/√(eigenvalues of the tail)", NUMBER),
    Field("largest", "λ_max", "", "the largest eigenvalue of WᵀW", NUMBER),
)


def metrics(store: LandscapeStore) -> list[Entry]:
    """What each metric of the task is over the whole grid."""
    here = tuple(int(np.argmin(np.abs(axis))) for axis in store.grid.coordinates())
    found = []
    for name in store.metrics:
        values = store.metric(name)
        found.append({"name": name, "checkpoint": float(values[here]), **_summary(values)})
    return found


def metrics_of_scope(at: MetricsAt) -> list[Entry]:
    """What each metric of the task is over the points that were met below a level."""
    here = at.checkpoint or {}
    return [{"name": name, "checkpoint": here.get(name), **_summary(values)} for name, values in at.values.items()]


def metrics_of_points(at: MetricsAt) -> list[Entry]:
    """What each metric of the task is over scattered points."""
    return [{"name": name, **_summary(values)} for name, values in at.values.items()]


def _summary(values: NDArray[np.float64]) -> Entry:
    finite = values[np.isfinite(values)]
    known = finite.size > 0
    return {
        "mean": float(finite.mean()) if known else None,
        "lowest": float(finite.min()) if known else None,
        "highest": float(finite.max()) if known else None,
        "n_nonfinite": values.size - finite.size,
    }


def basins_with_metrics(tree: MergeTree, labels: NDArray[Any], store: LandscapeStore) -> list[Entry]:
    """What the metrics of the task are in the most persistent basins of the loss."""
    return _basins(tree, labels, map(store.metric, store.metrics), None)


def basins_of_part(tree: MergeTree, at: MetricsAt) -> list[Entry]:
    """The same of the points that are known."""
    return _basins(tree, at.labels, at.values.values(), at.alphas)


def _basins(
    tree: MergeTree, labels: NDArray[Any], values: Iterable[NDArray[np.float64]], alphas: NDArray[np.float64] | None
) -> list[Entry]:
    means = [per_basin(labels, of_one, tree.n_minima) for of_one in values]

    def place(minimum: np.int64) -> Entry:
        if alphas is not None:
            return {"point": alphas[minimum].tolist()}
        return {"minimum": [int(i) for i in np.unravel_index(minimum, tree.shape)]}

    return [
        {
            **place(tree.minima[basin]),
            "loss": float(tree.values[basin]),
            "points": int(tree.basin_size[basin]),
            "means": [float(of_one[basin]) for of_one in means],
        }
        for basin in longest(tree, LEAVES).tolist()
    ]


def exponents(found: PowerLaws) -> list[Entry]:
    """Of each layer, in the order of the model."""
    columns = (found.alpha.tolist(), found.error.tolist(), found.largest.tolist())
    return [
        {"layer": layer, "alpha": alpha, "error": error, "largest": largest}
        for layer, alpha, error, largest in zip(found.layers, *columns, strict=True)
    ]


def ends(found: Confirmed, grid: Grid) -> list[Entry]:
    """Where minima of the grid lead, and what was found beyond saddles."""
    box = Box.of(grid)
    low, high = box.alpha(np.stack([np.zeros_like(box.far), box.far]))
    held = ((found.points <= low) & (found.gradients > 0)) | ((found.points >= high) & (found.gradients < 0))
    steepness = np.linalg.norm(np.where(held, 0.0, found.gradients), axis=1)
    lead, life = np.bincount(found.ends, minlength=len(found.kinds)), _lifetimes(found)
    return [
        {
            "kind": KINDS[int(found.kinds[i])],
            "loss": float(found.values[i]),
            "persistence": float(life[i]) if np.isfinite(life[i]) else None,
            "grid_minima": int(lead[i]),
            "gradient_norm": float(steepness[i]),
            "eigenvalues": _known(found.eigenvalues[i]),
            "point": found.points[i].tolist(),
        }
        for i in _order(found).tolist()
    ]


def joins(found: Confirmed) -> list[Entry]:
    """Where they meet, the lowest pass first."""
    place = np.argsort(_order(found))
    return [
        {
            "ends": sorted(place[pair].tolist()),
            "kind": kind,
            "loss": float(height),
            "eigenvalues": None if saddle < 0 else _known(found.saddle_eigenvalues[saddle]),
            "point": None if saddle < 0 else found.saddle_points[saddle].tolist(),
        }
        for pair, kind, height, saddle in zip(
            found.joins, found.passes, found.heights, found.saddles.tolist(), strict=True
        )
    ]


def _known(eigenvalues: NDArray[np.float64]) -> list[float]:
    """Without those across the faces of the box."""
    return eigenvalues[~np.isnan(eigenvalues)].tolist()  # type: ignore[no-any-return]


def _lifetimes(found: Confirmed) -> NDArray[np.float64]:
    """Of each end in the confirmed tree: infinite where nothing takes it in, NaN where it is no minimum of it."""
    life = np.full(len(found.kinds), np.nan)
    minima = found.tree.minima
    life[minima[minima < len(life)]] = found.tree.lifetimes[minima < len(life)]
    return life


def _order(found: Confirmed) -> NDArray[np.int64]:
    """The ends, by index, the most persistent first; NaN last."""
    return np.argsort(-_lifetimes(found), kind="stable")


def heights(bars: ErrorBars, tree: MergeTree) -> list[Entry]:
    """How sure each persistence pair is that was looked at."""
    life = tree.lifetimes[bars.minima]
    index = np.stack(np.unravel_index(tree.minima[bars.minima], tree.shape), axis=1)

    def number(values: NDArray[np.float64], i: int) -> float | None:
        return None if bars.essential[i] else float(values[i])

    return [
        {
            "minimum": index[i].tolist(),
            "loss": float(tree.values[bars.minima[i]]),
            "height": number(bars.difference, i),
            "standard_error": number(bars.standard_error, i),
            "p_value": number(bars.p_value, i),
            "rounding": number(bars.rounding, i),
            "stands": bool(bars.stands[i]),
        }
        for i in np.argsort(-life, kind="stable").tolist()
    ]


def places(
    files: Sequence[str], digests: Sequence[str], found: Mapping[str, NDArray[np.float64]], grid: Grid
) -> list[Entry]:
    """Where the checkpoints of a trajectory lie, in their order."""
    length = float(found["length"])
    return [
        {
            "file": file,
            "point": alpha.tolist(),
            "share": float(share),
            "distance": float(distance) / length if length else None,
            "on_grid": all(axis.lower <= a <= axis.upper for a, axis in zip(alpha.tolist(), grid.axes, strict=True)),
            "sha256": digest,
        }
        for file, digest, alpha, share, distance in zip(
            files, digests, found["alphas"], found["shares"], found["distances"], strict=True
        )
    ]
