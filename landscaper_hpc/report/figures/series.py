"""A number over checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from landscaper_hpc.errors import InputError
from landscaper_hpc.report.figures.curves import NAMED
from landscaper_hpc.report.figures.style import COLOURS, CYCLE, WRITTEN, drawn_on, is_log, of_powers, say

_DASHES = ["-", "--", "-.", ":"]
_MARKS = "osD^v"


def plot_series(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    ax: Axes | None = None,
    *,
    label: str = "",
    over: str = "",
    ticks: Sequence[str] = (),
    errors: Mapping[str, Sequence[float]] | None = None,
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
    errors
        By name: of each value, where they are known.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        Where a series has not one value for each place.
    """
    ax = drawn_on(ax)
    shown = {}
    for name, (x, y) in series.items():
        if len(x) != len(y):
            raise InputError(f"the series {name} has {len(x)} places and {len(y)} values; give one value for each")
        finite = np.isfinite(np.asarray(y, float))
        if finite.any():
            off = np.asarray((errors or {}).get(name, np.zeros(len(finite))), float)
            shown[name] = np.asarray(x, float)[finite], np.asarray(y, float)[finite], off[finite]
    ax.set_ylabel(label)
    ax.set_xlabel(over)
    if not shown:
        say(ax, "no values yet")
        return ax
    many = len(shown) > NAMED
    dashes, marks = cycle(_DASHES), cycle(_MARKS)
    for i, (name, (x, y, off)) in enumerate(shown.items()):
        look: dict[str, Any] = (
            {"color": COLOURS["deep"], "alpha": 0.4, "linewidth": 0.8}
            if many
            else {"color": CYCLE[i % len(CYCLE)], "linestyle": next(dashes), "label": name}
        )
        ax.plot(x, y, marker=next(marks) if not many else ".", markersize=4, **look)
        if off.any():
            ax.errorbar(x, y, yerr=off, fmt="none", ecolor=look["color"], capsize=4)
    values = np.concatenate([y for _, y, _ in shown.values()])
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


def plot_bars(
    values: Mapping[str, float],
    ax: Axes | None = None,
    *,
    label: str = "",
    over: str = "",
    errors: Mapping[str, float] | None = None,
) -> Axes:
    """A number of each of several things in their order, such as layers over depth: a bar each, orange below 0.

    Parameters
    ----------
    values
        By name; what is not finite is left out.
    ax
        Where to draw; by default in a new figure.
    label, over
        Of the axes: what the number is, and what it is of.
    errors
        Of each value, where they are known.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = drawn_on(ax)
    ax.set_ylabel(label)
    ax.set_xlabel(over)
    names = [name for name, value in values.items() if np.isfinite(value)]
    if not names:
        say(ax, "no values yet")
        return ax
    heights = np.array([values[name] for name in names])
    off = np.array([(errors or {}).get(name, 0.0) for name in names])
    whiskers: dict[str, Any] = {"yerr": off, "ecolor": COLOURS["ink"], "capsize": 4} if off.any() else {}
    ax.bar(
        range(len(names)),
        heights,
        width=0.7,
        color=[COLOURS["basin"] if value < 0 else COLOURS["deep"] for value in heights],
        **whiskers,
    )
    ax.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    few = np.linspace(0, len(names) - 1, min(len(names), 12)).round().astype(int)
    ax.set_xticks(few, [names[i] for i in few], rotation=30, ha="right")
    ax.yaxis.set_major_formatter(WRITTEN)
    ax.grid(axis="x", visible=False)
    return ax
