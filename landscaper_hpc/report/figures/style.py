"""How every figure looks, and how it becomes bytes: the same bytes every time.

Colours are from Okabe and Ito's palette, which people with any colour vision can tell apart. Each stands for one thing
in all figures; a page may replace them by name (`COLOURS`) to follow a dark theme. Nothing touches pyplot's state.
"""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {
    "ink": "#24292f",  # text and axes
    "faint": "#d0d7de",  # grid lines
    "deep": "#0072b2",  # the deepest basin, and what is essential
    "basin": "#d55e00",  # every other basin
    "noise": "#8c959f",  # below the noise floor, or of the grid alone
}
CYCLE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]

_LOG_FROM = 100.0  # a loss that spans more than this ratio is drawn on a logarithmic scale

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLOURS["ink"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.titlecolor": COLOURS["ink"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=CYCLE),
    "grid.color": COLOURS["faint"],
    "grid.linewidth": 0.6,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["ink"],
    "ytick.color": COLOURS["ink"],
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "landscaper_hpc",
    "image.cmap": "viridis",
}


def style() -> AbstractContextManager[None]:
    """The look of all figures: draw and save within `with style():`."""
    return mpl.rc_context(_RC)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of this size in inches with one Axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def svg(figure: Figure) -> str:
    """The figure as an <svg> element, without XML header, date or creator."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure, dpi: int = 200) -> bytes:
    """The figure as a PNG on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def is_log(low: float, high: float) -> bool:
    """Whether values from `low` to `high` are drawn on a logarithmic scale."""
    return 0 < low < high and high / low > _LOG_FROM


def loss_axis(ax: Axes, which: str, limits: tuple[float, float]) -> None:
    """Make axis "x" or "y" show losses within `limits` and a little room; logarithmic where they span much."""
    low, high = limits
    set_scale, set_limits, set_label = (getattr(ax, f"set_{which}{name}") for name in ("scale", "lim", "label"))
    set_label("loss")
    if not (np.isfinite(low) and np.isfinite(high)):
        return
    if is_log(low, high):
        set_scale("log")
        room = (high / low) ** 0.03
        set_limits(low / room, high * room)
    else:
        room = (high - low) * 0.03 or abs(high) * 0.03 or 1.0
        set_limits(low - room, high + room)


def say(ax: Axes, text: str) -> None:
    """A sentence in place of data."""
    ax.grid(False)
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", wrap=True)
