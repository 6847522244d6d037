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

_START, _DOUBLINGS = 1e-4, 24
_CLOSE = 1.005


def reaches(objective: Objective, directions: Directions, rises: Sequence[float | None]) -> list[float | None]:
    """For each direction the coordinate r at which the loss has risen by so much above the checkpoint's, at −r as well
    as at r; None where no rise is asked for. The same every time.

    r is doubled from 0.0001 until the loss has risen on both sides, then the last doubling is halved until r is known
    to half a percent, and written with three digits. A loss that is infinite or NaN has risen. Each r costs two
    evaluations of the loss as it is written, a direction about forty.

    Raises
    ------
    InputError
        Where the loss does not rise by so much, as far as r is followed.
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
            if found[-1] == math.inf:
                raise InputError(
                    f"grid.range: along direction {axis + 1} the loss does not rise by {rise:g} above {start:.6g}, the "
                    f"checkpoint's, on both sides up to ±{_START * 2**_DOUBLINGS:.0f}; give a smaller rise, or a number"
                )
    return found


def _reach(loss: Callable[[float], float], start: float, rise: float) -> float:
    def risen(r: float) -> bool:
        return not any(loss(side) - start < rise for side in (-r, r))

    low, high = 0.0, _START
    while not risen(high):
        low, high = high, 2 * high
        if high > _START * 2**_DOUBLINGS:
            return math.inf
    while high > _CLOSE * max(low, _START / 2**20):
        middle = (low + high) / 2
        low, high = (low, middle) if risen(middle) else (middle, high)
    return float(f"{high:.3g}")
