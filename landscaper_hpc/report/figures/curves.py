"""SMAD as a function of the persistence threshold."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from landscaper_hpc.report.figures.style import COLOURS, CYCLE
from landscaper_hpc.topology.metrics import SmadCurve

_DASHES = ["-", "--", "-.", ":"]


def plot_smad_curves(above: Axes, below: Axes, curves: Mapping[str, SmadCurve], noise_floor: float) -> None:
    """By name: SMAD (`above`) and the number of minima (`below`) that remain without basins shallower than a threshold.

    The value without any threshold is a dot at the left end. Thresholds up to the noise floor are shaded where the
    figure reaches that low. SMAD is logarithmic down to the smallest positive value, and linear from there to 0.
    """
    positive = np.concatenate([c.thresholds[c.thresholds > 0] for c in curves.values()])
    low, high = (positive.min() / 3, positive.max() * 3) if len(positive) else (1e-3, 1.0)
    dashes = cycle(_DASHES)
    for i, (name, curve) in enumerate(curves.items()):
        colour, dash = CYCLE[i % len(CYCLE)], next(dashes)
        x = np.append(np.maximum(curve.thresholds, low), high)
        for ax, y in ((above, curve.smad), (below, curve.n_minima)):
            ax.step(x, np.append(y, y[-1]), where="post", color=colour, linestyle=dash, label=name)
            ax.plot(x[:1], y[:1], marker="o", color=colour, clip_on=False)
    for ax in (above, below):
        ax.set_xscale("log")
        ax.set_xlim(low, high)
        if low < noise_floor:
            ax.axvspan(low, noise_floor, color=COLOURS["noise"], alpha=0.2, linewidth=0)
    heights = np.concatenate([c.smad[c.smad > 0] for c in curves.values()])
    if len(heights):
        above.set_yscale("symlog", linthresh=heights.min())
    above.set_ylim(bottom=0)
    above.set_ylabel("SMAD")
    above.tick_params(labelbottom=False)
    above.legend()
    below.set_ylabel("minima")
    below.set_xlabel("persistence threshold (in units of the loss)")
    if max(c.n_minima.max(initial=0) for c in curves.values()) > 20:
        below.set_yscale("log")
    else:
        below.set_ylim(bottom=0)
        below.yaxis.set_major_locator(MaxNLocator(integer=True))
