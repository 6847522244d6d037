"""The topological landscape profile (Geniesse et al., arXiv 2411.12136)."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from landscaper_hpc.report.figures.style import COLOURS, loss_axis, say
from landscaper_hpc.topology.profile import Profile


def plot_profile(
    ax: Axes,
    profile: Profile,
    n_vertices: int,
    limits: tuple[float, float],
    stands: NDArray[np.bool_] | None = None,
) -> None:
    """Nested basins: at each loss (height), a basin is as wide as the share of grid points it holds below that loss.

    The deepest basin is one colour and every basin that joins another, until it does, is a second. `limits` is the
    range of losses shown (heights beyond it, as -inf, are drawn at its ends). Basins whose minimum does not stand
    (`stands`, one for each branch), because it is the grid's alone, are drawn in grey.
    """
    ax.set_xlim(0, n_vertices)
    ax.set_xlabel("grid points below that loss")
    ax.set_xticks([n_vertices * share for share in (0, 0.25, 0.5, 0.75, 1)])
    ax.xaxis.set_major_formatter(PercentFormatter(n_vertices))
    loss_axis(ax, "y", limits)
    if profile.n_branches == 0 or not np.isfinite(limits).all():
        say(ax, "no finite loss")
        return
    height = np.clip(profile.height, *limits)
    stands = np.ones(profile.n_branches, bool) if stands is None else stands
    looks = ((True, True, "deep", 0.3), (False, True, "basin", 0.45), (True, False, "noise", 0.2))
    for essential, standing, name, alpha in (*looks, (False, False, "noise", 0.45)):
        outlines, colour = [], COLOURS[name]
        for i in np.argsort(profile.depth, kind="stable"):
            if (profile.depth[i] == 0) == essential and stands[i] == standing:
                s = profile.branch(int(i))
                x = np.concatenate([profile.left[s], profile.right[s][::-1]])
                y = np.concatenate([height[s], height[s][::-1]])
                outlines.append(np.stack([x, y], axis=1))
        if not outlines:
            continue
        # edges keep basins of a few points visible
        faces, edges = [(colour, alpha)], [colour]
        ax.add_collection(
            PolyCollection(outlines, facecolors=faces, edgecolors=edges, linewidths=0.8, joinstyle="round"),
            autolim=False,
        )
    ax.grid(axis="x", visible=False)
