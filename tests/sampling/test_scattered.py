"""Landscapes from scattered points: closed forms, and what changes with their number."""

from __future__ import annotations

import numpy as np
import pytest

from landscaper_hpc import InputError
from landscaper_hpc.sampling.bounds import at_most
from landscaper_hpc.sampling.scattered import Kind, scattered, unit_points


@pytest.mark.parametrize("kind", ["sobol", "random", "latin"])
def test_points_are_in_the_cube_and_always_the_same(kind: Kind) -> None:
    points = unit_points(kind, 100, 16, seed=3)
    assert points.shape == (100, 16)
    assert ((points >= 0) & (points < 1)).all()
    np.testing.assert_array_equal(points, unit_points(kind, 100, 16, seed=3))
    assert (points != unit_points(kind, 100, 16, seed=4)).any()
    if kind == "latin":
        np.testing.assert_array_equal(np.sort((points * 100).astype(int), axis=0), np.arange(100)[:, None] + [0] * 16)
    if kind == "sobol":
        np.testing.assert_array_equal(unit_points("sobol", 30, 2), unit_points("sobol", 32, 2)[:30])


def test_a_bowl_has_one_minimum() -> None:
    points = unit_points("sobol", 600, 5)
    found = scattered(points, ((points - 0.5) ** 2).sum(axis=1))
    assert (found.tree.n_minima, found.components) == (1, 1)
    assert found.mean_climb == found.smad == 0
    assert found.minima_of_halves[0] == 1
    assert 0.05 < found.spacing < 0.4
    assert "SMAD, cannot be known at that density" in found.sentence()


def test_four_wells() -> None:
    """cos² along two axes: four equal basins, each half as deep as the range; what else there is, is shallow."""
    points = unit_points("sobol", 2000, 2)
    found = scattered(points, (np.cos(2 * np.pi * points) ** 2).sum(axis=1))
    assert np.count_nonzero(~(found.tree.lifetimes < 0.4)) == 4
    assert found.mean_climb < 0.55
    assert found.mean_climb_of_halves[0] < found.mean_climb_of_halves[1] < 0.55
    assert found.smad == pytest.approx(found.mean_climb / found.tree.n_minima)


def test_numbers_that_do_not_settle_are_seen_in_halves() -> None:
    points = unit_points("random", 800, 2)
    found = scattered(points, np.random.default_rng(0).random(800))
    assert found.minima_of_halves[1] < 0.7 * found.tree.n_minima


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"points have shape \(3, 2\), values \(3,\); give 4 points or more"):
        scattered(np.zeros((3, 2)), np.zeros(3))
    with pytest.raises(InputError, match=r"values \(4,\)"):
        scattered(np.zeros((5, 2)), np.zeros(4))


def test_the_bound_of_a_share() -> None:
    assert at_most(0, 50) == pytest.approx(1 - 0.05 ** (1 / 50))
    assert at_most(0, 50, 4) == pytest.approx(1 - (0.05 / 4) ** (1 / 50))
    assert at_most(50, 50) == 1
