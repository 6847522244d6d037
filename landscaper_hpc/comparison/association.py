"""Whether two numbers of the same runs go together, and whether two groups of runs differ, with exact p-values.

Nothing is assumed of the numbers' distribution: what is random is which number belongs to which run (P. Good,
Permutation, Parametric and Bootstrap Tests of Hypotheses, 3rd ed., chapters 2 and 3). Few runs carry little, and how
little is told: the smallest p-value that their number admits, and what leaving out any one of them changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # whose `stats`, a second to load, is loaded when a number is asked for
from numpy.typing import ArrayLike, NDArray

EXACT = 400_000
"""Arrangements up to which all are looked at: nine pairs have 362,880. Of more, 99,999 random ones are."""
_RANDOM = 99_999
_SEED = 0
FEWEST = 4
"""Pairs below which no order of theirs is surprising: three have p = 1/3 at best."""


@dataclass(frozen=True)
class Association:
    """How x and y of `n` runs go together.

    rho
        Spearman's rank correlation, ties by mean ranks; NaN where x or y is the same everywhere.
    low, high
        Its 95 % interval (D. Bonett and T. Wright, Sample size requirements for estimating Pearson, Kendall and
        Spearman correlations, Psychometrika 65, 2000: Fisher's z with variance (1 + rho²/2)/(n − 3)).
    p
        Two-sided: the share of the ways to pair x with y whose |rho| is at least as large. `exact` if all were
        counted, else of 99,999 random ones and the one that is there.
    least_p
        The smallest p-value that is possible with these x and y.
    without_one
        The smallest and the largest rho when any one run is left out.
    error, error_of_mean
        Root mean squares of y minus its prediction for a run from the others: by a straight line in x, and by their
        mean.
    p_error
        The share of the ways to pair x with y for which the line's error is at most as large.
    """

    n: int
    rho: float
    low: float
    high: float
    p: float
    exact: bool
    least_p: float
    without_one: tuple[float, float]
    error: float
    error_of_mean: float
    p_error: float


@dataclass(frozen=True)
class Difference:
    """How a number differs between two groups of runs.

    difference
        Mean of the second minus mean of the first.
    delta
        Cliff's δ: the share of pairs in which the second's is larger, minus those in which it is smaller.
    p
        Two-sided: the share of the ways to deal the runs into groups of these sizes whose means differ at least as
        much. `exact` and `least_p` as of an `Association`.
    """

    n: tuple[int, int]
    means: tuple[float, float]
    difference: float
    delta: float
    p: float
    exact: bool
    least_p: float


def association(x: ArrayLike, y: ArrayLike) -> Association:
    """Rank correlation of two numbers with its exact p-value, and how well a line in x predicts y of a run left out.

    Parameters
    ----------
    x, y : (n,)
        Finite numbers of the same runs, n ≥ 4.

    Returns
    -------
    Association

    Raises
    ------
    ValueError
        Fewer than four runs, or a number that is not finite.
    """
    (x, _), (y, unit) = _near_one(_numbers(x)), _near_one(_numbers(y))
    n = len(x)
    if n != len(y) or n < FEWEST:
        raise ValueError(f"{n} and {len(y)} numbers; at least {FEWEST} pairs are compared")
    ranks = scipy.stats.rankdata(x), scipy.stats.rankdata(y)
    rho = float(_pearson(*ranks))
    low, high = spearman_interval(rho, n)
    orders = math.factorial(n)
    if math.isnan(rho):
        p = p_error = least = math.nan
    else:
        p = _p_of_pairs(ranks[0], ranks[1], lambda a, b: np.abs(_pearson(a, b)))
        p_error = _p_of_pairs(x, y, lambda a, b: -_left_out(a, b))
        least = _least(ranks[0], ranks[1])
    each = [_pearson(*(scipy.stats.rankdata(np.delete(v, i)) for v in (x, y))) for i in range(n)]
    others = (y.sum() - y) / (n - 1)
    return Association(
        n=n,
        rho=rho,
        low=low,
        high=high,
        p=p,
        exact=orders <= EXACT,
        least_p=least,
        without_one=(float(np.min(each)), float(np.max(each))),
        error=unit * float(_left_out(x, y)),
        error_of_mean=unit * float(np.sqrt(np.mean((y - others) ** 2))),
        p_error=p_error,
    )


def difference(first: ArrayLike, second: ArrayLike) -> Difference:
    """How a number differs between two groups of runs, with its exact p-value.

    Parameters
    ----------
    first, second : (n,), (m,)
        Finite numbers, at least two in each group: one run has no spread.

    Returns
    -------
    Difference

    Raises
    ------
    ValueError
        A group of one run or none, or a number that is not finite.
    """
    a, b = _numbers(first), _numbers(second)
    n, m = len(a), len(b)
    if min(n, m) < 2:
        raise ValueError(f"groups of {n} and {m} runs; from one run nothing follows, give two or more to each")
    ways = math.comb(n + m, n)
    found = scipy.stats.permutation_test(
        (a, b),
        _distance_of_means,
        permutation_type="independent",
        alternative="greater",
        n_resamples=EXACT if ways <= EXACT else _RANDOM,
        vectorized=True,
        batch=10_000,
        rng=np.random.default_rng(_SEED),
    )
    signs = np.sign(b[:, None] - a[None, :])
    return Difference(
        n=(n, m),
        means=(float(a.mean()), float(b.mean())),
        difference=float(b.mean() - a.mean()),
        delta=float(signs.mean()),
        p=float(found.pvalue),
        exact=ways <= EXACT,
        least_p=(2 if n == m else 1) / ways,
    )


def holm(p: Sequence[float]) -> list[float]:
    """p-values after several tests: S. Holm, A simple sequentially rejective multiple test procedure, 1979.

    Parameters
    ----------
    p
        One for each test; NaN where there was none, which counts as no test.

    Returns
    -------
    list[float]
        The same after correction, at most 1.
    """
    given = np.asarray(p, dtype=np.float64)
    tests = np.flatnonzero(~np.isnan(given))
    order = tests[np.argsort(given[tests], kind="stable")]
    found = np.full(len(given), np.nan)
    found[order] = np.minimum(1.0, np.maximum.accumulate(given[order] * np.arange(len(order), 0, -1)))
    return [float(each) for each in found]


def _numbers(values: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ValueError("one finite number for each run is compared")
    return found


def _near_one(numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Numbers whose squares are numbers, and their unit: a power of two, which takes no bit from them."""
    unit = float(2.0 ** (np.frexp(np.abs(numbers).max(initial=0.0))[1] - 1))
    return numbers / unit, unit


def _pearson(a: Any, b: Any, axis: int = -1) -> Any:
    a = a - a.mean(axis=axis, keepdims=True)
    b = b - b.mean(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(axis=axis) / np.sqrt((a * a).sum(axis=axis) * (b * b).sum(axis=axis))


def _left_out(x: Any, y: Any) -> Any:
    """Root mean square of what a line through all others leaves of each, along the last axis.

    By the leverage h, the residual of one left out is its residual over 1 − h. Where the others' x are all the same
    their mean predicts it.
    """
    n = x.shape[-1]
    dx = x - x.mean(axis=-1, keepdims=True)
    dy = y - y.mean(axis=-1, keepdims=True)
    spread = (dx * dx).sum(axis=-1, keepdims=True)
    slope = (dx * dy).sum(axis=-1, keepdims=True) / np.where(spread > 0, spread, 1)
    leverage = 1 / n + dx * dx / np.where(spread > 0, spread, 1)
    alone = np.isclose(leverage, 1, rtol=0, atol=1e-12)
    left = np.where(alone, dy * n / (n - 1), (dy - slope * dx) / np.where(alone, 1, 1 - leverage))
    return np.sqrt((left * left).mean(axis=-1))


def spearman_interval(rho: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a rank correlation of n pairs, as `Association` says."""
    if math.isnan(rho):
        return math.nan, math.nan
    if abs(rho) >= 1:
        return rho, rho
    half = scipy.stats.norm.ppf(0.975) * math.sqrt((1 + rho * rho / 2) / (n - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


def _p_of_pairs(x: NDArray[np.float64], y: NDArray[np.float64], statistic: Callable[[Any, Any], Any]) -> float:
    """The share of the ways to pair x with y whose statistic is at least as large."""
    exact = math.factorial(len(x)) <= EXACT
    found = scipy.stats.permutation_test(
        (x,),
        lambda a, axis: statistic(a, y),
        permutation_type="pairings",
        alternative="greater",
        n_resamples=EXACT if exact else _RANDOM,
        vectorized=True,
        batch=10_000,
        rng=np.random.default_rng(_SEED),
    )
    return float(found.pvalue)


def _least(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """What the p-value would be were x and y, as they are, paired in the order of their size."""
    if math.factorial(len(x)) > EXACT:
        return 1 / (_RANDOM + 1)
    ordered = np.sort(x), np.sort(y)
    best = max((ordered[0], ordered[0][::-1]), key=lambda each: abs(float(_pearson(each, ordered[1]))))
    return _p_of_pairs(best, ordered[1], lambda a, b: np.abs(_pearson(a, b)))


def _distance_of_means(a: Any, b: Any, axis: int) -> Any:
    return np.abs(a.mean(axis=axis) - b.mean(axis=axis))
