"""Numbers over the points along a direction, for ranges, connectivities and numbers of directions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from landscaper_hpc.errors import InputError
from landscaper_hpc.report import text
from landscaper_hpc.report.figures.style import CYCLE, drawn_on, say

if TYPE_CHECKING:
    from landscaper_hpc.topology.sensitivity import Row

_DASHES = ["-", "--", ":"]
Quantity = Literal["mean_climb", "smad", "n_minima", "confirmed_minima"]
_LABELS = {"mean_climb": "mean climb", "smad": "SMAD", "n_minima": "minima", "confirmed_minima": "confirmed minima"}


def plot_sensitivity(
    rows: Sequence[Row], ax: Axes | None = None, *, quantity: Quantity = "mean_climb", directions: int | None = None
) -> Axes:
    """A number over the points along the first direction: colours are shares of the range, dashes connectivities; a
    line joins the grids of one range.

    Parameters
    ----------
    rows
        Of the table of `sensitivity`.
    ax
        Where to draw; by default in a new figure.
    quantity
        Which of its numbers.
    directions
        Of the rows with so many directions; by default with the most that there are.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        For a quantity that there is not.
    """
    if quantity not in _LABELS:
        raise InputError(f"quantity is {quantity!r}; choose one of {', '.join(_LABELS)}")
    ax = drawn_on(ax)
    if not rows:
        say(ax, "no parts of the grid to compare")
        return ax
    _draw(ax, rows, quantity, max(row.directions for row in rows) if directions is None else directions)
    ax.legend()
    return ax


def _draw(ax: Axes, rows: Sequence[Row], quantity: Quantity, n: int) -> None:
    """A panel without its legend."""
    shares = sorted({row.share for row in rows}, reverse=True)
    connectivities = list(dict.fromkeys(row.connectivity for row in rows))
    for share, connectivity in itertools.product(shares, connectivities):
        line = [r for r in rows if (r.directions, r.share, r.connectivity) == (n, share, connectivity)]
        ax.plot(
            [r.shape[0] for r in line],
            [getattr(r, quantity) for r in line],
            color=CYCLE[shares.index(share) % len(CYCLE)],
            linestyle=_DASHES[connectivities.index(connectivity) % len(_DASHES)],
            marker="o",
            markersize=3,
            label=f"{text.percent(share)} of the range, {connectivity}" if line else None,
        )
    ax.set(title=f"{n} direction{'s' if n > 1 else ''}", xlabel="points along the first", ylabel=_LABELS[quantity])
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    if "minima" in quantity:
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))


def draw_sensitivity(rows: Sequence[Row]) -> Figure:
    """One column for each number of directions; mean climb, SMAD, minima, and those that were confirmed where they were
    followed, below each other."""
    followed = any(row.confirmed_minima is not None for row in rows)
    shown = [q for q in get_args(Quantity) if followed or q != "confirmed_minima"]
    directions = sorted({row.directions for row in rows})
    figure = Figure(figsize=(3.2 * len(directions) + 1.6, 0.5 + 2 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), len(directions), sharex="col", squeeze=False)
    for (place, quantity), (column, n) in itertools.product(enumerate(shown), enumerate(directions)):
        ax = axes[place, column]
        _draw(ax, rows, quantity, n)
        if place:
            ax.set_title("")
        if column:
            ax.set_ylabel("")
        if place + 1 < len(shown):
            ax.set_xlabel("")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper")
    return figure
