"""Merge trees, with bars of what they pair."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from landscaper_hpc.report.figures.style import COLOURS, drawn_on, loss_axis, say
from landscaper_hpc.report.figures.subject import Subject, subject
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.topology.drawing import Branches
from landscaper_hpc.topology.tree import MergeTree


def plot_barcode(
    of: Subject | MergeTree | LandscapeStore, ax: Axes | None = None, *, limits: tuple[float, float] | None = None
) -> Axes:
    """One bar per basin, from its minimum (birth) to where a deeper basin absorbs it (death); longest at the bottom.

    The deepest basin never dies: its bar runs to the end. Bars no longer than the noise floor lie in a shaded band.
    Where not all basins are shown, the title says so. Bars that are the grid's alone are grey, and hollow at their
    minimum.

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
    ax.set_ylabel("basins, most persistent first")
    count = len(bars.birth)
    if not count or not np.isfinite(limits).all():
        say(ax, "no finite loss")
        return ax
    birth = np.clip(bars.birth, *limits)
    death = np.clip(np.where(np.isnan(bars.death), limits[1], bars.death), *limits)
    row = np.arange(1, count + 1)
    quiet = bars.life <= shown.noise_floor
    stands = shown.standing("bars", count)
    grey = quiet | ~stands
    colours = np.where(bars.essential > 0, COLOURS["deep"], np.where(grey, COLOURS["noise"], COLOURS["basin"]))
    width = float(np.clip(120 / count, 0.8, 8))
    lines = np.stack([np.stack([birth, row], axis=1), np.stack([death, row], axis=1)], axis=1)
    drawn = LineCollection(list(lines), colors=list(colours), linewidths=width)
    shown.link(drawn, "bars", np.arange(count))
    ax.add_collection(drawn, autolim=False)
    filled = [colour if stood else "none" for colour, stood in zip(colours, stands, strict=True)]
    edges = list(colours)
    dots = ax.scatter(
        birth, row, s=(width / 2 + 1.2) ** 2, c=filled, edgecolors=edges, linewidths=list(0.8 * ~stands), zorder=3
    )
    shown.link(dots, "bars", np.arange(count))
    room = 0.5 + 0.02 * count
    ax.set_ylim(1 - room, count + room)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if quiet.any():
        ax.axhspan(float(row[quiet][0]) - 0.5, count + room, color=COLOURS["noise"], alpha=0.2, linewidth=0)
        ax.text(0.99, 0.98, "no longer than the noise floor", transform=ax.transAxes, ha="right", va="top", fontsize=9)
    if count < shown.n_minima:
        ax.set_title(f"the {count} most persistent of {shown.n_minima:,} basins", loc="left")
    ax.grid(axis="y", visible=False)
    return ax


def plot_merge_tree(
    of: Subject | MergeTree | LandscapeStore, ax: Axes | None = None, *, limits: tuple[float, float] | None = None
) -> Axes:
    """Each minimum is a leaf; its line goes up to the loss at which a deeper one absorbs it. Lines never cross.

    Where not all minima are shown, the title says so. Leaves are red dots, saddles orange diamonds; minima that are the
    grid's alone are grey, and their leaves hollow.

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
    tree, limits = shown.drawing.branches, shown.limits
    count = len(tree.birth)
    loss_axis(ax, "y", limits)
    ax.set_xlabel("basins")
    ax.set_xticks([])
    ax.grid(axis="x", visible=False)
    if count == 0 or not np.isfinite(limits).all():
        say(ax, "no finite loss")
        return ax
    x = leaf_order(tree)
    birth = np.clip(tree.birth, *limits)
    dies = (tree.parent >= 0) & ~np.isnan(tree.death)
    death = np.clip(np.where(dies, tree.death, limits[1]), *limits)
    across = np.where(dies, x[tree.parent], x)
    lines = np.stack([x, birth, x, death, across, death], axis=1).reshape(-1, 3, 2)
    stands = shown.standing("leaves", count)
    colours = np.where(tree.parent < 0, COLOURS["deep"], COLOURS["basin"])
    colours = np.where(stands, colours, COLOURS["noise"])
    branches = LineCollection(list(lines), colors=list(colours), linewidths=float(np.clip(60 / count, 0.5, 1.2)))
    shown.link(branches, "leaves", np.arange(count))
    ax.add_collection(branches, autolim=False)
    size = float(np.clip(600 / count, 3, 16))
    ax.scatter(across[dies], death[dies], s=0.6 * size, marker="D", c=COLOURS["saddle"], linewidths=0, zorder=3)
    for which, face, edge in ((stands, COLOURS["minimum"], "none"), (~stands, "none", COLOURS["noise"])):
        places = np.flatnonzero(which)
        if len(places):
            dots = ax.scatter(
                x[places], birth[places], s=size, facecolors=face, edgecolors=edge, linewidths=0.8, zorder=4
            )
            shown.link(dots, "leaves", places)
    room = 0.5 + 0.02 * count
    ax.set_xlim(-room, count - 1 + room)
    ax.set_title(title_of_leaves(count, shown.n_minima), loc="left")
    return ax


def title_of_leaves(count: int, n_minima: int) -> str:
    if count < n_minima:
        return f"the {count} most persistent of {n_minima:,} minima"
    return f"{n_minima} minima" if n_minima > 1 else "a single minimum"


def leaf_order(tree: Branches) -> NDArray[np.int64]:
    """Places of the leaves, (m,): a subtree is a run of places; what dies into a branch earlier lies nearer to it."""
    children: list[list[int]] = [[] for _ in range(len(tree.parent))]
    lasting = np.flatnonzero(tree.parent >= 0)
    for child in lasting[np.argsort(tree.death[lasting], kind="stable")]:
        children[tree.parent[child]].append(int(child))
    runs: list[list[int]] = [[] for _ in range(len(tree.parent))]
    for i in reversed(range(len(tree.parent))):  # children come after their parent
        left, right = children[i][1::2], children[i][0::2]
        runs[i] = [
            *(leaf for child in reversed(left) for leaf in runs[child]),
            i,
            *(leaf for child in right for leaf in runs[child]),
        ]
    order = [leaf for i in np.flatnonzero(tree.parent < 0) for leaf in runs[i]]
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(tree.parent))
    return place
