"""How sure a persistence pair, SMAD and mean climb are, where the loss is a mean over sampled data.

Everything is computed from the losses of the same groups of data at the critical points (`losses.by_group`), so the
height of a saddle above a minimum is a paired difference: what both have in common, the noise of hard examples, is gone
from it. The merge tree itself is held fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.tree import MergeTree

LEVEL = 0.05
"""A pair stands where its p-value after Holm's correction is below this."""
RESAMPLES = 2000

Kind = Literal["examples", "batches"]


class PairedErrors(NamedTuple):
    """Of each of p pairs of points: how much higher the upper one is over all groups, its standard error, and the
    p-value of "it is no higher" after multiple testing. All (p,); a p-value is NaN where a loss is not finite."""

    difference: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    p_value: NDArray[np.float64]


def paired_errors(lower: NDArray[np.float64], upper: NDArray[np.float64], weights: NDArray[np.float64]) -> PairedErrors:
    """Paired differences of group means, with their standard errors and one-sided t-tests.

    The variance of a group's mean is taken to fall with its weight: of groups of n_g examples it does. Then the test is
    exact for normal means, of few and unequal groups too.

    Parameters
    ----------
    lower, upper
        Shape (p, g): the mean losses of the groups at the two points of each pair.
    weights
        Shape (g,): how much each group counts.

    Returns
    -------
    PairedErrors
        p-values are Holm's: the probability of one or more false claims among all pairs is at most their level, however
        the pairs depend on each other.

    References
    ----------
    Aitken, *On least squares and linear combinations of observations* (1936); Holm, *A simple sequentially rejective
    multiple test procedure* (1979).
    """
    from scipy import stats  # a second, which only error bars need

    difference = upper - lower
    groups, total = len(weights), weights.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = difference @ weights / total
        error = np.sqrt(np.square(difference - mean[:, None]) @ weights / ((groups - 1) * total))
        statistic = np.where(mean == 0, 0.0, mean / error)
    return PairedErrors(mean, error, holm(stats.t.sf(statistic, groups - 1)))


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values after Holm's step-down correction for their number; NaN ones count as tests and stay NaN."""
    order = np.argsort(p_values, kind="stable")  # NaN last
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    ordered = p_values[order]
    adjusted[order] = np.where(np.isnan(ordered), np.nan, np.minimum(1.0, np.maximum.accumulate(factors * ordered)))
    return adjusted


class CriticalPoints(NamedTuple):
    """The vertices of a merge tree whose losses decide its numbers, and where they stand in `ids`.

    Attributes
    ----------
    ids
        (c,) flat ids, each once, in order.
    chosen
        (k,) indices of the tree's minima that take part: those of largest persistence, in the order of the minima.
    minimum, death, first
        (k,) places in `ids` of each, of its death and of its first saddle; -1 for none.
    """

    ids: NDArray[np.int64]
    chosen: NDArray[np.int64]
    minimum: NDArray[np.int64]
    death: NDArray[np.int64]
    first: NDArray[np.int64]


def critical_points(tree: MergeTree, most: int) -> CriticalPoints:
    """The minima of largest persistence, `most` of them, with their deaths and first saddles."""
    life = np.where(np.isnan(tree.lifetimes), -np.inf, tree.lifetimes)
    chosen = np.sort(np.argsort(-life, kind="stable")[:most])
    columns = np.stack([tree.minima[chosen], tree.death[chosen], tree.first_saddle[chosen]])
    ids = np.unique(columns[columns >= 0])
    places = np.where(columns >= 0, np.searchsorted(ids, columns), -1)
    return CriticalPoints(ids, chosen, *places)


class Interval(NamedTuple):
    """A value and the bounds of what other samples of the data make of it, in 95 % of the cases."""

    value: float
    low: float
    high: float


def intervals(
    tree: MergeTree,
    points: CriticalPoints,
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    seed: int = 0,
) -> tuple[Interval, Interval]:
    """SMAD and mean climb with bootstrap intervals over groups of data.

    Pairs, basins and the range of losses are held fixed, and so are heights of minima that are not among `points`; a
    height that a resample makes negative counts as 0.

    Parameters
    ----------
    tree
        The merge tree, sublevel.
    points
        Which vertices were evaluated.
    values
        Shape (c, g): the mean losses of the groups at `points.ids`.
    weights
        Shape (g,).
    seed
        Of the resampling.

    Returns
    -------
    tuple of Interval
        SMAD and mean climb, their values from the same group losses.

    References
    ----------
    Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), percentile intervals; Hesterberg, *What Teachers
    Should Know About the Bootstrap* (2015), expanded percentiles, for few groups.
    """
    tree, unit = tree.scaled()
    values, (low, high) = values / unit, tree.value_range
    if not low < high:
        return Interval(0.0, 0.0, 0.0), Interval(0.0, 0.0, 0.0)
    groups = len(weights)
    draws = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)
    shares = np.concatenate([weights[None], draws * weights])  # the first is the sample itself
    shares = shares / shares.sum(axis=1, keepdims=True)
    meets = points.first >= 0
    heights = values[points.first[meets]] - values[points.minimum[meets]]
    climbed = np.clip(shares @ heights.T, 0.0, high - low) @ tree.basin_size[points.chosen[meets]]
    others = np.setdiff1d(np.flatnonzero(tree.first_saddle >= 0), points.chosen)
    fixed = np.clip(tree.first_saddle_value[others], low, high) - np.clip(tree.values[others], low, high)
    climbed = (climbed + np.nansum(fixed * tree.basin_size[others])) / (tree.n_vertices * (high - low))
    return _interval(climbed / tree.n_minima, groups), _interval(climbed, groups)


