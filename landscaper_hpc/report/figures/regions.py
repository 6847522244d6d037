"""Numbers over the points along a direction, for ranges, connectivities and numbers of directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from landscaper_hpc.report import text
from landscaper_hpc.report.figures.style import CYCLE

if TYPE_CHECKING:
    from landscaper_hpc.topology.sensitivity import Row

_DASHES = ["-", "--", ":"]


def draw_sensitivity(rows: Sequence[Row]) -> Figure:
    """One column for each number of directions; mean climb, SMAD, minima, and those that were confirmed where they were
    followed, below each other. Colours are shares of the range, dashes connectivities; a line joins the grids of one
    range."""
    labels = {"mean_climb": "mean climb", "smad": "SMAD", "n_minima": "minima", "confirmed_minima": "confirmed minima"}
    if all(row.confirmed_minima is None for row in rows):
        del labels["confirmed_minima"]
    directions = sorted({row.directions for row in rows})
    shares = sorted({row.share for row in rows}, reverse=True)
    connectivities = list(dict.fromkeys(row.connectivity for row in rows))
    figure = Figure(figsize=(3.2 * len(directions) + 1.6, 0.5 + 2 * len(labels)), layout="constrained")
    axes = figure.subplots(len(labels), len(directions), sharex="col", squeeze=False)
    for column, n in enumerate(directions):
        axes[0, column].set_title(f"{n} direction{'s' if n > 1 else ''}")
        axes[-1, column].set_xlabel("points along the first")
        for place, name in enumerate(labels):
            ax = axes[place, column]
            for share in shares:
                for connectivity in connectivities:
                    line = [r for r in rows if (r.directions, r.share, r.connectivity) == (n, share, connectivity)]
                    ax.plot(
                        [r.shape[0] for r in line],
                        [getattr(r, name) for r in line],
                        color=CYCLE[shares.index(share) % len(CYCLE)],
                        linestyle=_DASHES[connectivities.index(connectivity) % len(_DASHES)],
                        marker="o",
                        markersize=3,
                        label=f"{text.percent(share)} of the range, {connectivity}",
                    )
            ax.set_ylim(bottom=0)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    for place, (name, label) in enumerate(labels.items()):
        axes[place, 0].set_ylabel(label)
        if "minima" in name:
            axes[place, 0].yaxis.set_major_locator(MaxNLocator(integer=True))
    lines = [line for line in axes[0, 0].get_lines() if len(line.get_xdata())]
    figure.legend(lines, [str(line.get_label()) for line in lines], loc="outside right upper")
    return figure
