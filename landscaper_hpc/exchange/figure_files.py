"""Every figure of a landscape as files for a text: SVG, PDF and PNG of each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.exchange.subject import Subject
from landscaper_hpc.work.measure import CONTOUR_POINTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _HEIGHT = 4.6, 3.4  # inches


def write(subject: Subject) -> dict[str, bytes]:
    """Three files a figure. What a landscape has nothing to show of is left out."""
    from matplotlib.figure import Figure

    from landscaper_hpc.report.figures import pdf, png, style, svg

    made: dict[str, bytes] = {}
    with style():
        for name, plot in _figures(subject):
            figure = Figure(figsize=(_WIDTH, _HEIGHT))
            figure.subplots_adjust(left=0.15, right=0.95, bottom=0.15, top=0.92)
            plot(figure.add_subplot(projection="3d" if name.startswith("surface") else None))
            made[f".{name}.svg"] = svg(figure).encode()  # which gives what stands around the axes its room
            made[f".{name}.pdf"] = pdf(figure)
            made[f".{name}.png"] = png(figure)
    return made


def _figures(subject: Subject) -> Iterator[tuple[str, Callable[[Axes], object]]]:
    from landscaper_hpc.report import figures
    from landscaper_hpc.report.figures.subject import subject as shown_of
    from landscaper_hpc.topology import contour_tree

    store = subject.store
    store.refuse_lowest()
    shown = shown_of(store)
    if shown.drawing.profile is not None:
        yield "profile", partial(figures.plot_profile, shown)
    for name, plot in {
        "merge_tree": figures.plot_merge_tree,
        "disconnectivity": figures.plot_disconnectivity,
        "barcode": figures.plot_barcode,
        "persistence": figures.plot_persistence_bars,
        "diagram": figures.plot_persistence_diagram,
        "components": figures.plot_components,
    }.items():
        yield name, partial(plot, store)
    if store.grid.size <= CONTOUR_POINTS:
        yield "contour_tree", partial(figures.plot_contour_tree, contour_tree(subject.values, store.connectivity))
    for quantity in ("mean_climb", "smad", "n_minima"):
        yield f"{quantity}_over_threshold", partial(figures.plot_over_threshold, store, quantity=quantity)
    n = store.grid.ndim
    for pair in itertools.combinations(range(n), 2):
        label = "-".join(map(str, pair))
        yield f"slice_{label}", partial(figures.plot_slice, store, axes=pair)
        yield f"surface_{label}", partial(figures.plot_surface, store, axes=pair)
    if places := (store.numbers_of("trajectory") or {}).get("trajectory.checkpoints"):
        path = figures.Trajectory(*(np.array([place[key] for place in places]) for key in ("point", "share")))
        for axes in itertools.combinations(range(n), min(n, 2)):
            yield f"trajectory_{'-'.join(map(str, axes))}", partial(figures.plot_trajectory, store, path, axes=axes)
    for axis in range(n):
        yield f"line_{axis}", partial(figures.plot_line, store, axis=axis)
    for name, values in subject.metrics.items():
        yield from _figures_of_metric(subject, name, values)
    stored = store.directions()
    if "eigenvalues" in stored.hessian:
        yield "eigenvalues", partial(figures.plot_eigenvalues, stored)
    if "density_nodes" in stored.hessian:
        yield "density", partial(figures.plot_density, stored)
    if stored.vectors:
        for axis in range(n):
            yield f"layers_{axis}", partial(figures.plot_layers, stored, axis=axis)


def _figures_of_metric(
    subject: Subject, name: str, values: NDArray[np.float64]
) -> Iterator[tuple[str, Callable[[Axes], object]]]:
    """Slices of a metric, and its merge trees: of where it is low, and, negated, of where it is high."""
    from landscaper_hpc.report import figures
    from landscaper_hpc.report.figures.slices import cut
    from landscaper_hpc.topology import merge_tree

    store = subject.store
    for sign, label, key in ((1.0, name, "merge_tree"), (-1.0, f"−{name}", "merge_tree_negated")):
        tree = merge_tree(sign * values, store.connectivity)
        yield f"metric_{name}.{key}", partial(_labelled, partial(figures.plot_merge_tree, tree), label)
    for pair in itertools.combinations(range(store.grid.ndim), 2):
        yield f"metric_{name}.slice_{'-'.join(map(str, pair))}", partial(figures.plot_slice, cut(store, pair, name))
    for axis in range(store.grid.ndim):
        yield f"metric_{name}.line_{axis}", partial(figures.plot_line, cut(store, (axis,), name))


def _labelled(plot: Callable[[Axes], object], label: str, ax: Axes) -> None:
    """A figure of a tree of something else than the loss."""
    plot(ax)
    ax.set_ylabel(label)
