"""How every figure looks, and how it becomes bytes: the same bytes every time.

Colours are from Okabe and Ito's palette, which people with any colour vision can tell apart. Each stands for one thing
in all figures; a page may replace them by name (`COLOURS`) to follow a dark theme. Nothing touches pyplot's state.
"""

from __future__ import annotations

import io
import math
import sys
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from landscaper_hpc.report import text

COLOURS = {
    "ink": "#24292f",  # text and axes
    "faint": "#d0d7de",  # grid lines
    "deep": "#0072b2",  # the deepest basin, and what is essential
    "basin": "#d55e00",  # every other basin
    "minimum": "#b3151f",  # minima
    "saddle": "#e08e00",  # where basins meet
    "noise": "#8c959f",  # below the noise floor, or of the grid alone
}
CYCLE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]

_LOG_FROM = 100.0  # a loss that spans more than this ratio is drawn on a logarithmic scale
_TICKS = 6  # whatever the size, so that labels do not change when room is made for them
_FEW_DECADES = 2.5  # between them there are ticks, too
_ROOM = 0.05  # inches around what is drawn

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


def drawn_on(ax: Axes | None, projection: str | None = None) -> Axes:
    """These axes, or new ones in a figure of pyplot, which notebooks show."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    found: Axes = plt.figure(layout="constrained").add_subplot(projection=projection)
    return found


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of this size in inches with one Axes."""
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(left=0.15, right=0.95, bottom=0.15, top=0.92)
    return figure, figure.add_subplot()


def svg(figure: Figure) -> str:
    """The figure as an <svg> element, without XML header, date or creator. What stands around its axes gets the room
    that it takes: measured once, and drawn once, which a layout engine, where a figure has one, does twice each."""
    if figure.get_layout_engine() is None:
        make_room(figure)
    buffer = io.StringIO()
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :]


def make_room(figure: Figure) -> None:
    """Give what stands around a figure's axes the room that it takes."""
    canvas: Any = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    slanted = any(label.get_rotation() for ax in figure.axes for label in ax.get_xticklabels())
    held = any(ax.get_aspect() != "auto" for ax in figure.axes)  # these do not fill what they are given
    for _ in range(4 if slanted else 2 if held else 1):  # slanted ones reach out, and move with the axes' ends
        taken = Bbox.union([box for ax in figure.axes if (box := ax.get_tightbbox(renderer)) is not None])
        width, height = figure.bbox.size
        pars, room = figure.subplotpars, _ROOM * figure.dpi
        given = Bbox.from_extents(pars.left, pars.bottom, pars.right, pars.top)
        now = Bbox.union([ax.get_position() for ax in figure.axes]) if held else given
        left, right = now.x0 - (taken.x0 - room) / width, now.x1 + (width - room - taken.x1) / width
        bottom, top = now.y0 - (taken.y0 - room) / height, now.y1 + (height - room - taken.y1) / height
        if left >= right or bottom >= top:  # words wider than the figure: no room is enough, and they are cut
            return
        figure.subplots_adjust(left=left, right=right, bottom=bottom, top=top)


def png(figure: Figure, dpi: int = 200) -> bytes:
    """The figure as a PNG on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def pdf(figure: Figure) -> bytes:
    """The figure as a PDF without a date."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return buffer.getvalue()


def is_log(low: float, high: float) -> bool:
    """Whether values from `low` to `high` are drawn on a logarithmic scale."""
    return 0 < low < high and high / low > _LOG_FROM


def loss_axis(ax: Axes, which: str, limits: tuple[float, float]) -> None:
    """Make axis "x" or "y" show losses within `limits` and a little room; logarithmic where they span much."""
    low, high = limits
    set_scale, set_limits, set_label = (getattr(ax, f"set_{which}{name}") for name in ("scale", "lim", "label"))
    axis: Axis = getattr(ax, f"{which}axis")
    set_label("loss")
    if not (np.isfinite(low) and np.isfinite(high)):
        return
    if is_log(low, high):
        set_scale("log")
        room = math.exp(0.03 * (math.log(high) - math.log(low)))
        set_limits(max(low / room, sys.float_info.min), min(high * room, sys.float_info.max))
        of_powers(axis, low, high)
    else:
        axis.set_major_locator(loss_ticks(low, high))
        room = (high - low) * 0.03 or abs(high) * 0.03 or 1.0
        set_limits(low - room, high + room)


def of_powers(axis: Axis, low: float, high: float) -> None:
    """Label a logarithmic axis that shows so much by numbers as they are written everywhere, and not by formulas, which
    take longer to set than all else."""
    axis.set_major_locator(_powers(low, high))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(WRITTEN)


def loss_ticks(low: float, high: float) -> Locator:
    """Where losses within these limits are written beside an axis or a scale of colours."""
    return _powers(low, high) if is_log(low, high) else MaxNLocator(_TICKS, steps=[1, 2, 2.5, 5, 10])


def _powers(low: float, high: float) -> LogLocator:
    between = 0 < low < high and math.log10(high) - math.log10(low) < _FEW_DECADES
    return LogLocator(subs=(1.0, 2.0, 5.0) if between else (1.0,), numticks=_TICKS)


WRITTEN = FuncFormatter(lambda value, _: text.number(float(value)).removeprefix("1 × "))


def say(ax: Axes, sentence: str) -> None:
    """A sentence in place of data."""
    ax.grid(False)
    ax.text(0.5, 0.5, sentence, transform=ax.transAxes, ha="center", va="center", wrap=True)
