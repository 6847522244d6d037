"""Errors of pairs, SMAD and mean climb against closed forms and against what other samples of data really do."""

from __future__ import annotations

import numpy as np
import pytest
import scipy
from numpy.typing import NDArray

from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.error_bars import LEVEL, critical_points, holm, intervals, paired_errors
from landscaper_hpc.topology.metrics import mean_climb, smad
from tests.kinds import thorough

RNG = np.random.default_rng


def test_of_equal_groups_the_error_is_that_of_a_mean() -> None:
    lower, upper = RNG(0).normal(size=(2, 5, 20))
    found = paired_errors(lower, upper, np.full(20, 3.0))
    assert found.difference == pytest.approx((upper - lower).mean(axis=1))
    assert found.standard_error == pytest.approx((upper - lower).std(axis=1, ddof=1) / 20**0.5)
    alone = scipy.stats.ttest_rel(upper, lower, axis=1, alternative="greater").pvalue
    assert found.p_value == pytest.approx(holm(alone))


def test_what_both_points_share_is_no_error() -> None:
    hard = RNG(0).exponential(size=30)
    found = paired_errors(hard[None], hard[None] + 1e-3, np.ones(30))
    assert found.standard_error == pytest.approx(0, abs=1e-15)
    assert found.p_value == pytest.approx(0)


@pytest.mark.parametrize("seed", range(3))
def test_holm_is_its_definition(seed: int) -> None:
    p = RNG(seed).uniform(size=9) ** 3
    for i in range(9):
        smaller = [p[j] * (9 - sum(p < p[j])) for j in range(9) if p[j] <= p[i]]
        assert holm(p)[i] == pytest.approx(min(1.0, max(smaller)))


def test_losses_that_are_not_finite_stand_for_nothing() -> None:
    lower, upper = np.zeros((2, 10)), np.full((2, 10), np.inf)
    upper[1] = 1.0
    found = paired_errors(lower, upper, np.ones(10))
    assert np.isnan(found.p_value[0])
    assert found.p_value[1] == 0


def test_equal_points_are_hardly_ever_told_apart() -> None:
    """Of 1,000 families of 8 pairs without any height, one in twenty or fewer has a pair that stands."""
    rng = RNG(0)
    wrong = 0
    for _ in range(1000):
        lower, upper = rng.exponential(size=(2, 8, 32))
        wrong += bool((paired_errors(lower, upper, np.ones(32)).p_value < LEVEL).any())
    assert wrong <= 70  # 50 expected at most, and three standard deviations


def test_few_unequal_groups_are_judged_as_many_equal_ones() -> None:
    """Of means of 8, 8, 8 and 1 examples one in twenty stands by chance, and not more."""
    sizes = np.array([8.0, 8, 8, 1])
    upper = RNG(0).normal(size=(20_000, 4)) / sizes**0.5
    found = paired_errors(np.zeros_like(upper), upper, sizes)
    p = scipy.stats.t.sf(found.difference / found.standard_error, 3)
    assert np.mean(p < LEVEL) == pytest.approx(LEVEL, abs=0.0046)  # three standard deviations


def fields(rng: np.random.Generator, groups: int) -> NDArray[np.float64]:
    """(x, g): wells on a line whose depths differ from one group of data to another."""
    x = np.linspace(-1, 1, 41)
    depth = 1 + 0.3 * rng.normal(size=(groups, 1))
    return (3 * x**2 - depth * np.exp(-(((x - 0.4) / 0.1) ** 2)) - np.exp(-(((x + 0.5) / 0.1) ** 2))).T


@pytest.mark.thorough
@pytest.mark.parametrize("count", [4, thorough(24)])
def test_intervals_hold_what_other_data_give(count: int) -> None:
    """Of 200 samples, 95 % intervals hold the mean climb of the whole population in 91 % to 99 %, of few groups too."""
    population = merge_tree(fields(RNG(99), 20_000).mean(axis=1))
    truth, held = mean_climb(population), 0
    for seed in range(200):
        groups = fields(RNG(seed), count)
        tree = merge_tree(groups.mean(axis=1))
        points = critical_points(tree, 10)
        _, climb = intervals(tree, points, groups[points.ids], np.ones(count))
        assert climb.value == pytest.approx(mean_climb(tree), rel=1e-12)
        held += climb.low <= truth <= climb.high
    assert 182 <= held <= 198


@pytest.mark.parametrize("most", [1, 3, 10**6])
@pytest.mark.parametrize("shape", [(7, 9), (5, 4, 6)])
def test_values_are_those_of_the_tree_however_few_pairs_are_looked_at(shape: tuple[int, ...], most: int) -> None:
    field = RNG(3).normal(size=shape)
    tree = merge_tree(field)
    points = critical_points(tree, most)
    assert len(points.chosen) == min(most, tree.n_minima)
    assert (points.ids[points.minimum] == tree.minima[points.chosen]).all()
    died = points.death >= 0
    assert (points.ids[points.death[died]] == tree.death[points.chosen[died]]).all()
    groups = np.repeat(field.ravel()[points.ids][:, None], 6, axis=1)
    found_smad, climb = intervals(tree, points, groups, np.ones(6))
    for found, exact in ((found_smad, smad(tree)), (climb, mean_climb(tree))):
        assert found == pytest.approx((exact,) * 3, rel=1e-12)


def test_a_flat_field_has_nothing_to_be_unsure_of() -> None:
    tree = merge_tree(np.zeros((4, 4)))
    points = critical_points(tree, 5)
    assert intervals(tree, points, np.zeros((len(points.ids), 3)), np.ones(3))[1] == (0, 0, 0)
