"""The topological landscape profile (Geniesse et al., arXiv 2411.12136)."""

from __future__ import annotations

from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm, Normalize, to_hex
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.report import text
from landscaper_hpc.report.figures.style import COLOURS, drawn_on, is_log, loss_axis, say
from landscaper_hpc.report.figures.subject import Subject, subject
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.topology.drawing import Bars, Branches, Drawing
from landscaper_hpc.topology.profile import Profile
from landscaper_hpc.topology.tree import MergeTree

_NARROWEST, _ROOM = 0.012, 0.5
"""A basin is drawn as wide as this share of the grid at least; all that is added for it takes no more than half of it
again."""
_LIGHT, _DARK = 0.08, 0.85  # of the scale of blues: what is seen on white


def plot_profile(
    of: Subject | LandscapeStore | Profile, ax: Axes | None = None, *, limits: tuple[float, float] | None = None
) -> Axes:
    """Nested basins: at each loss (height), a basin is as wide as the number of grid points it holds below that loss.

    From one joining to the next, a basin is filled by the mean loss of the points it grows by, the darker the lower.
    Red dots are minima, orange diamonds the saddles at which a basin joins a deeper one. Basins whose minimum is the
    grid's alone are grey, and hollow at it. What would be too narrow to see is drawn wider; then the label of the axis
    says so.

    Parameters
    ----------
    of
        A landscape with a stored tree, or a profile.
    ax
        Where to draw; by default in a new figure.
    limits
        The range of losses shown.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        Where the landscape's grid was too large for a profile, and for a merge tree alone.

    References
    ----------
    Geniesse et al., *Visualizing Loss Functions as Topological Landscape Profiles*, arXiv 2411.12136.
    """
    ax = drawn_on(ax)
    shown = _of_profile(of, limits) if isinstance(of, Profile) else subject(of, limits)
    profile = shown.drawing.profile
    if profile is None:
        if isinstance(of, MergeTree):
            raise InputError("a merge tree alone has no profile; draw landscape_profile(losses, tree)")
        raise InputError("this landscape's grid is too large for its profile, which was not made")
    loss_axis(ax, "y", shown.limits)
    ax.set_xlabel("grid points below that loss")
    ax.set_xticks([])
    ax.grid(axis="x", visible=False)
    if profile.n_branches == 0 or not np.isfinite(shown.limits).all():
        say(ax, "no finite loss")
        return ax
    wide = widened(profile, shown.n_vertices)
    _width_axis(ax, wide, shown.n_vertices)
    height = np.clip(profile.height, *shown.limits)
    stands = shown.standing("basins", profile.n_branches)
    branch, begin, end = regions(profile)
    outlines = []
    for s, e in zip(begin.tolist(), end.tolist(), strict=True):
        x = np.concatenate([wide.left[s:e], wide.right[s:e][::-1]])
        outlines.append(np.stack([x, np.concatenate([height[s:e], height[s:e][::-1]])], axis=1))
    blues = _blues(mean_losses(profile, begin, end, shown.limits), shown.limits)
    faces = [blue if stood else COLOURS["noise"] for blue, stood in zip(blues, stands[branch], strict=True)]
    edges = [COLOURS["ink"] if stood else COLOURS["noise"] for stood in stands[branch]]
    basins = PolyCollection(outlines, facecolors=faces, edgecolors=edges, linewidths=0.3, joinstyle="round")
    shown.link(basins, "basins", branch)
    ax.add_collection(basins, autolim=False)
    first, last = profile.start[:-1], profile.start[1:] - 1
    size = float(np.clip(900 / profile.n_branches, 4, 18))
    ends = profile.dies & (profile.depth > 0)
    at = (wide.left + wide.right) / 2
    ax.scatter(
        at[last][ends], height[last][ends], s=0.7 * size, marker="D", c=COLOURS["saddle"], linewidths=0, zorder=3
    )
    for which, face, edge in ((stands, COLOURS["minimum"], "none"), (~stands, "none", COLOURS["noise"])):
        places = np.flatnonzero(which)
        if len(places):
            x, y = at[first][places], height[first][places]
            dots = ax.scatter(x, y, s=size, facecolors=face, edgecolors=edge, linewidths=0.8, zorder=4, clip_on=False)
            shown.link(dots, "basins", places)
    return ax


class Wide(NamedTuple):
    """Where outlines are drawn: `left`, `right` as those of the profile, `whole` the width of all, and `least` that of
    the narrowest basin, as a share of the grid; 0 where all are as wide as they are."""

    left: NDArray[np.float64]
    right: NDArray[np.float64]
    whole: float
    least: float


