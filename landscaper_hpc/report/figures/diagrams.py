"""Persistence as a diagram and as plain bars, disconnectivity graphs, contour trees."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from landscaper_hpc.errors import InputError
from landscaper_hpc.report.figures.style import COLOURS, drawn_on, is_log, loss_axis, of_powers, say
from landscaper_hpc.report.figures.subject import Subject, subject
from landscaper_hpc.report.figures.trees import leaf_order, title_of_leaves
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.topology.contour_result import ContourTree
from landscaper_hpc.topology.tree import MergeTree

_BUNDLES = 25  # levels of a disconnectivity graph


def plot_persistence_diagram(
    of: Subject | MergeTree | LandscapeStore, ax: Axes | None = None, *, limits: tuple[float, float] | None = None
) -> Axes:
    """Basins as points: across, the loss at their minimum (birth), up, the loss at which a deeper one takes them in
    (death). The further above the diagonal, the more persistent. What never dies is a triangle at the top.

    Parameters
    ----------
    of
        A merge tree, or a landscape with a stored one.
    ax
        Where to draw; by default in a new figure.
    limits
        The range of losses shown.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax, shown = drawn_on(ax), subject(of, limits)
    bars, limits = shown.drawing.bars, shown.limits
    loss_axis(ax, "x", limits)
    loss_axis(ax, "y", limits)
    ax.set_xlabel("birth: loss at the minimum")
    ax.set_ylabel("death: loss at the saddle")
    if not len(bars.birth) or not np.isfinite(limits).all():
        say(ax, "no finite loss")
        return ax
    ax.plot(limits, limits, color=COLOURS["ink"], linewidth=0.8)
    birth = np.clip(bars.birth, *limits)
    death = np.clip(np.where(np.isnan(bars.death), limits[1], bars.death), *limits)
    ever, stands = bars.essential > 0, shown.standing("bars", len(birth))
    ax.scatter(birth[ever], np.full(ever.sum(), limits[1]), marker="^", color=COLOURS["deep"], zorder=3, clip_on=False)
    edges = np.where(stands, COLOURS["basin"], COLOURS["noise"])[~ever]
    faces = [edge if stood else "none" for edge, stood in zip(edges, stands[~ever], strict=True)]
    ax.scatter(birth[~ever], death[~ever], s=14, c=faces, edgecolors=list(edges), linewidths=0.8, zorder=3)
    if len(birth) < shown.n_minima:
        ax.set_title(f"the {len(birth)} most persistent of {shown.n_minima:,} basins", loc="left")
    return ax


