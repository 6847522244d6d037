"""The loss along one direction through the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from landscaper_hpc.report.figures.slices import Cut, cut
from landscaper_hpc.report.figures.style import COLOURS, CYCLE, drawn_on, loss_axis
from landscaper_hpc.report.figures.subject import stored
from landscaper_hpc.store.landscape import LandscapeStore


def plot_line(
    of: LandscapeStore | Cut,
    ax: Axes | None = None,
    *,
    axis: int = 0,
    limits: tuple[float, float] | None = None,
    curvature: float | None = None,
) -> Axes:
    """Loss along one axis of the grid, through the checkpoint; gaps where it is not finite.

    Parameters
    ----------
    of
        A landscape, or a cut of one along one axis.
    ax
        Where to draw; by default in a new figure.
    axis
        Which one, of a landscape.
    limits
        The range of losses shown; by default those of the line.
    curvature
        Second derivative of the loss along the axis at the checkpoint: the parabola of it is dashed. By default the
        eigenvalue times the squared length of the direction, where a landscape's directions are eigenvectors.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = drawn_on(ax)
    if curvature is None and not isinstance(of, Cut):
        curvature = curvatures(stored(of)).get(axis)
    found = of if isinstance(of, Cut) else cut(stored(of), (axis,))
    limits = found.limits if limits is None else limits
    loss_axis(ax, "y", limits)
    ax.set_ylabel(found.quantity)
    ax.set_xlabel(found.labels[0])
    x = found.coordinates[0]
    losses = np.where(np.isfinite(found.losses), found.losses, np.nan)
    ax.plot(x, losses, color=COLOURS["deep"], marker=".", markersize=4, label=found.quantity)
    ax.axvline(0, color=COLOURS["ink"], linewidth=0.8, linestyle=":")
    here = losses[int(np.argmin(np.abs(x)))]
    if curvature is not None and np.isfinite(here):
        fine = np.linspace(x[0], x[-1], 101)
        parabola = here + curvature * fine**2 / 2
        ax.plot(fine, parabola, color=CYCLE[1], linestyle="--", label="the Hessian's parabola", scaley=False)
        ax.legend()
    return ax


def curvatures(store: LandscapeStore) -> Mapping[int, float]:
    """By axis, the second derivative of the loss at the checkpoint with respect to its coordinate, u'Hu = λ ‖u‖², where
    the directions are eigenvectors of the Hessian."""
    stored = store.directions()
    eigenvalues = stored.hessian.get("eigenvalues")
    if eigenvalues is None:
        return {}
    return {i: float(value * stored.gram[i, i]) for i, value in enumerate(eigenvalues)}
