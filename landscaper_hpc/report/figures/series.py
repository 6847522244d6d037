"""A number over checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from landscaper_hpc.report.figures.curves import NAMED
from landscaper_hpc.report.figures.style import COLOURS, CYCLE, drawn_on, is_log, of_powers, say

_DASHES = ["-", "--", "-.", ":"]
_MARKS = "osD^v"


def plot_series(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    ax: Axes | None = None,
    *,
    label: str = "",
    over: str = "",
    ticks: Sequence[str] = (),
) -> Axes:
    """A number over steps, checkpoints or the values of a key, one line for each name.

    Values that are not finite are left out. With more lines than colours can tell apart all are drawn alike.

    Parameters
    ----------
    series
        By name: places on the x axis, and values.
    ax
        Where to draw; by default in a new figure.
    label, over
        Of the axes: what the number is, and what it is over.
    ticks
        Names of the places 0, 1, …; none where places are numbers.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = drawn_on(ax)
    shown = {}
    for name, (x, y) in series.items():
        finite = np.isfinite(np.asarray(y, float))
        if finite.any():
            shown[name] = np.asarray(x, float)[finite], np.asarray(y, float)[finite]
    ax.set_ylabel(label)
    ax.set_xlabel(over)
    if not shown:
        say(ax, "no values yet")
        return ax
    many = len(shown) > NAMED
    dashes, marks = cycle(_DASHES), cycle(_MARKS)
    for i, (name, (x, y)) in enumerate(shown.items()):
        look = (
            {"color": COLOURS["deep"], "alpha": 0.4, "linewidth": 0.8}
            if many
            else {"color": CYCLE[i % len(CYCLE)], "linestyle": next(dashes), "label": name}
        )
        ax.plot(x, y, marker=next(marks) if not many else ".", markersize=4, **look)
    values = np.concatenate([y for _, y in shown.values()])
    if is_log(values.min(), values.max()):
        ax.set_yscale("log")
        of_powers(ax.yaxis, values.min(), values.max())
    elif values.min() >= 0:
        ax.set_ylim(bottom=0, top=values.max() * 1.05 or 1.0)
    if ticks:
        few = np.linspace(0, len(ticks) - 1, min(len(ticks), 8)).round().astype(int)
        ax.set_xticks(few, [ticks[i] for i in few], rotation=30, ha="right")
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not many and len(shown) > 1:
        ax.legend()
    return ax
