"""Square matrices of distances and of similarities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.report import text
from landscaper_hpc.report.figures.style import drawn_on

_COLUMNS, _WRITTEN = 4, 6  # panels in a row; the largest matrix whose numbers are written into it


def plot_distances(
    matrix: NDArray[np.float64], names: Sequence[str], ax: Axes | None = None, *, label: str = "distance"
) -> Axes:
    """How far things are from each other: darker is nearer; the numbers are written where there are few.

    Parameters
    ----------
    matrix
        (k, k), such as a row of `topology.distances.distances`.
    names
        Of the k things.
    ax
        Where to draw; by default in a new figure.
    label
        What the distance is.

    Returns
    -------
    matplotlib.axes.Axes
    """
    matrix = _of_names(matrix, names)
    ax = drawn_on(ax)
    shown = np.where(np.isfinite(matrix), matrix, np.nan)
    top = float(np.max(matrix, where=np.isfinite(matrix), initial=0)) or 1.0
    image = ax.imshow(shown, vmin=0, vmax=top)
    ax.grid(False)
    few = np.linspace(0, len(names) - 1, min(len(names), 10)).round().astype(int)
    ticks = [names[i] for i in few]
    ax.set_xticks(few, ticks, rotation=30, ha="right")
    ax.set_yticks(few, ticks)
    for (i, j), value in np.ndenumerate(matrix):
        if len(names) <= _WRITTEN and i != j:
            said = text.number(float(value))
            ax.text(j, i, said, ha="center", va="center", fontsize=8, color="black" if value > 0.6 * top else "white")
    ax.figure.colorbar(image, cax=ax.inset_axes((1.05, 0, 0.06, 1)), label=label)
    return ax


def plot_similarity(
    matrix: NDArray[np.float64], names: Sequence[str], ax: Axes | None = None, *, label: str = "similarity"
) -> Axes:
    """How alike things are, from 0 to 1: the numbers are written where there are few; NaN stays empty.

    Parameters
    ----------
    matrix
        (k, k), of values from 0 to 1.
    names
        Of the k things.
    ax
        Where to draw; by default in a new figure.
    label
        What the similarity is, beside the colours; with none there are no colours beside.

    Returns
    -------
    matplotlib.axes.Axes
    """
    matrix = _of_names(matrix, names)
    ax = drawn_on(ax)
    image = ax.imshow(matrix, vmin=0, vmax=1)
    ax.grid(False)
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yticks(range(len(names)), names)
    for (i, j), value in np.ndenumerate(matrix):
        if len(names) <= _WRITTEN and not math.isnan(value):
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", color="black" if value > 0.6 else "white")
    if label:
        ax.figure.colorbar(image, cax=ax.inset_axes((1.05, 0, 0.06, 1)), label=label)
    return ax


def draw_similarities(matrices: Mapping[str, NDArray[np.float64]], names: Sequence[str], label: str) -> Figure:
    """By title: a matrix of values from 0 to 1 between the things `names`."""
    columns = min(_COLUMNS, len(matrices))
    rows = math.ceil(len(matrices) / columns)
    side = max(2.2, 0.35 * len(names) + 1.2)
    figure = Figure(figsize=(side * columns + 0.8, side * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat[len(matrices) :]:
        ax.set_axis_off()
    panels = list(axes.flat[: len(matrices)])
    for ax, (title, matrix) in zip(panels, matrices.items(), strict=True):
        plot_similarity(matrix, names, ax, label="").set_title(title)
    figure.colorbar(panels[0].images[0], ax=panels, label=label)
    return figure


def _of_names(matrix: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float64]:
    found = np.asarray(matrix, np.float64)
    if found.shape != (len(names), len(names)) or not len(names):
        raise InputError(
            f"the matrix has the shape {found.shape}, and there are {len(names)} names; give a row and a column "
            "for each"
        )
    return found
