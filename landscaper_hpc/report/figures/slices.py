"""Slices of the loss through the checkpoint."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from landscaper_hpc.report.figures.style import COLOURS, WRITTEN, is_log, loss_axis, loss_ticks, say


def plot_slice(
    ax: Axes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    losses: NDArray[np.float64],
    limits: tuple[float, float],
    labels: tuple[str, str],
) -> None:
    """Loss over two axes of the grid: one cell of colour per grid point, with contour lines and the checkpoint's place.

    `x` (k,) and `y` (l,) are coordinates, `losses` has shape (k, l); `limits` are the losses at the ends of the colour
    scale. Points that are not finite stay empty.
    """
    ax.set_xlabel(labels[0])
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.set_ylabel(labels[1])
    ax.yaxis.set_major_locator(MaxNLocator(6))
    finite = np.isfinite(losses)
    if not finite.any() or not np.isfinite(limits).all():
        say(ax, "no finite loss")
        return
    field = np.where(finite, losses, np.nan).T
    spread = 0.0 if limits[0] < limits[1] else 1.0  # a flat landscape needs a scale, too
    norm = LogNorm(*limits) if is_log(*limits) else Normalize(limits[0] - spread, limits[1] + spread)
    extent = _cells(x) + _cells(y)
    image = ax.imshow(field, norm=norm, origin="lower", extent=extent, aspect="auto", interpolation="none")
    low, high = float(np.nanmin(field)), float(np.nanmax(field))
    if low < high and min(field.shape) >= 2:
        levels = np.geomspace(low, high, 10) if is_log(low, high) else np.linspace(low, high, 10)
        ax.contour(x, y, field, levels=levels[1:-1], colors="white", linewidths=0.6, alpha=0.7)
    _mark_checkpoint(ax)
    ax.grid(False)
    scale = {"ticks": loss_ticks(*limits), "format": WRITTEN} if is_log(*limits) else {"ticks": loss_ticks(*limits)}
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.06, pad=0.05, **scale)
    bar.minorticks_off()
    bar.ax.set_box_aspect(None)  # it ends where the figure's axes end
    bar.set_label("loss")
    bar.outline.set_visible(False)


def plot_line(
    ax: Axes, x: NDArray[np.float64], losses: NDArray[np.float64], limits: tuple[float, float], label: str
) -> None:
    """Loss along the only axis of the grid; gaps where it is not finite."""
    loss_axis(ax, "y", limits)
    ax.set_xlabel(label)
    ax.plot(x, np.where(np.isfinite(losses), losses, np.nan), color=COLOURS["deep"], marker=".", markersize=4)
    ax.axvline(0, color=COLOURS["ink"], linewidth=0.8, linestyle=":")


def _cells(coordinates: NDArray[np.float64]) -> tuple[float, float]:
    """Outer edges of the cells around equally spaced points."""
    half = (coordinates[-1] - coordinates[0]) / max(1, len(coordinates) - 1) / 2 or 0.5
    return float(coordinates[0] - half), float(coordinates[-1] + half)


def _mark_checkpoint(ax: Axes) -> None:
    ax.plot(0, 0, marker="+", markersize=11, markeredgewidth=3.5, color="black", scalex=False, scaley=False)
    ax.plot(0, 0, marker="+", markersize=10, markeredgewidth=1.5, color="white", scalex=False, scaley=False)
