"""Exact p-values against enumeration written out, scipy, and what is known of them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy

from landscaper_hpc.comparison.association import association, difference, holm, spearman_interval
from tests.kinds import thorough


@pytest.mark.parametrize("n", [4, 5, thorough(6)])
@pytest.mark.parametrize("ties", [False, True])
def test_equals_enumeration(n: int, ties: bool) -> None:
    generator = np.random.default_rng(n)
    x, y = generator.normal(size=(2, n))
    if ties:
        x, y = np.round(x), np.round(2 * y)
        x[0], x[1] = x[1] + 1, x[1]
    found = association(x, y)
    rhos = [scipy.stats.spearmanr(x, order).statistic for order in itertools.permutations(y)]
    assert found.rho == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert found.exact
    assert found.p == pytest.approx(np.mean(np.abs(rhos) > abs(found.rho) - 1e-9))
    ordered = (
        scipy.stats.spearmanr(np.sort(x), np.sort(y)).statistic,
        scipy.stats.spearmanr(np.sort(x), np.sort(y)[::-1]).statistic,
    )
    assert found.least_p == pytest.approx(np.mean(np.abs(rhos) > max(np.abs(ordered)) - 1e-9))
    assert found.least_p <= found.p

    def error(values: np.ndarray) -> float:
        left = []
        for i in range(n):
            rest = np.arange(n) != i
            line = np.polyfit(x[rest], values[rest], 1) if len(set(x[rest])) > 1 else [0, values[rest].mean()]
            left.append(values[i] - np.polyval(line, x[i]))
        return float(np.sqrt(np.mean(np.square(left))))

    assert found.error == pytest.approx(error(y))
    errors = [error(np.array(order)) for order in itertools.permutations(y)]
    assert found.p_error == pytest.approx(np.mean(np.array(errors) < found.error + 1e-9))
    means = [y[i] - np.delete(y, i).mean() for i in range(n)]
    assert found.error_of_mean == pytest.approx(np.sqrt(np.mean(np.square(means))))
    without = [scipy.stats.spearmanr(np.delete(x, i), np.delete(y, i)).statistic for i in range(n)]
    assert found.without_one == pytest.approx((np.nanmin(without), np.nanmax(without)))


def test_many_runs_are_sampled_and_twice_the_same() -> None:
    x = np.arange(14.0)
    y = x + np.random.default_rng(0).normal(size=14)
    found = association(x, y)
    assert found == association(x, y)
    assert not found.exact
    assert found.p == found.least_p == 1e-5
    assert found.low < found.rho < found.high < 1


def test_what_is_the_same_everywhere_goes_with_nothing() -> None:
    found = association([1, 2, 3, 4], [5, 5, 5, 5])
    assert math.isnan(found.rho)
    assert math.isnan(found.p)


def test_intervals_hold_what_they_are_to_hold() -> None:
    """95 % of them, of pairs whose rank correlation is known: 6/π asin(r/2) for normal pairs of correlation r."""
    generator = np.random.default_rng(3)
    true = 6 / math.pi * math.asin(0.6 / 2)
    held = 0
    for _ in range(300):
        x = generator.normal(size=25)
        rho = scipy.stats.spearmanr(x, 0.6 * x + 0.8 * generator.normal(size=25)).statistic
        low, high = spearman_interval(rho, 25)
        held += low <= true <= high
    assert 0.91 <= held / 300 <= 0.99


def test_groups_against_enumeration() -> None:
    a, b = np.array([1.0, 2.0, 2.0]), np.array([2.0, 3.5, 4.0, 5.0])
    found = difference(a, b)
    whole = np.concatenate([a, b])
    distances = []
    for chosen in itertools.combinations(range(7), 3):
        rest = np.setdiff1d(np.arange(7), chosen)
        distances.append(abs(whole[list(chosen)].mean() - whole[rest].mean()))
    assert found.p == pytest.approx(np.mean(np.array(distances) > abs(found.difference) - 1e-9))
    assert found.least_p == pytest.approx(1 / 35)
    assert found.delta == pytest.approx((10 - 0) / 12)
    assert difference([1.0, 2.0], [3.0, 4.0]).least_p == pytest.approx(2 / 6)


def test_holm() -> None:
    assert holm([0.01, 0.04, math.nan, 0.03])[:2] == pytest.approx([0.03, 0.06])
    assert holm([0.01, 0.04, math.nan, 0.03])[3] == pytest.approx(0.06)
    assert math.isnan(holm([0.01, math.nan])[1])
    assert holm([0.9, 0.8]) == [1, 1]


@pytest.mark.parametrize(("x", "y"), [([1, 2, 3], [1, 2, 3]), ([1, 2, 3, math.nan], [1, 2, 3, 4]), ([1] * 4, [1] * 5)])
def test_too_little_is_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match="compared"):
        association(x, y)


def test_from_one_run_nothing_follows() -> None:
    with pytest.raises(ValueError, match="one run"):
        difference([1.0], [2.0, 3.0])
