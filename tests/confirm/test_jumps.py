"""Minima in a row along a valley, which searches that jump and walks from minimum to minimum come to from one start."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from landscaper_hpc.confirm import jumps
from landscaper_hpc.confirm.jumps import Jumps
from landscaper_hpc.confirm.rows import searching
from landscaper_hpc.confirm.surface import Box, Cost, search
from landscaper_hpc.grid import Axis, Grid

Array = NDArray[np.float64]

GRID = Grid((Axis(0, 20, 21), Axis(0, 20, 21), Axis(0, 20, 21)))
"""In steps."""


class Valley:
    """1 − cos(π x), which has a minimum at every second x, and narrow across a curve (x, y(x)); z² besides."""

    rounding = 2.2e-16

    def __init__(self, bottom: float) -> None:
        self.bottom = bottom
        """Where in z it lies: below 0 on a face of the box."""

    def gradients(self, points: Array) -> tuple[Array, Array]:
        x, y, z = points.T
        off, deep = y - (x / 5) ** 2, z - self.bottom
        values = 1 - np.cos(np.pi * x) + 0.02 * x + 100 * off**2 + deep**2
        return values, np.stack(
            [np.pi * np.sin(np.pi * x) + 0.02 - 200 * off * 2 * x / 25, 200 * off, 2 * deep], axis=1
        )

    def hessians(self, points: Array) -> Array:
        x, y, _ = points.T
        off, slope = y - (x / 5) ** 2, 2 * x / 25
        found = np.zeros((len(points), 3, 3))
        found[:, 0, 0] = np.pi**2 * np.cos(np.pi * x) + 200 * slope**2 - 200 * off * 2 / 25
        found[:, 0, 1] = found[:, 1, 0] = -200 * slope
        found[:, 1, 1], found[:, 2, 2] = 200, 2
        return found


def searches(bottom: float) -> tuple[Jumps, Cost]:
    surface, box, cost = Valley(bottom), Box.of(GRID), Cost()

    def run(what: jumps.rows.What, starts: Array) -> Array:
        return np.array(search(surface, box, [searching(what, one, box, surface.rounding) for one in starts], cost))

    return Jumps(run, box, surface.rounding), cost


@pytest.mark.parametrize(("bottom", "kind"), [(10.0, "interior"), (-1.0, "edge")])
def test_one_start_leads_along_the_whole_valley(bottom: float, kind: str) -> None:
    found, cost = searches(bottom)
    (first,) = found.follow(np.array([[8.3, 4.0, 9.0]]))
    assert len(found.ends) == 1
    found.walk()
    at = np.array(sorted(end.point[0] for end in found.ends))
    inside = at[at > 0.5]  # the first one lies on the face x = 0
    np.testing.assert_allclose(inside, np.arange(2, 21, 2)[: len(inside)] - 0.02 / np.pi**2, atol=1e-3)
    assert len(inside) >= 9
    assert {end.kind for end in found.ends if 0.5 < end.point[0] < 19.5} == {kind}
    assert cost.total < 60 * len(at)
    assert found.follow(np.array([[8.3, 4.0, 9.0]])).tolist() == [first]


def test_starts_that_rest_together_are_one_end_whatever_is_known() -> None:
    starts = np.array([[4.1, 0.6, 10.0], [4.0, 0.7, 10.2], [9.9, 4.0, 10.0]])
    together, _ = searches(10.0)
    of = together.follow(starts)
    assert of[0] == of[1] != of[2]
    one_by_one, _ = searches(10.0)
    for start, end in zip(starts, of.tolist(), strict=True):
        (alone,) = one_by_one.follow(start[None])
        np.testing.assert_allclose(one_by_one.ends[alone].point, together.ends[end].point, atol=1e-4)


def test_no_more_ends_are_walked_from_than_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jumps, "WALKED", 2)
    found, _ = searches(10.0)
    found.follow(np.array([[8.3, 4.0, 9.0]]))
    found.walk()
    assert 1 < len(found.ends) < 8


def test_where_the_loss_is_no_number_is_an_end_that_nothing_is_known_of() -> None:
    found, _ = searches(np.nan)
    assert found.follow(np.array([[8.3, 4.0, 9.0]])).tolist() == [0]
    assert found.ends[0].kind == "unresolved"
    found.walk()
    assert len(found.ends) == 1