def widened(profile: Profile, n_vertices: int) -> Wide:
    """Outlines that nest as before, in which no basin is too narrow to see.

    Wherever a basin would be narrower, the whole picture is stretched there: what is wide enough keeps its scale.
    """
    last = profile.start[1:] - 1
    low, high = profile.left[last], profile.right[last]
    share = min(_NARROWEST, _ROOM / profile.n_branches)
    least = share * n_vertices
    parent = parents(profile)
    within = np.zeros(profile.n_branches)  # what is added within each
    extra = np.zeros(profile.n_branches)
    for depth in range(int(profile.depth.max()), -1, -1):
        at = profile.depth == depth
        extra[at] = np.maximum(0.0, least - (high[at] - low[at] + within[at]))
        if depth:
            np.add.at(within, parent[at], within[at] + extra[at])
    thin = extra > 0
    if not thin.any():
        return Wide(profile.left, profile.right, float(n_vertices), 0.0)
    slope = extra[thin] / (high[thin] - low[thin])
    places = np.concatenate([low[thin], high[thin]])
    order = np.argsort(places, kind="stable")
    places, rises = places[order], np.concatenate([slope, -slope])[order].cumsum()
    added = np.concatenate([[0.0], (rises[:-1] * np.diff(places)).cumsum()])

    def moved(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(x + np.interp(x, places, added), np.float64)

    return Wide(moved(profile.left), moved(profile.right), n_vertices + float(added[-1]), share)


def parents(profile: Profile) -> NDArray[np.int64]:
    """Which branch each is nested in, (m,); itself where in none."""
    last = profile.start[1:] - 1
    low, middle = profile.left[last], (profile.left[last] + profile.right[last]) / 2
    found = np.arange(profile.n_branches)
    for depth in range(1, int(profile.depth.max(initial=0)) + 1):
        above = np.flatnonzero(profile.depth == depth - 1)
        above = above[np.argsort(low[above], kind="stable")]
        at = profile.depth == depth
        found[at] = above[np.searchsorted(low[above], middle[at], side="right") - 1]
    return found


def regions(profile: Profile) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The outlines between the losses at which something joins, what is nested in others last: of each the branch, and
    where it begins and ends among the outlines' points."""
    parent, last = parents(profile), profile.start[1:] - 1
    middle = (profile.left[last] + profile.right[last]) / 2
    cuts = []
    for child in np.flatnonzero(profile.depth > 0).tolist():
        s, x = profile.branch(int(parent[child])), middle[child]  # upwards, an outline only grows to both sides
        at = max(np.searchsorted(-profile.left[s], -x), np.searchsorted(profile.right[s], x))
        cuts.append(s.start + int(at))
    begin = np.unique(np.concatenate([profile.start[:-1], np.array(cuts, np.int64)]))
    end = np.append(begin[1:], profile.start[-1])
    branch = np.searchsorted(profile.start, begin, side="right") - 1
    order = np.argsort(profile.depth[branch], kind="stable")
    return branch[order], begin[order], end[order]


def mean_losses(
    profile: Profile, begin: NDArray[np.int64], end: NDArray[np.int64], limits: tuple[float, float]
) -> NDArray[np.float64]:
    """The mean loss of the points that regions of outlines grow by, as far as the steps of the outline tell."""
    height, size = np.clip(profile.height, *limits), profile.size
    grown = np.diff(size, prepend=0.0)
    grown[begin] = 0.0  # where something joins it brings its own points, which are others'
    grown[profile.start[:-1]] = size[profile.start[:-1]]
    points = np.append(0.0, grown.cumsum())
    losses = np.append(0.0, (height * grown).cumsum())
    count = points[end] - points[begin]
    means = (losses[end] - losses[begin]) / np.maximum(count, 1)
    means[count == 0] = height[begin][count == 0]
    return np.asarray(means, np.float64)


def _blues(losses: NDArray[np.float64], limits: tuple[float, float]) -> list[str]:
    spread = 0.0 if limits[0] < limits[1] else 1.0
    norm = LogNorm(*limits) if is_log(*limits) else Normalize(limits[0] - spread, limits[1] + spread)
    share = np.asarray(norm(losses), np.float64)
    return [to_hex(colour) for colour in mpl.colormaps["Blues_r"](1 - _DARK + (_DARK - _LIGHT) * share)]


def _width_axis(ax: Axes, wide: Wide, n_vertices: int) -> None:
    ax.set_xlim(0, wide.whole)
    if wide.least:
        ax.set_xlabel(f"grid points below that loss\n(drawn as {text.percent(wide.least)} of them at least)")
        return
    ax.set_xticks([n_vertices * share for share in (0, 0.25, 0.5, 0.75, 1)])
    ax.xaxis.set_major_formatter(PercentFormatter(n_vertices))


def _of_profile(profile: Profile, limits: tuple[float, float] | None) -> Subject:
    none = np.empty(0)
    drawing = Drawing(Bars(none, none, none, none), Branches(none, none, none.astype(np.int64)), profile)
    finite = profile.height[np.isfinite(profile.height)]
    own = (float(finite.min()), float(finite.max())) if len(finite) else (np.nan, np.nan)
    return Subject(drawing, limits or own, profile.n_branches, int(profile.right.max(initial=0)))
