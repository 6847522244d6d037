"""Where ways to compute a loss are compared with the loss as it is written: at theta*, beside it, and at the size of
the grid. What is right beside the checkpoint may be wrong where a branch is taken the other way."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscaper_hpc.directions.directions import Directions
from landscaper_hpc.losses.displacement import Walk
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.recording.slabs import shifted

_CORNERS, _BETWEEN = 4, 2


@dataclass
class _Range:
    """The box of alphas that losses are asked for, shape (n,) each."""

    directions: Directions
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    expected: dict[int, Tensor] = field(default_factory=dict)  # the plain losses at the probes


_ranges: weakref.WeakKeyDictionary[Objective, _Range] = weakref.WeakKeyDictionary()


def widen(objective: Objective, directions: Directions, points: NDArray[np.float64]) -> bool:
    """Let the range of an objective along these directions hold `points` (m, n); whether it did not already."""
    low, high = points.min(axis=0), points.max(axis=0)
    known = _ranges.get(objective)
    if known is not None and known.directions is directions:
        if (known.low <= low).all() and (high <= known.high).all():
            return False
        low, high = np.minimum(low, known.low), np.maximum(high, known.high)
    _ranges[objective] = _Range(directions, low, high)
    return True


def probes(objective: Objective) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Flat parameters, the plain loss there, and whether they are far from theta*: theta*, two points beside it, and,
    where a range is known, corners of it and points between. All but theta* are put in the same memory."""
    known = _ranges.get(objective)
    layout = objective.layout
    memory = torch.empty_like(layout.whole(objective.parameters))
    near = ((point, False) for point in shifted(objective, memory))
    far = () if known is None else ((point, True) for point in _displaced(objective, known, memory))
    remembered = {} if known is None else known.expected
    for i, (point, is_far) in enumerate(itertools.chain(near, far)):
        if i not in remembered:
            remembered[i] = objective.loss(layout.unflatten(point)).detach()
        yield point, remembered[i], is_far


def _alphas(known: _Range) -> Iterator[NDArray[np.float64]]:
    """Up to four corners, opposite ones first, and two points between."""
    if (known.low == known.high).all():
        if known.low.any():
            yield known.low
        return
    n = len(known.low)
    for k in range(min(_CORNERS, 2**n)):
        upper = (np.arange(n) % 2 == 0) if k >= 2 else np.zeros(n, dtype=bool)
        yield np.where(upper ^ bool(k % 2), known.high, known.low)
    for share in np.random.default_rng(0).random((_BETWEEN, n)):
        yield known.low + share * (known.high - known.low)


def _displaced(objective: Objective, known: _Range, memory: Tensor) -> Iterator[Tensor]:
    walk = Walk(objective, known.directions, memory)
    for alpha in _alphas(known):
        walk.one(alpha)
        yield memory
