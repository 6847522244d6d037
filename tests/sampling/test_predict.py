"""How many evaluations are predicted, against how many a search takes."""

from __future__ import annotations

import numpy as np
import pytest

from landscaper_hpc.sampling.lowest import lattice_of, lowest
from landscaper_hpc.sampling.predict import from_lattice, of_a_ball
from tests.sampling.test_lowest import waves


@pytest.mark.parametrize("share", [0.01, 0.1])
@pytest.mark.parametrize(("shape", "most"), [((41, 41, 41), 2), ((17, 17, 17, 17), 1), ((21, 21, 21, 21), 3)])
@pytest.mark.thorough
def test_the_lattice_predicts_within_a_factor_of_one_and_a_half(
    shape: tuple[int, ...], most: int, share: float
) -> None:
    values = waves(shape, seed=3, most=most)
    flat = values.reshape(-1)
    found = lowest(lambda ids: flat[ids], shape, share=share)
    took = sum(found.evaluated.values())
    assert took / 1.5 < from_lattice(flat[lattice_of(shape)], shape, "axis", share, None) < 1.5 * took
    assert took / 1.5 < from_lattice(flat[lattice_of(shape)], shape, "axis", None, found.level) < 1.5 * took
    assert of_a_ball(shape, share) < 1.1 * took


def test_losses_that_are_not_finite_lie_in_the_walls() -> None:
    values = waves((41, 41), seed=3)
    values[:8] = np.nan
    values[-8:] = np.inf
    lattice = values.reshape(-1)[lattice_of((41, 41))]
    assert 121 < from_lattice(lattice, (41, 41), "axis", 0.05, None) < 41 * 41
