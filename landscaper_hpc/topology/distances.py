"""Distances between persistence diagrams, by GUDHI."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology.heights import unit_of
from landscaper_hpc.topology.tree import MergeTree

MOST_PAIRS = 10_000
"""The most persistent pairs of each diagram that a distance is of: with t the largest persistence left out, the
distance is off by t at most."""


def bottleneck(one: MergeTree, other: MergeTree) -> float:
    """The bottleneck distance between the persistence diagrams of two merge trees, in the unit of the field.

    The smallest d for which the pairs (birth, death) of one diagram and those of the other can be matched, or left to
    the diagonal, with no birth and no death moved by more than d. What never dies is matched by its birth.

    Parameters
    ----------
    one, other
        Of the same direction. A value that is not finite counts as the largest finite one of its field (−inf as the
        smallest).

    Returns
    -------
    float
        Infinite where the two have different numbers of minima that never die.

    Raises
    ------
    InputError
        For trees of different directions.

    References
    ----------
    Cohen-Steiner, Edelsbrunner and Harer, *Stability of Persistence Diagrams* (2007); GUDHI's `bottleneck_distance`.
    """
    _refuse_other_direction(one, other)
    (a, b), unit = _diagrams([one, other])
    return _bottleneck(a, b) * unit


ACCURACY = 1e-9
"""Of a Wasserstein distance of large diagrams, relative."""
HIGHEST_ORDER = 64
"""Of a Wasserstein distance. Higher powers have no numbers; it is hardly more than the bottleneck distance there."""


def wasserstein(one: MergeTree, other: MergeTree, order: float = 1.0) -> float:
    """The Wasserstein distance between the persistence diagrams of two merge trees, in the unit of the field.

    The smallest (sum of d^q)^(1/q) over all ways to match the diagrams, or to leave pairs to the diagonal, d how far a
    birth or a death moves, whichever is more. What never dies is matched by its birth.

    Parameters
    ----------
    one, other
        As for `bottleneck`.
    order
        q, at least 1. For an infinite one see `bottleneck`.

    Returns
    -------
    float
        To rounding for diagrams of up to 500 pairs together, to a relative `ACCURACY` for larger ones. Infinite where
        the two have different numbers of minima that never die, and where it is beyond all numbers.

    Raises
    ------
    InputError
        For an order below 1 or above `HIGHEST_ORDER`, for trees of different directions, and for larger diagrams that
        differ by hardly more than rounding.

    References
    ----------
    Kerber, Morozov and Nigmetov, *Geometry Helps to Compare Persistence Diagrams* (2017); GUDHI's `hera`.
    """
    if not 1 <= order < np.inf:
        raise InputError(f"order is {order}; give a finite number of at least 1, or use bottleneck")
    if order > HIGHEST_ORDER:
        raise InputError(
            f"order is {order}, whose powers have no numbers; give at most {HIGHEST_ORDER}, or use bottleneck"
        )
    _refuse_other_direction(one, other)
    (a, b), unit = _diagrams([one, other])
    return _wasserstein(a, b, order) * unit


class Distances(NamedTuple):
    """Of each of k landscapes from each other.

    Attributes
    ----------
    pairs
        How many of the most persistent pairs of each they are of, at most.
    left_out
        The largest persistence that is left out so: a bottleneck distance is off by it at most.
    bottleneck, wasserstein
        (k, k), the latter of order 1.
    """

    pairs: int
    left_out: float
    bottleneck: NDArray[np.float64]
    wasserstein: NDArray[np.float64]


def distances(trees: Sequence[MergeTree], pairs: int = 100) -> Distances:
    """Bottleneck and Wasserstein distance between any two of these trees, of so many pairs of each."""
    diagrams, unit = _diagrams(trees)
    rest = [float(np.max(d[pairs:, 1] - d[pairs:, 0])) for d in diagrams if len(d) > pairs]
    few = [diagram[:pairs] for diagram in diagrams]
    found = np.zeros((2, len(trees), len(trees)))
    for i, j in combinations(range(len(trees)), 2):
        found[:, i, j] = found[:, j, i] = _bottleneck(few[i], few[j]), _wasserstein(few[i], few[j], 1.0)
    with np.errstate(over="ignore"):
        return Distances(pairs, max(rest, default=0.0) * unit, *(found * unit))


def _refuse_other_direction(one: MergeTree, other: MergeTree) -> None:
    if one.direction != other.direction:
        raise InputError(
            f"one merge tree is of direction {one.direction}, the other of {other.direction}; compare two of the same"
        )


def _bottleneck(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    from gudhi import bottleneck_distance

    found = float(bottleneck_distance(one, other))
    return 0.0 if found < np.finfo(float).tiny else found  # GUDHI adds the smallest number that there is


def _wasserstein(one: NDArray[np.float64], other: NDArray[np.float64], order: float) -> float:
    essential = [np.sort(diagram[np.isinf(diagram[:, 1]), 0]) for diagram in (one, other)]
    if len(essential[0]) != len(essential[1]):
        return np.inf
    points = [diagram[(diagram[:, 0] < diagram[:, 1]) & np.isfinite(diagram[:, 1])] for diagram in (one, other)]
    moved = np.abs(essential[0] - essential[1])
    total, unit = _matched(points, order)
    far = max(unit, float(moved.max(initial=0.0)))
    if far == 0:
        return 0.0
    births = float(((moved / far) ** order).sum())
    return float(far * (total * (unit / far) ** order + births) ** (1 / order))


_AT_ONCE, _AT_MOST = 500, 4_000
"""Points up to which the best matching is found as it is, and up to which where GUDHI, which is quicker then and comes
within `ACCURACY`, might not end: by high orders, and of diagrams that are nearly the same."""


def _matched(points: Sequence[NDArray[np.float64]], order: float) -> tuple[float, float]:
    """The least sum of d^q, and a unit of d: the bottleneck distance, so that the sum is from 1 to the number of points
    and is no number's rounding, whatever the order."""
    one, other = points
    n, m = len(one), len(other)
    unit = _bottleneck(one, other)
    if unit == 0:
        return 0.0, 0.0
    largest = max(float(np.abs(diagram).max(initial=0.0)) for diagram in points)
    if n + m <= _AT_ONCE or (n + m <= _AT_MOST and (order > 4 or unit < 1e-3 * largest)):
        from scipy.optimize import linear_sum_assignment

        cost = np.zeros((n + m, n + m))
        cost[:n, :m] = np.abs(one[:, None] - other[None]).max(axis=2)
        cost[:n, m:] = np.diff(one) / 2
        cost[n:, :m] = np.diff(other)[:, 0] / 2
        # a bottleneck's matching sums up to n + m at most, so none that is longer is in the best
        cost = np.minimum(cost / unit, (2 * (n + m)) ** (1 / order)) ** order
        return float(cost[linear_sum_assignment(cost)].sum()), unit
    from gudhi.hera import wasserstein_distance

    if unit < 1e-7 * largest:  # to a relative accuracy that rounding does not have it would not end
        raise InputError(
            f"the two diagrams of {n:,} and {m:,} pairs are the same to {unit / largest:.1g} of their values, and no "
            f"distance of so many is known to be exact there; simplify the trees first, or use bottleneck"
        )
    scaled = (diagram / unit for diagram in points)
    return float(wasserstein_distance(*scaled, order=order, internal_p=np.inf, delta=ACCURACY)) ** order, unit


def _diagrams(trees: Sequence[MergeTree]) -> tuple[list[NDArray[np.float64]], float]:
    """Of trees, in one unit, a power of two that is 1 unless values are near the largest numbers."""
    unit = max((unit_of(tree.value_range) for tree in trees), default=1.0)
    return [_diagram(tree) / unit for tree in trees], unit


def _diagram(tree: MergeTree) -> NDArray[np.float64]:
    """(birth, death) of all minima, those of a superlevel tree negated, (p, 2), the most persistent first; an essential
    one dies at infinity."""
    sign = -1.0 if tree.direction == "superlevel" else 1.0
    low, high = sorted(sign * x for x in tree.value_range)
    dies = tree.parent >= 0
    birth = sign * tree.values
    death = np.where(np.isnan(tree.death_value), high, sign * tree.death_value)
    if low <= high:
        birth, death = birth.clip(low, high), death.clip(low, high)
    death[~dies] = np.inf
    with np.errstate(over="ignore"):
        longest = np.argsort(birth - death, kind="stable")[:MOST_PAIRS]
    return np.stack([birth, death], axis=1)[longest]
