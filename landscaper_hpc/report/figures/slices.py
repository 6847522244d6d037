"""Slices of the loss, or of a metric, through the checkpoint: as cells of colour, and as a surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from landscaper_hpc.report import text
from landscaper_hpc.report.figures.style import WRITTEN, drawn_on, is_log, loss_ticks, say
from landscaper_hpc.report.figures.subject import stored
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import LOSS

_UNITS = {"model": "‖Δθ‖/‖θ*‖", "unit": "‖Δθ‖"}
"""Of coordinates that are distances, by the directions' normalization."""
_UNITLESS = {"imported": "as imported"}
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_LONGEST = 60  # points of contour lines for each point along both axes: more would cover what they are lines of
_FLATTEST = 4.0  # the ratio of two axes up to which a figure of equal scales is one that is seen


@dataclass(frozen=True)
class Cut:
    """The losses, or the values of a metric, on the grid points over some axes, with the others at the checkpoint.

    Attributes
    ----------
    coordinates
        Of each axis.
    losses
        One dimension for each axis.
    labels
        Of each axis, with its unit.
    distances
        Whether coordinates along all axes are distances, so that both of a slice have one scale.
    quantity
        What `losses` are called.
    """

    coordinates: Sequence[NDArray[np.float64]]
    losses: NDArray[np.float64]
    labels: Sequence[str]
    distances: bool = False
    quantity: str = LOSS

    @property
    def limits(self) -> tuple[float, float]:
        finite = self.losses[np.isfinite(self.losses)]
        return (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)


def cut(store: LandscapeStore, axes: Sequence[int], quantity: str = LOSS) -> Cut:
    """The losses over some axes of a landscape, at the point nearest to the checkpoint on the others.

    Parameters
    ----------
    store
        A landscape.
    axes
        Their numbers, from 0, in growing order.
    quantity
        A metric of the task in place of the loss.

    Returns
    -------
    Cut

    Raises
    ------
    InputError
        Where there is no such metric.
    """
    coordinates, where = store.grid.coordinates(), through_checkpoint(store, axes)
    losses = store.variable_named(quantity).read(where).reshape([len(coordinates[a]) for a in axes])
    normalization = store.attributes["science"]["directions"]["normalization"]
    labels = [axis_label(a, normalization) for a in axes]
    return Cut([coordinates[a] for a in axes], losses, labels, normalization in _UNITS, quantity)


def nearest_to_checkpoint(store: LandscapeStore) -> list[int]:
    """The grid point nearest to the checkpoint."""
    return [int(np.argmin(np.abs(c))) for c in store.grid.coordinates()]


def through_checkpoint(store: LandscapeStore, axes: Sequence[int]) -> tuple[slice, ...]:
    at = nearest_to_checkpoint(store)
    return tuple(slice(0, k) if d in axes else slice(at[d], at[d] + 1) for d, k in enumerate(store.grid.shape))


def axis_label(axis: int, normalization: str) -> str:
    """What an axis is called, with its unit."""
    return (
        f"α{str(axis + 1).translate(_SUBSCRIPTS)} ({(_UNITS | _UNITLESS).get(normalization, f'{normalization} norm')})"
    )


