"""Figures. Each function draws the data that it is given on the Axes that it is given, and computes nothing else."""

from landscaper_hpc.report.figures.curves import plot_smad_curves
from landscaper_hpc.report.figures.matrices import draw_matrices
from landscaper_hpc.report.figures.profiles import plot_profile
from landscaper_hpc.report.figures.regions import draw_sensitivity
from landscaper_hpc.report.figures.series import plot_series
from landscaper_hpc.report.figures.slices import plot_line, plot_slice
from landscaper_hpc.report.figures.style import new_figure, png, style, svg
from landscaper_hpc.report.figures.trees import plot_barcode, plot_merge_tree

__all__ = [
    "draw_matrices",
    "draw_sensitivity",
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
