"""How many evaluations are predicted, against how many a search takes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from landscaper_hpc.sampling.lowest import lattice_of, lowest
from landscaper_hpc.sampling.predict import from_descents, from_lattice, of_a_ball
from tests.kinds import slow
from tests.sampling.test_lowest import waves


@pytest.mark.parametrize("share", [0.01, 0.1])
# the slow one is of four dimensions, as the one before it
@pytest.mark.parametrize(("shape", "most"), [((41, 41, 41), 2), ((17, 17, 17, 17), 1), slow((21, 21, 21, 21), 3)])
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
    for asked in ((share, None), (None, found.level)):
        predicted = from_descents(lambda ids: flat[ids], shape, "axis", *asked)
        assert predicted is not None
        assert took / 1.5 < predicted < 1.5 * took
    assert of_a_ball(shape, share) < 1.1 * took


@pytest.mark.thorough
def test_descents_tell_how_narrow_basins_are_between_points_of_the_lattice() -> None:
    """Twenty waves of up to twelve half periods over 21 points along each axis: of the lattice's losses alone half of
    what it takes is predicted."""
    rng = np.random.default_rng(0)
    x = np.meshgrid(*[np.linspace(-1, 1, 21)] * 4, indexing="ij", sparse=True)
    field = np.zeros((21,) * 4)
    for _ in range(20):
        phase = sum(np.pi / 2 * rng.integers(-12, 13) * c for c in x) + rng.uniform(0, 2 * np.pi)
        field += rng.normal() * np.cos(phase)
    flat = field.reshape(-1)
    found = lowest(lambda ids: flat[ids], field.shape, share=0.1)
    took = sum(found.evaluated.values())
    predicted = from_descents(lambda ids: flat[ids], field.shape, "axis", 0.1, None)
    assert predicted is not None
    assert took / 1.2 < predicted < 1.2 * took


def test_a_few_vertices_of_the_lattice_below_a_level_are_no_count() -> None:
    """Eight wells of 41³ points: at the level of the lowest hundredth two of 1,331 are there, which is a seventh."""
    x = np.meshgrid(*[np.linspace(-1, 1, 41)] * 3, indexing="ij", sparse=True)
    field = sum((d + 1) * ((2 * c) ** 2 - 1) ** 2 + 0.3 * c for d, c in enumerate(x)) + np.zeros((41,) * 3)
    flat = np.asarray(field).reshape(-1)
    found = lowest(lambda ids: flat[ids], (41,) * 3, share=0.01)
    took = sum(found.evaluated.values())
    predicted = from_descents(lambda ids: flat[ids], (41,) * 3, "axis", None, found.level)
    assert predicted is not None
    assert took / 1.5 < predicted < 1.5 * took


def test_what_no_descent_met_is_not_predicted_and_what_is_not_known_is_said() -> None:
    values = waves((41, 41), seed=3)
    flat = values.reshape(-1)
    assert from_descents(lambda ids: flat[ids], (41, 41), "axis", None, float(flat.min())) is None

    def unknown(ids: NDArray[np.int64]) -> NDArray[np.float64]:
        raise LookupError

    with pytest.raises(LookupError):
        from_descents(unknown, (41, 41), "axis", 0.1, None)


@pytest.mark.thorough
def test_losses_that_are_not_finite_lie_in_the_walls() -> None:
    values = waves((41, 41), seed=3)
    values[:8] = np.nan
    values[-8:] = np.inf
    lattice = values.reshape(-1)[lattice_of((41, 41))]
    assert 121 < from_lattice(lattice, (41, 41), "axis", 0.05, None) < 41 * 41
    flat = values.reshape(-1)
    found = from_descents(lambda ids: flat[ids], (41, 41), "full", 0.05, None)
    assert found is not None
    assert 121 < found < 41 * 41
    flat[20 * 41 + 20] = -np.inf
    assert from_descents(lambda ids: flat[ids], (41, 41), "axis", None, 0.0) is not None
