"""A network of minima and saddles from scattered points: against closed forms, from 1 to 16 directions."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from landscaper_hpc.confirm.network import network
from landscaper_hpc.confirm.quadratic import lowest
from landscaper_hpc.grid import Axis, Grid

Array = NDArray[np.float64]


class Wells:
    """sum_i w_i (x_i² − 1)² + 0.1 w_i x_i for the first `double` coordinates, x_i² for the others; counts what is asked
    for."""

    rounding = 2.2e-16

    def __init__(self, n: int, double: int) -> None:
        self.w = 1.3 ** np.arange(n)
        self.two = np.arange(n) < double
        self.gradients_asked = self.products_asked = 0

    def gradients(self, x: Array) -> tuple[Array, Array]:
        self.gradients_asked += len(x)
        values = np.where(self.two, self.w * ((x**2 - 1) ** 2 + 0.1 * x), x**2).sum(axis=1)
        return values, np.where(self.two, self.w * (4 * x * (x**2 - 1) + 0.1), 2 * x)

    def hessians(self, x: Array) -> Array:
        self.products_asked += x.size
        diagonal = np.where(self.two, self.w * (12 * x**2 - 4), 2.0)
        return np.asarray(diagonal[:, :, None] * np.eye(x.shape[1]))


def box(n: int, reach: float = 1.6, count: int = 21) -> Grid:
    return Grid((Axis(-reach, reach, count),) * n)


def roots() -> tuple[float, float, float]:
    """Where one double well's derivative is zero: minimum, maximum, minimum."""
    found = np.sort(np.roots([4, 0, -4, 0.1]).real)
    return found[0], found[1], found[2]


@pytest.mark.thorough
@pytest.mark.parametrize(("n", "double", "points"), [(1, 1, 16), (2, 2, 64), (4, 3, 256), (9, 2, 128), (16, 1, 128)])
def test_all_minima_and_the_passes_between_them(n: int, double: int, points: int) -> None:
    surface = Wells(n, double)
    made = network(surface, box(n), points, seed=1)
    low, top, high = roots()
    expected = np.array([[*ends, *[0.0] * (n - double)] for ends in product((low, high), repeat=double)])
    expected = expected[np.argsort(surface.gradients(expected)[0])]
    found = made.found
    np.testing.assert_allclose(found.points, expected, atol=1e-4)
    assert (found.kinds == 0).all()
    assert found.tree.n_minima == 2**double
    assert (found.tree.parent >= 0).sum() == 2**double - 1
    assert made.missed == 0
    assert made.unmet == pytest.approx(1 - (0.05 / 4) ** (1 / 50))
    # each dies at a pass over the cheapest of its walls, or where no such pass was looked for, higher
    walls = surface.w[:double] * ((top**2 - 1) ** 2 + 0.1 * top)
    bottoms = (
        surface.w[:double] * ((high**2 - 1) ** 2 + 0.1 * high),
        surface.w[:double] * ((low**2 - 1) ** 2 + 0.1 * low),
    )
    up = found.points[1:, :double] > 0
    heights = [
        value + min(walls[i] - bottoms[0][i] for i in np.flatnonzero(ways))
        for value, ways in zip(found.values[1:], up, strict=True)
    ]
    died = np.sort(found.tree.death_value[found.tree.parent >= 0])
    assert (died >= np.sort(heights) - 1e-9).all()
    if double == 1 or n == 2:
        np.testing.assert_allclose(died, np.sort(heights), rtol=1e-6)
    assert found.gradients_spent + points == surface.gradients_asked - len(expected)
    assert found.products_spent == surface.products_asked
    assert "ended where nothing had led before" in made.sentence()


def test_descents_go_on_until_a_batch_finds_nothing_new() -> None:
    """Four points show one basin of four."""
    made = network(Wells(2, 2), box(2), 4, seed=0)
    assert len(made.found.ends) == 1
    assert len(made.found.kinds) == 4
    assert (made.descents, made.missed) == (100, 0)
    assert (made.found.tree.parent < 0).sum() == 1


def test_a_low_point_of_a_quadratic_where_there_are_too_many_faces() -> None:
    """Nothing leads down from it: slopes point outwards at faces, vanish along them, and no curvature is negative."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        n = 12
        turned = np.linalg.qr(generator.normal(size=(n, n)))[0]
        hessian = turned @ np.diag(generator.normal(size=n)) @ turned.T
        gradient, lower, upper = generator.normal(size=n), -generator.random(n), generator.random(n)
        point, value = lowest(gradient, hessian, lower, upper)
        assert ((point >= lower) & (point <= upper)).all()
        assert value == pytest.approx(gradient @ point + point @ hessian @ point / 2)
        assert value < 0
        slope = gradient + hessian @ point
        free = (point > lower) & (point < upper)
        np.testing.assert_allclose(slope[free], 0, atol=1e-9)
        assert (slope[point <= lower] >= 0).all()
        assert (slope[point >= upper] <= 0).all()
        if free.any():
            assert np.linalg.eigvalsh(hessian[np.ix_(free, free)])[0] > -1e-9
    well = np.diag(np.arange(1.0, 13))
    np.testing.assert_allclose(lowest(-np.ones(12), well, np.full(12, -9.0), np.full(12, 9.0))[0], 1 / np.arange(1, 13))
