"""A training run within a landscape: where its checkpoints lie, as far as the directions show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.report import text
from landscaper_hpc.report.figures.lines import plot_line
from landscaper_hpc.report.figures.slices import Cut, cut, plot_slice
from landscaper_hpc.report.figures.style import drawn_on
from landscaper_hpc.report.figures.subject import directions_of, stored
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import StoredDirections


class Trajectory(NamedTuple):
    """Checkpoints, projected.

    Attributes
    ----------
    alphas
        (t, n) the coordinates of the point of the landscape's subspace that is nearest to each.
    shares
        (t,) how much of each one's squared distance from the landscape's checkpoint lies in the subspace, from 0 to 1.
    """

    alphas: NDArray[np.float64]
    shares: NDArray[np.float64]


def projected(
    of: LandscapeStore | StoredDirections, origin: Mapping[str, Any], checkpoints: Sequence[Mapping[str, Any]]
) -> Trajectory:
    """Project checkpoints of a training run into the subspace of a landscape.

    Parameters
    ----------
    of
        A landscape, or the directions that it stores.
    origin
        The parameters of its checkpoint by name, as arrays or tensors on the CPU; more of them do no harm.
    checkpoints
        The same of each, in the order of the run.

    Returns
    -------
    Trajectory
        α = G⁻¹ ⟨uᵢ, θ − θ*⟩ with the directions' Gram matrix G: orthogonal projection, whatever their angles.

    Raises
    ------
    InputError
        Where a parameter is missing, or of another shape.

    References
    ----------
    Li et al., *Visualizing the Loss Landscape of Neural Nets* (2018), section 7.
    """
    directions = directions_of(of)
    gram = np.asarray(directions.gram, np.float64)
    alphas, shares = [], []
    for k, checkpoint in enumerate(checkpoints):
        along, length = np.zeros(len(gram)), 0.0
        for name, vector in directions.vectors.items():
            for what, where in (("the landscape's checkpoint", origin), (f"checkpoint {k}", checkpoint)):
                if name not in where or tuple(where[name].shape) != vector.shape[1:]:
                    raise InputError(f"{what} has no parameter {name} of shape {vector.shape[1:]}")
            moved = (np.asarray(checkpoint[name], np.float64) - np.asarray(origin[name], np.float64)).reshape(-1)
            along += np.asarray(vector, np.float64).reshape(len(gram), -1) @ moved
            length += float(moved @ moved)
        alpha = np.linalg.solve(gram, along)
        alphas.append(alpha)
        shares.append(float(alpha @ along) / length if length else 1.0)
    return Trajectory(np.array(alphas).reshape(-1, len(gram)), np.clip(np.array(shares), 0.0, 1.0))


def plot_trajectory(
    of: LandscapeStore | Cut,
    path: Trajectory,
    ax: Axes | None = None,
    *,
    axes: tuple[int, ...] = (0, 1),
    limits: tuple[float, float] | None = None,
    names: Sequence[str] = (),
) -> Axes:
    """A training run on a slice of a landscape, or on its line: its checkpoints projected, the first an open dot.

    The slice is that through the landscape's checkpoint; a run lies in it as far as the title says: the smallest share
    of a checkpoint's squared distance that the directions show. Checkpoints off the grid are not drawn.

    Parameters
    ----------
    of
        A landscape, or a cut of one along these axes.
    path
        What `projected` returns.
    ax
        Where to draw; by default in a new figure.
    axes
        Which two directions, or which one.
    limits
        The losses at the ends of the scale of colours.
    names
        Of each checkpoint: they are then no run, and are named and not joined.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = drawn_on(ax)
    if len(axes) == 1:
        of = of if isinstance(of, Cut) else cut(stored(of), axes)
        ax = plot_line(of, ax, axis=axes[0], limits=limits)
    else:
        ax = plot_slice(of, ax, axes=(axes[0], axes[1]), limits=limits)
    mark_places(ax, path.alphas[:, list(axes)], names)
    if len(path.shares):
        ax.set_title(
            f"at least {text.percent(float(path.shares.min()))} of each move lies in the directions", loc="left"
        )
    return ax


def mark_places(ax: Axes, places: NDArray[np.float64], names: Sequence[str] = ()) -> None:
    """Mark checkpoints on a slice, at `places` (t, 2), or on a line, (t, 1): joined in their order, or named."""
    if not len(places):
        return
    look: dict[str, Any] = {"scalex": False, "scaley": False, "linestyle": "none" if names else "-"}
    if places.shape[1] == 1:
        x, y = places[:, 0], np.full(len(places), 0.04)  # just above the axis of coordinates
        look["transform"] = ax.get_xaxis_transform()
    else:
        x, y = places.T
    for i, (width, colour) in enumerate(((3.0, "black"), (1.2, "white"))):
        own = {**look, "color": colour, "linewidth": width, "marker": "o", "markersize": 2 + width}
        ax.plot(x, y, gid=f"checkpoint2{i}", **own)
    if not names:
        ax.plot(
            x[:1],
            y[:1],
            gid="checkpoint22",
            **{**look, "marker": "o", "color": "white", "markerfacecolor": "none", "markersize": 9},
        )
        return
    left, right = sorted(ax.get_xlim())
    for i, (name, at, height) in enumerate(zip(names, x.tolist(), y.tolist(), strict=True)):
        said = ax.annotate(
            name,
            (at, height),
            (-5 if at > (left + right) / 2 else 5, 5),
            textcoords="offset points",
            xycoords=look.get("transform", "data"),
            ha="right" if at > (left + right) / 2 else "left",
            fontsize=8,
            color="black",
            annotation_clip=True,
            gid=f"checkpoint3{i}",
        )
        said.set_path_effects([patheffects.withStroke(linewidth=2, foreground="white")])
