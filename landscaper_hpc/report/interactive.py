"""What the page's script needs to know, beside the figures: a few numbers of each basin, and small grids whole."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from landscaper_hpc.confirm.result import FATES
from landscaper_hpc.report import text
from landscaper_hpc.report.figures.slices import axis_label, colour_scale, nearest_to_checkpoint
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.topology.drawing import Marks

GRID_POINTS = 600_000
"""Of all landscapes of a page, how many points of the grid it holds at most, for its slices through other places."""
_COLOURS = 255  # one more stands for what is not finite
_GRID_ONLY = "the grid's alone"
_FATES = {
    "confirmed": "a confirmed minimum of the loss",
    "runs into another": f"{_GRID_ONLY}: it runs into another",
    "unconfirmed": f"{_GRID_ONLY}: not confirmed",
    "not followed": "not followed, so not known to be more than the grid's",
}


def script_data(entries: Sequence[Mapping[str, Any]]) -> Markup:
    """JSON within a page: of each landscape what `landscape_data` says, and the scale of colours."""
    palette = [to_hex(c) for c in mpl.colormaps["viridis"](np.linspace(0, 1, _COLOURS))]
    said = {"landscapes": list(entries), "palette": "".join(c[1:] for c in palette)}
    if not any("grid" in entry for entry in entries):
        del said["palette"]
    return Markup(json.dumps(said, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))


def landscape_data(
    entry: Mapping[str, Any],
    store: LandscapeStore,
    marks: Marks | None,
    fates: Mapping[str, NDArray[Any]] | None,
    limits: tuple[float, float],
    room: int,
) -> dict[str, Any]:
    """Of one landscape: its axes, its basins, and what is left without shallow ones; and its losses as numbers of
    colours where there are other places to cut it at, and no more than `room` of them."""
    coordinates = store.grid.coordinates()
    normalization = entry["directions"]["normalization"]
    found: dict[str, Any] = {
        "name": entry["name"],
        "axes": [axis_label(d, normalization) for d in range(store.grid.ndim)],
        "places": [[_short(c) for c in along.tolist()] for along in coordinates],
        "at": nearest_to_checkpoint(store),
        "basins": [] if marks is None else _basins(store, marks, fates),
    }
    curve = entry["topology"]["curve"]
    if entry["topology"]["n_minima"] > 1:
        found["curve"] = [
            [_short(t), text.number(t), n, text.number(climb), text.number(smad)]
            for t, n, climb, smad in zip(
                curve["thresholds"], curve["n_minima"], curve["mean_climb"], curve["smad"], strict=True
            )
        ]
    if store.grid.ndim > 2 and store.grid.size <= room and np.isfinite(limits).all():
        losses = store.loss().reshape(-1)
        finite = np.isfinite(losses)
        scaled = np.asarray(colour_scale(limits)(np.where(finite, np.clip(losses, *limits), limits[0])), np.float64)
        index = np.where(finite, np.rint(scaled * (_COLOURS - 1)), _COLOURS).astype(np.uint8)
        found["grid"] = base64.b64encode(index.tobytes()).decode()
    return found


def _basins(store: LandscapeStore, marks: Marks, fates: Mapping[str, NDArray[Any]] | None) -> list[list[Any]]:
    known = marks.basins
    at = [
        c[i] for c, i in zip(store.grid.coordinates(), np.unravel_index(known.minimum, store.grid.shape), strict=True)
    ]
    fate: dict[int, int] = {}
    if fates is not None:
        for of, minima in marks.minima.items():
            if of in fates:
                fate |= dict(zip(minima.tolist(), fates[of].tolist(), strict=False))
    rows = []
    for k, minimum in enumerate(known.minimum.tolist()):
        life = float(known.life[k])
        rows.append(
            [
                minimum,
                [_short(along[k]) for along in at],
                text.number(float(known.birth[k])),
                text.number(float(known.death[k])) if math.isfinite(known.death[k]) else None,
                _short(life) if math.isfinite(life) else None,
                text.number(life) if math.isfinite(life) else None,
                int(known.size[k]),
                _FATES[FATES[fate[minimum]]] if minimum in fate else None,
            ]
        )
    return rows


def _short(value: float) -> float:
    return float(f"{float(value):.6g}")
