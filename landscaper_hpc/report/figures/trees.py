"""Persistence barcodes and merge trees."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from landscaper_hpc.report.figures.style import COLOURS, loss_axis, say
from landscaper_hpc.topology.drawing import Bars, Branches


def plot_barcode(
    ax: Axes,
    bars: Bars,
    limits: tuple[float, float],
    noise_floor: float,
    n_minima: int,
    stands: NDArray[np.bool_] | None = None,
) -> None:
    """One bar per basin, from its minimum (birth) to where a deeper basin absorbs it (death); longest at the bottom.

    The deepest basin never dies: its bar runs to the end. Bars no longer than the noise floor lie in a shaded band.
    Where there are fewer bars than `n_minima`, the title says so. Bars that do not stand (`stands`, one for each) are
    grey, and hollow at their minimum.
    """
    loss_axis(ax, "x", limits)
    ax.set_ylabel("basins, most persistent first")
    count = len(bars.birth)
    if not count or not np.isfinite(limits).all():
        say(ax, "no finite loss")
        return
    birth = np.clip(bars.birth, *limits)
    death = np.clip(np.where(np.isnan(bars.death), limits[1], bars.death), *limits)
    row = np.arange(1, count + 1)
    quiet = bars.life <= noise_floor
    stands = np.ones(count, bool) if stands is None else stands
    grey = quiet | ~stands
    colours = np.where(bars.essential > 0, COLOURS["deep"], np.where(grey, COLOURS["noise"], COLOURS["basin"]))
    width = float(np.clip(120 / count, 0.8, 8))
    lines = np.stack([np.stack([birth, row], axis=1), np.stack([death, row], axis=1)], axis=1)
    ax.add_collection(LineCollection(list(lines), colors=list(colours), linewidths=width), autolim=False)
    filled = [colour if stood else "none" for colour, stood in zip(colours, stands, strict=True)]
    edges = list(colours)
    ax.scatter(
        birth, row, s=(width / 2 + 1.2) ** 2, c=filled, edgecolors=edges, linewidths=list(0.8 * ~stands), zorder=3
    )
    room = 0.5 + 0.02 * count
    ax.set_ylim(1 - room, count + room)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if quiet.any():
        ax.axhspan(float(row[quiet][0]) - 0.5, count + room, color=COLOURS["noise"], alpha=0.2, linewidth=0)
        ax.text(0.99, 0.98, "no longer than the noise floor", transform=ax.transAxes, ha="right", va="top", fontsize=9)
    if count < n_minima:
        ax.set_title(f"the {count} most persistent of {n_minima:,} basins", loc="left")
    ax.grid(axis="y", visible=False)


def plot_merge_tree(
    ax: Axes,
    tree: Branches,
    limits: tuple[float, float],
    n_minima: int,
    stands: NDArray[np.bool_] | None = None,
) -> None:
    """Each minimum is a leaf; its line goes up to the loss at which a deeper one absorbs it. Lines never cross.

    `tree` may be simplified from one of `n_minima` minima; then the title says how many are shown. Minima that do not
    stand (`stands`, one for each), because they are the grid's alone, are grey, and their leaves hollow.
    """
    count = len(tree.birth)
    loss_axis(ax, "y", limits)
    ax.set_xlabel("basins")
    ax.set_xticks([])
    ax.grid(axis="x", visible=False)
    if count == 0 or not np.isfinite(limits).all():
        say(ax, "no finite loss")
        return
    x = _leaf_order(tree)
    birth = np.clip(tree.birth, *limits)
    dies = (tree.parent >= 0) & ~np.isnan(tree.death)
    death = np.clip(np.where(dies, tree.death, limits[1]), *limits)
    across = np.where(dies, x[tree.parent], x)
    lines = np.stack([x, birth, x, death, across, death], axis=1).reshape(-1, 3, 2)
    stands = np.ones(count, bool) if stands is None else stands
    colours = np.where(tree.parent < 0, COLOURS["deep"], COLOURS["basin"])
    colours = np.where(stands, colours, COLOURS["noise"])
    branches = LineCollection(list(lines), colors=list(colours), linewidths=float(np.clip(60 / len(x), 0.5, 1.2)))
    ax.add_collection(branches, autolim=False)
    size = float(np.clip(600 / len(x), 3, 16))
    ax.scatter(x[stands], birth[stands], s=size, c=list(colours[stands]), linewidths=0, zorder=3)
    if not stands.all():
        edges = list(colours[~stands])
        ax.scatter(x[~stands], birth[~stands], s=size, facecolors="none", edgecolors=edges, linewidths=0.8, zorder=3)
    room = 0.5 + 0.02 * len(x)
    ax.set_xlim(-room, len(x) - 1 + room)
    if count < n_minima:
        ax.set_title(f"the {count} most persistent of {n_minima:,} minima", loc="left")
    elif n_minima > 1:
        ax.set_title(f"{n_minima} minima", loc="left")
    else:
        ax.set_title("a single minimum", loc="left")


def _leaf_order(tree: Branches) -> NDArray[np.int64]:
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
