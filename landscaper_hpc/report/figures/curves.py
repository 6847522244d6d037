"""Mean climb, SMAD and the number of minima as functions of the persistence threshold; components over the level."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.report.figures.style import COLOURS, CYCLE, WRITTEN, drawn_on, loss_axis, of_powers, say
from landscaper_hpc.report.figures.subject import Subject, kept, subject
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.topology.metrics import SmadCurve, smad_curve
from landscaper_hpc.topology.tree import MergeTree

_DASHES = ["-", "--", "-.", ":"]
NAMED = 12
"""The most lines that a legend and colours can tell apart."""
Curve = Literal["mean_climb", "smad", "n_minima"]
LABELS: dict[Curve, str] = {"mean_climb": "mean climb", "smad": "SMAD", "n_minima": "minima"}


class Simplified(NamedTuple):
    """A curve, with the range of losses and the noise floor of the landscape that it is of."""

    curve: SmadCurve
    limits: tuple[float, float]
    noise_floor: float

    @property
    def shares(self) -> NDArray[np.float64]:
        """The thresholds as shares of the range."""
        low, high = self.limits
        return self.curve.thresholds / (high - low if low < high else 1.0)


def plot_over_threshold(
    of: MergeTree | LandscapeStore | Mapping[str, MergeTree | LandscapeStore | Simplified],
    ax: Axes | None = None,
    *,
    quantity: Curve = "mean_climb",
) -> Axes:
    """What is left of mean climb, SMAD or the number of minima without basins shallower than a threshold.

    The threshold is a share of each landscape's range of losses. The value without any threshold is a dot at the left
    end. Thresholds up to the highest noise floor are shaded where the figure reaches that low. Values are logarithmic
    down to the smallest positive one, and linear from there to 0. With more lines than colours can tell apart all are
    drawn alike.

    Parameters
    ----------
    of
        A merge tree, or a landscape with a stored one; or several by name.
    ax
        Where to draw; by default in a new figure.
    quantity
        "mean_climb", "smad" or "n_minima".

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        For a quantity that there is not.
    """
    if quantity not in LABELS:
        raise InputError(f"quantity is {quantity!r}; choose one of {', '.join(LABELS)}")
    ax = drawn_on(ax)
    several = of if isinstance(of, Mapping) else {"": of}
    curves = {name: item if isinstance(item, Simplified) else _simplified(item) for name, item in several.items()}
    if not curves:
        say(ax, "no trees to compare")
        return ax
    positive = np.concatenate([c.shares[c.curve.thresholds > 0] for c in curves.values()])
    low, high = (positive.min() / 3, min(1.0, positive.max() * 3)) if len(positive) else (1e-3, 1.0)
    dashes, many = cycle(_DASHES), len(curves) > NAMED
    for i, (name, item) in enumerate(curves.items()):
        y, colour = getattr(item.curve, quantity), CYCLE[i % len(CYCLE)]
        x = np.append(np.maximum(item.shares, low), high)
        look: dict[str, Any] = {"color": colour, "linestyle": next(dashes), "label": name}
        if many:
            look = {"color": COLOURS["deep"], "alpha": 0.4, "linewidth": 0.8}
        ax.step(x, np.append(y, y[-1:]), where="post", **look)
        ax.plot(x[:1], y[:1], marker="o", color=look["color"], clip_on=False, markersize=2 if many else 6)
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    of_powers(ax.xaxis, low, high)
    floor = max(
        c.noise_floor / (c.limits[1] - c.limits[0]) if c.limits[0] < c.limits[1] else 0 for c in curves.values()
    )
    if low < floor:
        ax.axvspan(low, min(floor, high), color=COLOURS["noise"], alpha=0.2, linewidth=0)
    ax.set_ylabel(LABELS[quantity])
    ax.set_xlabel("persistence threshold (share of the range of losses)")
    values = np.concatenate([getattr(c.curve, quantity) for c in curves.values()])
    if quantity == "n_minima":
        _count_axis(ax, int(values.max(initial=0)))
    else:
        if (values > 0).any():
            ax.set_yscale("symlog", linthresh=values[values > 0].min())
            ax.yaxis.set_minor_locator(NullLocator())
            ax.yaxis.set_major_formatter(WRITTEN)
        ax.set_ylim(bottom=0)
    if 1 < len(curves) <= NAMED:
        ax.legend()
    return ax


def plot_components(
    of: Subject | MergeTree | LandscapeStore, ax: Axes | None = None, *, limits: tuple[float, float] | None = None
) -> Axes:
    """How many components there are below each loss: every minimum adds one, every saddle takes one away.

    Parameters
    ----------
    of
        A merge tree, or a landscape with a stored one: all of its minima count.
    ax
        Where to draw; by default in a new figure.
    limits
        The range of losses shown.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = drawn_on(ax)
    found = kept(of)
    tree = found.tree() if isinstance(found, LandscapeStore) else found
    limits = subject(of, limits).limits
    if isinstance(tree, Subject):
        births, deaths = tree.drawing.branches.birth, tree.drawing.branches.death
    else:
        births, deaths = tree.values, tree.death_value
    loss_axis(ax, "x", limits)
    ax.set_ylabel("components below that loss")
    if not len(births) or not np.isfinite(limits).all():
        say(ax, "no finite loss")
        return ax
    deaths = deaths[~np.isnan(deaths)]
    levels = np.concatenate([births, deaths])
    order = np.argsort(levels, kind="stable")
    count = np.concatenate([np.ones(len(births)), -np.ones(len(deaths))])[order].cumsum()
    last = np.append(levels[order][1:] != levels[order][:-1], True)  # what happens at one loss is seen at once
    x, y = np.clip(levels[order][last], *limits), count[last]
    ax.step([*x, limits[1]], [*y, y[-1]], where="post", color=COLOURS["deep"])
    _count_axis(ax, int(y.max()))
    return ax


def _count_axis(ax: Axes, most: int) -> None:
    if most > 20:
        ax.set_yscale("log")
        of_powers(ax.yaxis, 1, most)
    else:
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))


def _simplified(of: MergeTree | LandscapeStore) -> Simplified:
    found = kept(of)
    shown = subject(found)
    if isinstance(found, MergeTree):
        return Simplified(smad_curve(found), shown.limits, shown.noise_floor)
    stored = {key.rpartition(".")[2]: value for key, value in found.numbers().items() if ".curve." in key}
    return Simplified(SmadCurve(**{k: np.array(v) for k, v in stored.items()}), shown.limits, shown.noise_floor)
