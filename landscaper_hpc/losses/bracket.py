"""How far the loss must be followed along a direction until it has risen by so much: the range of an axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from landscaper_hpc.directions.directions import Directions
from landscaper_hpc.errors import InputError
from landscaper_hpc.losses.displacement import Walk
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import one_thread
from landscaper_hpc.study.study import Found, Quantile

_START, _DOUBLINGS = 1e-4, 24
_NEAREST = _START / 2**20
_CLOSE = 1.005
POINTS = 256
"""Random points whose losses a quantile is taken of: the share of the box that lies below it is then known to 3 %."""


def rises(objective: Objective, directions: Directions, found_by: Sequence[Found | None]) -> list[float | None]:
    """How far the loss has to rise above the checkpoint's for each axis whose range is found so; None for the others.

    A quantile q within w is that of the losses of 256 points, drawn uniformly from the box of all directions from −w to
    w, always the same: the ⌈256 q⌉-th smallest, where NaN counts as infinite.

    Raises
    ------
    InputError
        Where a quantile is infinite, or no higher than the checkpoint's loss.
    """
    walk = Walk(objective, directions)
    drawn = np.random.default_rng(0).uniform(-1, 1, (POINTS, directions.n))
    found: list[float | None] = []
    samples: dict[float, list[float]] = {}  # by how far they lie out: the axes often ask for the same
    with torch.no_grad(), one_thread(objective.device):
        for by in found_by:
            if isinstance(by, Quantile):
                if by.within not in samples:
                    alphas = [np.zeros(directions.n), *(by.within * drawn)]
                    samples[by.within] = [float(objective.loss(walk.one(alpha))) for alpha in alphas]
                start, *sample = samples[by.within]
                height = np.sort(np.nan_to_num(sample, nan=np.inf, posinf=np.inf, neginf=-np.inf))[
                    math.ceil(POINTS * by.quantile) - 1
                ]
                if not start < height < math.inf:
                    raise InputError(
                        f"grid.range: the {by.quantile:g}-quantile of the losses within {by.within:g} is {height:.6g}, "
                        f"the checkpoint's loss {start:.6g}, so no range follows; give another quantile, or another "
                        "within"
                    )
                found.append(float(height - start))
            else:
                found.append(None if by is None else by.rise)
    return found


def reaches(objective: Objective, directions: Directions, rises: Sequence[float | None]) -> list[float | None]:
    """For each direction the coordinate r at which the loss has risen by so much above the checkpoint's, at −r as well
    as at r; None where no rise is asked for. The same every time.

    r is doubled from 0.0001 until the loss has risen on both sides, then the last doubling is halved until r is known
    to half a percent, and written with three digits. A loss that is infinite or NaN has risen. Each r costs two
    evaluations of the loss as it is written, a direction about forty.

    Raises
    ------
    InputError
        Where the loss does not rise by so much, as far as r is followed, and where it has risen by so much right
        beside the checkpoint, as one that jumps there has.
    """
    walk = Walk(objective, directions)

    def loss(axis: int, r: float) -> float:
        alpha = np.zeros(directions.n)
        alpha[axis] = r
        return float(objective.loss(walk.one(alpha)))

    found: list[float | None] = []
    with torch.no_grad(), one_thread(objective.device):
        start = loss(0, 0.0)
        for axis, rise in enumerate(rises):
            found.append(None if rise is None else _reach(partial(loss, axis), start, rise))
            if found[-1] == 0:
                raise InputError(
                    f"grid.range: along direction {axis + 1} the loss lies {rise:g} or more above {start:.6g}, the "
                    f"checkpoint's, at ±{_NEAREST:.0e} already, as one that jumps there, or is NaN beside it, does; "
                    "give a number"
                )
            if found[-1] == math.inf:
                raise InputError(
                    f"grid.range: along direction {axis + 1} the loss does not rise by {rise:g} above {start:.6g}, the "
                    f"checkpoint's, on both sides up to ±{_START * 2**_DOUBLINGS:.0f}; give a smaller rise, or a number"
                )
    return found


def _reach(loss: Callable[[float], float], start: float, rise: float) -> float:
    """The coordinate; 0 where it is below all that are looked at, infinite where it is above them."""

    def risen(r: float) -> bool:
        return not any(loss(side) - start < rise for side in (-r, r))

    low, high = 0.0, _START
    while not risen(high):
        low, high = high, 2 * high
        if high > _START * 2**_DOUBLINGS:
            return math.inf
    while high > _CLOSE * max(low, _NEAREST):
        middle = (low + high) / 2
        low, high = (low, middle) if risen(middle) else (middle, high)
    if low == 0:
        return 0.0
    return float(f"{high:.3g}")
