"""Mean climb and SMAD as functions of the persistence threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from landscaper_hpc.report.figures.style import COLOURS, CYCLE, WRITTEN, of_powers
from landscaper_hpc.topology.metrics import SmadCurve

_DASHES = ["-", "--", "-.", ":"]


def plot_smad_curves(axes: Sequence[Axes], curves: Mapping[str, SmadCurve], noise_floor: float) -> None:
    """By name: mean climb, SMAD and the number of minima (on three `axes`) that remain without basins shallower than a
    threshold.

    The value without any threshold is a dot at the left end. Thresholds up to the noise floor are shaded where the
    figure reaches that low. Mean climb and SMAD are logarithmic down to the smallest positive value, and linear from
    there to 0.
    """
    top, middle, below = axes
    positive = np.concatenate([c.thresholds[c.thresholds > 0] for c in curves.values()])
    low, high = (positive.min() / 3, positive.max() * 3) if len(positive) else (1e-3, 1.0)
    dashes = cycle(_DASHES)
    for i, (name, curve) in enumerate(curves.items()):
        colour, dash = CYCLE[i % len(CYCLE)], next(dashes)
        x = np.append(np.maximum(curve.thresholds, low), high)
        for ax, y in ((top, curve.mean_climb), (middle, curve.smad), (below, curve.n_minima)):
            ax.step(x, np.append(y, y[-1]), where="post", color=colour, linestyle=dash, label=name)
            ax.plot(x[:1], y[:1], marker="o", color=colour, clip_on=False)
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xlim(low, high)
        of_powers(ax.xaxis, low, high)
        if low < noise_floor:
            ax.axvspan(low, noise_floor, color=COLOURS["noise"], alpha=0.2, linewidth=0)
    for ax, field, label in ((top, "mean_climb", "mean climb"), (middle, "smad", "SMAD")):
        values = np.concatenate([getattr(c, field) for c in curves.values()])
        if (values > 0).any():
            ax.set_yscale("symlog", linthresh=values[values > 0].min())
            ax.yaxis.set_minor_locator(NullLocator())
            ax.yaxis.set_major_formatter(WRITTEN)
        ax.set_ylim(bottom=0)
        ax.set_ylabel(label)
        ax.tick_params(labelbottom=False)
    top.legend()
    below.set_ylabel("minima")
    below.set_xlabel("persistence threshold (in units of the loss)")
    most = max(c.n_minima.max(initial=0) for c in curves.values())
    if most > 20:
        below.set_yscale("log")
        of_powers(below.yaxis, 1, most)
    else:
        below.set_ylim(bottom=0)
        below.yaxis.set_major_locator(MaxNLocator(integer=True))