def _interval(found: NDArray[np.float64], groups: int) -> Interval:
    """Of the sample's value and those of its resamples. Their spread is too small by (g − 1) / g, and is itself known
    no better than g groups tell, so that wider quantiles than 2.5 % and 97.5 % are taken."""
    from scipy import stats

    tail = stats.norm.cdf(-np.sqrt(groups / (groups - 1)) * stats.t.ppf(0.975, groups - 1))
    low, high = np.quantile(found[1:], [tail, 1 - tail])
    return Interval(float(found[0]), float(low), float(high))


@dataclass(frozen=True)
class ErrorBars:
    """How sure the k most persistent minima of a tree are, and its SMAD and mean climb.

    Attributes
    ----------
    minima
        (k,) indices of the minima in the tree.
    essential
        (k,) which never die.
    difference, standard_error, p_value
        (k,) of the heights of their deaths above them (`PairedErrors`); NaN for those that never die.
    rounding
        (k,) by how much rounding moves these heights: against float64, or against sums in another order.
    smad, mean_climb
        With their intervals.
    units, kind, groups
        How many there are of what ("examples" or "batches"), and in how many groups they were taken.
    n_minima
        Of the tree.
    """

    minima: NDArray[np.int64]
    essential: NDArray[np.bool_]
    difference: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    p_value: NDArray[np.float64]
    rounding: NDArray[np.float64]
    smad: Interval
    mean_climb: Interval
    units: int
    kind: Kind
    groups: int
    n_minima: int

    @property
    def stands(self) -> NDArray[np.bool_]:
        """(k,) which minima stand: those that never die, and those whose height is beyond both of its errors."""
        beyond = (self.p_value < LEVEL) & (self.difference > self.rounding)
        return self.essential | beyond

    def sentence(self) -> str:
        """How many minima stand, in words."""
        looked = len(self.minima)
        of = (
            f"all {looked:,} minima"
            if looked == self.n_minima
            else f"the {looked:,} most persistent of {self.n_minima:,}"
        )
        return (
            f"{int(self.stands.sum()):,} of {of} stand out from rounding and from the choice of {self.units:,} "
            f"{self.kind} (p < {LEVEL:g}, corrected after Holm)"
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays by name."""
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _ARRAYS}
        arrays["essential"] = self.essential.astype(np.int64)
        arrays |= {"smad": np.array(self.smad), "mean_climb": np.array(self.mean_climb)}
        return arrays | {name: np.array(getattr(self, name), np.int64) for name in _COUNTS}


_ARRAYS = ("minima", "difference", "standard_error", "p_value", "rounding")
_COUNTS = ("units", "groups", "n_minima")


def error_bars_of(
    tree: MergeTree,
    points: CriticalPoints,
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    exact: NDArray[np.float64],
    units: int,
    kind: Kind,
    seed: int = 0,
) -> ErrorBars:
    """The error bars of a tree from losses at its critical points.

    Parameters
    ----------
    tree
        The merge tree, sublevel.
    points
        Which vertices were evaluated.
    values
        Shape (c, g): the mean losses of the groups at `points.ids`.
    weights
        Shape (g,).
    exact
        Shape (c, 2): the losses there as they are computed, and more exactly.
    units, kind
        How many examples or batches the groups are of.
    seed
        Of the resampling.

    Returns
    -------
    ErrorBars
    """
    dies = points.death >= 0
    low, high = points.minimum[dies], points.death[dies]
    pairs = paired_errors(values[low], values[high], weights)
    with np.errstate(invalid="ignore"):
        heights = exact[high] - exact[low]
    filled = np.full((4, len(dies)), np.nan)
    filled[:, dies] = (*pairs, np.abs(heights[:, 0] - heights[:, 1]))
    difference, standard_error, p_value, rounding = filled
    smad, mean_climb = intervals(tree, points, values, weights, seed)
    return ErrorBars(
        minima=points.chosen,
        essential=~dies,
        difference=difference,
        standard_error=standard_error,
        p_value=p_value,
        rounding=rounding,
        smad=smad,
        mean_climb=mean_climb,
        units=units,
        kind=kind,
        groups=len(weights),
        n_minima=tree.n_minima,
    )
