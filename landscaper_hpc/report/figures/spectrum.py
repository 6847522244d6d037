"""The Hessian at the checkpoint: its spectral density, eigenvalues, trace, and where its eigenvectors move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from landscaper_hpc.report import text
from landscaper_hpc.report.figures.style import COLOURS, WRITTEN, drawn_on, say
from landscaper_hpc.report.figures.subject import directions_of, stored
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import StoredDirections

_WIDTH = 0.01  # of the Gaussian around a node, as a share of the range of nodes
_POINTS = 400
_LAYERS = 16


def plot_density(of: LandscapeStore | StoredDirections, ax: Axes | None = None) -> Axes:
    """The spectral density of the Hessian, from the nodes and weights of stochastic Lanczos quadrature.

    Each node is a Gaussian whose width is a hundredth of the range of nodes, with its weight; the line is the mean over
    the probes, the band from the lowest to the highest of them. The axis of densities is logarithmic, so that few
    eigenvalues far out are seen. The weight below 0 stands in the title.

    Parameters
    ----------
    of
        A landscape, or the directions that it stores.
    ax
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    References
    ----------
    Yao et al., *PyHessian: Neural Networks Through the Lens of the Hessian* (2020).
    """
    ax = drawn_on(ax)
    hessian = directions_of(of).hessian
    ax.set_xlabel("eigenvalue λ of the Hessian (loss/‖Δθ‖²)")
    ax.set_ylabel("density")
    nodes, weights = hessian.get("density_nodes"), hessian.get("density_weights")
    if nodes is None or weights is None:
        say(ax, "the study asked for no spectral density")
        return ax
    used = weights > 0
    low, high = float(nodes[used].min()), float(nodes[used].max())
    width = (high - low or abs(high) or 1.0) * _WIDTH
    x = np.linspace(low - 4 * width, high + 4 * width, _POINTS)
    with np.errstate(under="ignore"):
        bells = np.exp(-(((x - nodes[..., None]) / width) ** 2) / 2) / (width * np.sqrt(2 * np.pi))
    probes = (weights[..., None] * bells).sum(axis=1)
    mean = probes.mean(axis=0)
    floor = mean.max() * 1e-6
    ax.fill_between(
        x, np.maximum(probes.min(axis=0), floor), np.maximum(probes.max(axis=0), floor),
        color=COLOURS["deep"], alpha=0.2, linewidth=0,
    )  # fmt: skip
    ax.plot(x, np.maximum(mean, floor), color=COLOURS["deep"])
    ax.set_yscale("log")
    ax.set_ylim(floor, mean.max() * 2)
    ax.yaxis.set_major_formatter(WRITTEN)
    ax.axvline(0, color=COLOURS["ink"], linewidth=0.8, linestyle=":")
    below = float(np.where(nodes < 0, weights, 0.0).sum(axis=1).mean())
    ax.set_title(f"{text.percent(below)} of the weight lies below 0", loc="left")
    return ax


def plot_eigenvalues(of: LandscapeStore | StoredDirections, ax: Axes | None = None) -> Axes:
    """The eigenvalues whose eigenvectors are the directions, as bars: orange where they are negative.

    The line at a bar's end reaches as far as the residual ‖Hu − λu‖: there is an eigenvalue within it.

    Parameters
    ----------
    of
        A landscape, or the directions that it stores.
    ax
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = drawn_on(ax)
    hessian = directions_of(of).hessian
    ax.set_ylabel("eigenvalue λ (loss/‖Δθ‖²)")
    ax.set_xlabel("direction")
    eigenvalues = hessian.get("eigenvalues")
    if eigenvalues is None:
        say(ax, "the directions are no eigenvectors")
        return ax
    place = np.arange(1, len(eigenvalues) + 1)
    off = np.abs(eigenvalues) * hessian.get("residuals", np.zeros(len(eigenvalues)))
    ax.bar(
        place, eigenvalues, width=0.6, yerr=off, ecolor=COLOURS["ink"], capsize=4,
        color=[COLOURS["basin"] if value < 0 else COLOURS["deep"] for value in eigenvalues],
    )  # fmt: skip
    ax.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(WRITTEN)
    ax.grid(axis="x", visible=False)
    return ax


def plot_trace(
    of: LandscapeStore | Mapping[str, LandscapeStore | Sequence[float] | None], ax: Axes | None = None
) -> Axes:
    """The trace of the Hessian with its standard error, one for each checkpoint.

    Parameters
    ----------
    of
        A landscape; or by checkpoint, in their order, a landscape, or the estimate and its standard error. What has
        none is left out.
    ax
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = drawn_on(ax)
    if not isinstance(of, Mapping):
        landscape = stored(of)
        of = {landscape.name: landscape}
    told = {
        name: item if item is None or isinstance(item, Sequence) else directions_of(item).hessian.get("trace")
        for name, item in of.items()
    }
    found = {name: item for name, item in told.items() if item is not None}
    ax.set_ylabel("trace of the Hessian (loss/‖Δθ‖²)")
    if not found:
        say(ax, "the study asked for no trace")
        return ax
    values, errors = np.array([list(item) for item in found.values()], np.float64).T
    place = np.arange(len(found))
    ax.errorbar(place, values, yerr=errors, fmt="o", markersize=4, capsize=4, color=COLOURS["deep"])
    few = np.linspace(0, len(found) - 1, min(len(found), 10)).round().astype(int)
    names = list(found)
    ax.set_xticks(
        few, [names[i] for i in few], rotation=30 if len(few) > 2 else 0, ha="right" if len(few) > 2 else "center"
    )
    ax.set_xlim(-0.5, len(found) - 0.5)
    ax.yaxis.set_major_formatter(WRITTEN)
    return ax


def plot_layers(of: LandscapeStore | StoredDirections, ax: Axes | None = None, *, axis: int = 0) -> Axes:
    """How much of a direction lies in each parameter tensor: its share of the squared length, the largest first.

    Parameters
    ----------
    of
        A landscape, or the directions that it stores.
    ax
        Where to draw; by default in a new figure.
    axis
        Which direction.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = drawn_on(ax)
    shares = layer_shares(directions_of(of), axis)
    shown = dict(sorted(shares.items(), key=lambda item: -item[1])[:_LAYERS])
    place = np.arange(len(shown))
    ax.barh(place, list(shown.values()), height=0.7, color=COLOURS["deep"])
    ax.set_yticks(place, list(shown))
    ax.invert_yaxis()
    ax.set_xlabel(f"share of the squared length of direction {axis + 1}")
    ax.grid(axis="y", visible=False)
    if len(shown) < len(shares):
        ax.set_title(f"{len(shown)} of {len(shares)} parameter tensors", loc="left")
    return ax


def layer_shares(stored: StoredDirections, axis: int) -> dict[str, float]:
    """By parameter tensor, its share of a direction's squared length."""
    squares = {
        name: float(np.sum(np.asarray(vector[axis], np.float64) ** 2)) for name, vector in stored.vectors.items()
    }
    whole = sum(squares.values()) or 1.0
    return {name: square / whole for name, square in squares.items()}
