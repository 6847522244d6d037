"""Figures. Each function draws the data that it is given on the Axes that it is given, and computes nothing else."""

from .curves import plot_smad_curves
from .matrices import draw_matrices
from .profiles import plot_profile
from .series import plot_series
from .slices import plot_line, plot_slice
from .style import new_figure, png, style, svg
from .trees import plot_barcode, plot_merge_tree

__all__ = [
    "draw_matrices",
    "new_figure",
    "plot_barcode",
    "plot_line",
    "plot_merge_tree",
    "plot_profile",
    "plot_series",
    "plot_slice",
    "plot_smad_curves",
    "png",
    "style",
    "svg",
]
