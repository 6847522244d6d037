"""Mean climb of a whole landscape from a sample: random vertices, their descents, and a flood about each minimum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import Connectivity
from landscaper_hpc.sampling.descents import descend
from landscaper_hpc.sampling.sample import Evaluate, Sample

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Climb:
    """An estimate of the mean climb, E_v[f(first saddle of the basin of v) − f(its minimum)], v uniform on the grid.

    Attributes
    ----------
    mean
        In the values' own unit. It has no bias.
    interval
        About it, with a probability of 0.95 as far as a mean of so many is normally distributed.
    bernstein
        About it, with a probability of at least 0.95 where no climb is higher than the range of the values that were
        met (Maurer and Pontil's empirical Bernstein bound); it is wide.
    value_range
        Smallest and largest finite value that was met. The range of the grid's is at least as wide.
    starts, minima
        How many vertices were drawn, and how many minima they descend to.
    evaluated
        How many vertices are known.
    """

    mean: float
    interval: tuple[float, float]
    bernstein: tuple[float, float]
    value_range: tuple[float, float]
    starts: int
    minima: int
    evaluated: int


def climb(
    evaluate: Evaluate,
    shape: tuple[int, ...],
    *,
    starts: int = 1000,
    connectivity: Connectivity = "axis",
    seed: int = 0,
) -> Climb:
    """Estimate the mean climb of a landscape without evaluating its grid.

    A flood from a minimum, lowest first, meets its first saddle exactly, so that every drawn vertex tells its climb
    without error: what is left is the error of a mean over a sample.

    Parameters
    ----------
    evaluate
        As in `lowest`.
    shape
        Of the grid.
    starts
        Number of vertices, drawn uniformly.
    connectivity
        Which vertices are neighbours.
    seed
        Of the starts.

    Returns
    -------
    Climb
        A vertex that descends to a place that is +inf or NaN climbs 0, as in `mean_climb`; a saddle that is not finite
        counts as the largest finite value that was met.

    Raises
    ------
    InputError
        For fewer than 2 starts.

    References
    ----------
    Maurer and Pontil, *Empirical Bernstein Bounds and Sample-Variance Penalization* (2009), theorem 4.
    """
    refuse_bad_starts(starts)
    sample = Sample(evaluate, shape, connectivity)
    drawn = np.random.default_rng(seed).integers(sample.size, size=starts)
    sample.take(drawn)
    ends = descend(sample, drawn)
    minima, of = np.unique(ends, return_inverse=True)
    saddles = np.full(len(minima), -1)
    open_ = np.flatnonzero(sample.values[minima] < np.inf)
    while len(open_):
        needed = []
        for k in open_:
            saddles[k], asked = sample.first_saddle(minima[k])
            needed.append(asked)
        blocked = np.array([len(asked) > 0 for asked in needed])
        open_ = open_[blocked]
        if len(open_):
            sample.around(np.unique(np.concatenate(needed)))
    low, high = sample.value_range()
    bottom = np.clip(sample.values[minima], low, high)
    top = sample.values[np.maximum(saddles, 0)]
    height = np.where(saddles < 0, 0.0, np.clip(np.where(np.isnan(top), high, top), low, high) - bottom)
    climbs = height[of]
    mean = float(climbs.mean())
    return Climb(
        mean,
        _about(mean, _normal(climbs)),
        _about(mean, _bernstein(climbs, high - low)),
        (low, high),
        starts,
        len(minima),
        sample.evaluated,
    )


def refuse_bad_starts(starts: int) -> None:
    """`InputError` for a number of starts that `climb` does not take."""
    if starts < 2:
        raise InputError(f"climb is asked for from {starts} random points; give at least 2")


def _about(mean: float, half: float) -> tuple[float, float]:
    return max(0.0, mean - half), mean + half


def _normal(climbs: NDArray[np.float64]) -> float:
    from scipy.stats import norm

    return float(norm.ppf((1 + _CONFIDENCE) / 2) * climbs.std(ddof=1) / math.sqrt(len(climbs)))


def _bernstein(climbs: NDArray[np.float64], most: float) -> float:
    """Half the width of the two-sided interval: each side with half of what may fail."""
    n, log = len(climbs), math.log(4 / (1 - _CONFIDENCE))
    return math.sqrt(2 * float(climbs.var(ddof=1)) * log / n) + 7 * most * log / (3 * (n - 1))
