"""Figures. Each function takes what it draws, then the Axes to draw on (by default new ones, of pyplot), and returns
them; it draws what is stored, and computes nothing that is told as a number. `style()` is the look that pages have:

    with style():
        ax = plot_merge_tree(open_landscape("runs/my_study"))

Two put many of these together in a figure of their own (`draw_…`), and return it.
"""

from landscaper_hpc.report.figures.curves import plot_components, plot_over_threshold
from landscaper_hpc.report.figures.diagrams import (
    plot_contour_tree,
    plot_disconnectivity,
    plot_persistence_bars,
    plot_persistence_diagram,
)
from landscaper_hpc.report.figures.lines import plot_line
from landscaper_hpc.report.figures.matrices import draw_similarities, plot_distances, plot_similarity
from landscaper_hpc.report.figures.profiles import plot_profile
from landscaper_hpc.report.figures.regions import draw_sensitivity, plot_sensitivity
from landscaper_hpc.report.figures.series import plot_bars, plot_series
from landscaper_hpc.report.figures.slices import plot_slice, plot_surface
from landscaper_hpc.report.figures.spectrum import plot_density, plot_eigenvalues, plot_layers, plot_trace
from landscaper_hpc.report.figures.style import new_figure, pdf, png, style, svg
from landscaper_hpc.report.figures.trajectory import Trajectory, plot_trajectory, projected
from landscaper_hpc.report.figures.trees import plot_barcode, plot_merge_tree

__all__ = [
    "Trajectory",
    "draw_sensitivity",
    "draw_similarities",
    "new_figure",
    "pdf",
    "plot_barcode",
    "plot_bars",
    "plot_components",
    "plot_contour_tree",
    "plot_density",
    "plot_disconnectivity",
    "plot_distances",
    "plot_eigenvalues",
    "plot_layers",
    "plot_line",
    "plot_merge_tree",
    "plot_over_threshold",
    "plot_persistence_bars",
    "plot_persistence_diagram",
    "plot_profile",
    "plot_sensitivity",
    "plot_series",
    "plot_similarity",
    "plot_slice",
    "plot_surface",
    "plot_trace",
    "plot_trajectory",
    "png",
    "projected",
    "style",
    "svg",
]