def plot_slice(
    of: LandscapeStore | Cut,
    ax: Axes | None = None,
    *,
    axes: tuple[int, int] = (0, 1),
    limits: tuple[float, float] | None = None,
    written: bool = True,
) -> Axes:
    """Loss over two axes of the grid: one cell of colour per grid point, with contour lines and the checkpoint's place.

    Where there would be more contour lines than one can see through, there are none. Both axes have one scale where
    both are distances of not too different length. Points that are not finite stay empty. Slices with the same limits
    have the same colours.

    Parameters
    ----------
    of
        A landscape, or a cut of one along two axes.
    ax
        Where to draw; by default in a new figure.
    axes
        Which two, of a landscape.
    limits
        The losses at the ends of the scale of colours; by default the landscape's lowest and highest.
    written
        Whether losses are written on contour lines.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = drawn_on(ax)
    found, limits = _cut_of(of, axes, limits)
    x, y = found.coordinates
    ax.set_xlabel(found.labels[0])
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.set_ylabel(found.labels[1])
    ax.yaxis.set_major_locator(MaxNLocator(6))
    finite = np.isfinite(found.losses)
    if not finite.any() or not np.isfinite(limits).all():
        say(ax, f"no finite {found.quantity}")
        return ax
    field = np.where(finite, found.losses, np.nan).T
    extent = _cells(x) + _cells(y)
    wide, tall = extent[1] - extent[0], extent[3] - extent[2]
    equal = found.distances and max(wide, tall) <= _FLATTEST * min(wide, tall)
    aspect: Any = "equal" if equal else "auto"
    norm = colour_scale(limits)
    image = ax.imshow(field, norm=norm, origin="lower", extent=extent, aspect=aspect, interpolation="none", gid="loss")
    _draw_contours(ax, x, y, field, written)
    _mark_checkpoint(ax)
    ax.grid(False)
    scale = {"ticks": loss_ticks(*limits), "format": WRITTEN} if is_log(*limits) else {"ticks": loss_ticks(*limits)}
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.05, 0, 0.06, 1)), **scale)
    bar.minorticks_off()
    bar.set_label(found.quantity)
    bar.outline.set_visible(False)
    return ax


def plot_surface(
    of: LandscapeStore | Cut,
    ax: Axes | None = None,
    *,
    axes: tuple[int, int] = (0, 1),
    limits: tuple[float, float] | None = None,
) -> Axes:
    """Loss over two axes of the grid as a surface; its logarithm, with the losses written, where it spans much.

    Parameters
    ----------
    of
        A landscape, or a cut of one along two axes.
    ax
        Where to draw, with `projection="3d"`; by default in a new figure.
    axes
        Which two, of a landscape.
    limits
        The range of losses shown; by default the landscape's.

    Returns
    -------
    mpl_toolkits.mplot3d.axes3d.Axes3D
    """
    ax = drawn_on(ax, projection="3d")
    found, limits = _cut_of(of, axes, limits)
    ax.set_xlabel(found.labels[0])
    ax.set_ylabel(found.labels[1])
    finite = np.isfinite(found.losses)
    if not finite.any() or not np.isfinite(limits).all():
        ax.set_title(f"no finite {found.quantity}")
        return ax
    log = is_log(*limits)
    height = np.clip(np.where(finite, found.losses, np.nan), *limits)
    colours = mpl.colormaps["viridis"](np.ma.filled(np.ma.asarray(colour_scale(limits)(height), dtype=float), 0.0))
    x, y = np.meshgrid(*found.coordinates, indexing="ij")
    shown: Any = ax
    z = np.log10(height) if log else height
    shown.plot_surface(x, y, z, facecolors=colours, rcount=80, ccount=80, linewidth=0, shade=False)
    if log:
        low, high = np.floor(np.log10(limits[0])), np.ceil(np.log10(limits[1]))
        powers = np.unique(np.linspace(low, high, 5).round())
        shown.set_zticks(powers, [text.number(10.0**p).removeprefix("1 × ") for p in powers])
    shown.set_zlabel(found.quantity)
    return ax


def colour_scale(limits: tuple[float, float]) -> Normalize:
    """From losses to shares of the scale of colours."""
    spread = 0.0 if limits[0] < limits[1] else 1.0  # a flat landscape needs a scale, too
    return LogNorm(*limits) if is_log(*limits) else Normalize(limits[0] - spread, limits[1] + spread)


def _cut_of(
    of: LandscapeStore | Cut, axes: tuple[int, int], limits: tuple[float, float] | None
) -> tuple[Cut, tuple[float, float]]:
    if isinstance(of, Cut):
        return of, of.limits if limits is None else limits
    store = stored(of)
    if limits is None:
        low, high = store.numbers()["topology.range"]
        limits = float(low), float(high)
    return cut(store, axes), limits


def _cells(coordinates: NDArray[np.float64]) -> tuple[float, float]:
    """Outer edges of the cells around equally spaced points."""
    half = (coordinates[-1] - coordinates[0]) / max(1, len(coordinates) - 1) / 2 or 0.5
    return float(coordinates[0] - half), float(coordinates[-1] + half)


def _draw_contours(ax: Axes, x: NDArray[Any], y: NDArray[Any], field: NDArray[Any], written: bool) -> None:
    low, high = float(np.nanmin(field)), float(np.nanmax(field))
    if not low < high or min(field.shape) < 2:
        return
    levels = np.geomspace(low, high, 8) if is_log(low, high) else np.linspace(low, high, 8)
    levels = np.unique(levels[1:-1])  # where losses differ by a few rounding errors there are not so many between them
    lines = ax.contour(x, y, field, levels=levels, colors="white", linewidths=0.7)
    if sum(len(path) for path in lines.get_paths()) > _LONGEST * sum(field.shape):
        lines.remove()
        return
    lines.set(gid="contours", path_effects=[patheffects.withStroke(linewidth=1.5, foreground="#000000a0")])
    if not written:
        return
    said = ax.clabel(lines, levels=levels[::2], fmt=lambda value: text.number(float(value)), fontsize=7)
    for i, label in enumerate(said):
        label.set(color="black", gid=f"label{i}")
        label.set_path_effects([patheffects.withStroke(linewidth=2, foreground="white")])


def _mark_checkpoint(ax: Axes) -> None:
    for size, width, colour in ((11, 3.5, "black"), (10, 1.5, "white")):
        look: dict[str, Any] = {"markersize": size, "markeredgewidth": width, "color": colour}
        ax.plot(0, 0, marker="+", scalex=False, scaley=False, gid=f"checkpoint{size}", **look)