def plot_persistence_bars(of: Subject | MergeTree | LandscapeStore, ax: Axes | None = None) -> Axes:
    """The persistence of every basin that has one, as bars from 0, the longest at the bottom.

    Parameters
    ----------
    of
        A merge tree, or a landscape with a stored one.
    ax
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax, shown = drawn_on(ax), subject(of)
    finite = np.isfinite(shown.drawing.bars.life)
    life, stands = shown.drawing.bars.life[finite], shown.standing("bars", len(finite))[finite]
    ax.set_xlabel("persistence (in units of the loss)")
    ax.set_ylabel("basins, most persistent first")
    if not len(life):
        say(ax, "no basin that a deeper one takes in")
        return ax
    row = np.arange(1, len(life) + 1)
    quiet = (life <= shown.noise_floor) | ~stands
    ax.barh(row, life, height=0.8, color=list(np.where(quiet, COLOURS["noise"], COLOURS["basin"])))
    low, high = float(life[life > 0].min(initial=life[0])), float(life[0])
    if is_log(low, high):
        ax.set_xscale("log")
        ax.set_xlim(low / 3, high * 1.2)
        of_powers(ax.xaxis, low / 3, high)
    ax.grid(axis="y", visible=False)
    if finite.sum() < shown.n_minima - 1:
        ax.set_title(f"the {len(life)} most persistent of {shown.n_minima:,} basins", loc="left")
    return ax


def plot_disconnectivity(
    of: Subject | MergeTree | LandscapeStore,
    ax: Axes | None = None,
    *,
    limits: tuple[float, float] | None = None,
    levels: int = _BUNDLES,
) -> Axes:
    """A disconnectivity graph: which minima are connected below each of some levels of the loss.

    As a merge tree, but lines meet at the next level above the saddle, which is what can be read off a graph of many
    minima.

    Parameters
    ----------
    of
        A merge tree, or a landscape with a stored one.
    ax
        Where to draw; by default in a new figure.
    limits
        The range of losses shown.
    levels
        How many there are.

    Returns
    -------
    matplotlib.axes.Axes

    References
    ----------
    Becker and Karplus (1997); Wales, *Energy Landscapes* (2003).
    """
    _refuse_few("levels", levels)
    ax, shown = drawn_on(ax), subject(of, limits)
    tree, limits = shown.drawing.branches, shown.limits
    loss_axis(ax, "y", limits)
    ax.set_xticks([])
    ax.set_xlabel("minima")
    ax.grid(axis="x", visible=False)
    count = len(tree.birth)
    if not count or not np.isfinite(limits).all():
        say(ax, "no finite loss")
        return ax
    rungs = np.geomspace(*limits, levels) if is_log(*limits) else np.linspace(*limits, levels)
    birth = np.clip(tree.birth, *limits)
    dies = (tree.parent >= 0) & ~np.isnan(tree.death)
    death = np.clip(np.where(dies, tree.death, limits[1]), *limits)
    rung = np.minimum(np.searchsorted(rungs, death), levels - 1)
    x = leaf_order(tree)
    # below each level, lines of one component stand in its middle
    top = np.where(dies, rung, levels)
    lines, low, high, middle = [], x.astype(float), x.astype(float), x.astype(float)
    foot = birth.copy()
    for k in range(levels):
        joining = np.flatnonzero(dies & (rung == k))
        if not len(joining):
            continue
        into = tree.parent[joining].copy()
        while (moved := dies[into] & (rung[into] == k)).any():
            into[moved] = tree.parent[into[moved]]
        np.minimum.at(low, into, low[joining])
        np.maximum.at(high, into, high[joining])
        for i in np.unique(into):
            met = (low[i] + high[i]) / 2
            for j in (*joining[into == i], i):
                step = rungs[k - 1] if k and foot[j] < rungs[k - 1] else foot[j]
                lines.append([(middle[j], foot[j]), (middle[j], step), (met, rungs[k])])
            middle[i], foot[i] = met, rungs[k]
    lines += [[(middle[i], foot[i]), (middle[i], limits[1])] for i in np.flatnonzero(top == levels)]
    ax.add_collection(LineCollection(lines, colors=COLOURS["deep"], linewidths=0.8), autolim=False)
    stands = shown.standing("leaves", count)
    for which, face, edge in ((stands, COLOURS["minimum"], "none"), (~stands, "none", COLOURS["noise"])):
        if which.any():
            ax.scatter(x[which], birth[which], s=9, facecolors=face, edgecolors=edge, linewidths=0.8, zorder=3)
    room = 0.5 + 0.02 * count
    ax.set_xlim(-room, count - 1 + room)
    ax.set_title(title_of_leaves(count, shown.n_minima), loc="left")
    return ax


def plot_contour_tree(
    of: ContourTree, ax: Axes | None = None, *, limits: tuple[float, float] | None = None, most: int = 200
) -> Axes:
    """A contour tree by its branches: each is a line from its leaf, a minimum or a maximum, to the saddle at which it
    leaves another branch. Minima are red dots, maxima hollow squares, saddles orange diamonds.

    Parameters
    ----------
    of
        `contour_tree(losses)`.
    ax
        Where to draw; by default in a new figure.
    limits
        The range of losses shown.
    most
        How many branches, the most persistent; the title says so where there are more.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        For anything but a contour tree, and for fewer than one branch.

    References
    ----------
    Pascucci et al., *Multi-resolution computation and presentation of contour trees* (2004): the branches.
    """
    if not isinstance(of, ContourTree):
        raise InputError(f"this figure is of contour_tree(losses); found a {type(of).__name__}")
    _refuse_few("most", most)
    ax = drawn_on(ax)
    limits = of.value_range if limits is None else limits
    loss_axis(ax, "y", limits)
    ax.set_xticks([])
    ax.set_xlabel("branches, most persistent first")
    ax.grid(axis="x", visible=False)
    branches = of.branches
    if not len(branches.leaf) or not np.isfinite(limits).all():
        say(ax, "no finite loss")
        return ax
    order = np.argsort(-branches.persistence, kind="stable")[:most]
    value = dict(zip(of.nodes.tolist(), of.values.tolist(), strict=True))
    leaf = np.clip([value[i] for i in branches.leaf[order].tolist()], *limits)
    end = np.clip([value[i] for i in branches.end[order].tolist()], *limits)
    place = np.full(len(branches.leaf), 0)
    place[order] = np.arange(len(order))
    parent = branches.parent[order]
    across = np.where(parent >= 0, place[np.maximum(parent, 0)], np.arange(len(order)))
    x = np.arange(len(order))
    lines = np.stack([x, leaf, x, end, across, end], axis=1).reshape(-1, 3, 2)
    ax.add_collection(LineCollection(list(lines), colors=COLOURS["deep"], linewidths=0.8), autolim=False)
    low = leaf <= end
    size = float(np.clip(600 / len(order), 3, 16))
    ax.scatter(x[low], leaf[low], s=size, c=COLOURS["minimum"], linewidths=0, zorder=3)
    ax.scatter(
        x[~low], leaf[~low], s=size, marker="s", facecolors="none", edgecolors=COLOURS["deep"], linewidths=0.8, zorder=3
    )
    inner = parent >= 0
    ax.scatter(
        across[inner], end[inner], s=0.6 * size, marker="D", c=COLOURS["saddle"], linewidths=0, zorder=3
    )  # fmt: skip
    ax.set_xlim(-0.7, len(order) - 0.3)
    total = len(branches.leaf)
    ax.set_title(f"the {len(order)} most persistent of {total:,} branches" if len(order) < total else "", loc="left")
    return ax


def _refuse_few(what: str, number: int) -> None:
    if not isinstance(number, int | np.integer) or number < 1:
        raise InputError(f"{what} is {number!r}; give a whole number of 1 or more")
