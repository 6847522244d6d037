"""Square matrices of similarities, one panel each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

_COLUMNS, _WRITTEN = 4, 6  # panels in a row; the largest matrix whose numbers are written into it


def draw_matrices(matrices: Mapping[str, NDArray[np.float64]], names: Sequence[str], label: str) -> Figure:
    """By title: a matrix of values from 0 to 1 between the things `names`; NaN stays empty."""
    columns = min(_COLUMNS, len(matrices))
    rows = math.ceil(len(matrices) / columns)
    side = max(2.2, 0.35 * len(names) + 1.2)
    figure = Figure(figsize=(side * columns + 0.8, side * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat[len(matrices) :]:
        ax.set_axis_off()
    panels = axes.flat[: len(matrices)]
    for ax, (title, matrix) in zip(panels, matrices.items(), strict=True):
        image = ax.imshow(matrix, vmin=0, vmax=1)
        ax.set_title(title)
        ax.grid(False)
        ax.set_xticks(range(len(names)), names, rotation=90)
        ax.set_yticks(range(len(names)), names)
        for (i, j), value in np.ndenumerate(matrix):
            if len(names) <= _WRITTEN and not math.isnan(value):
                ax.text(j, i, f"{value:.2f}", ha="center", va="center", color="black" if value > 0.6 else "white")
    figure.colorbar(image, ax=list(panels), label=label)
    return figure
