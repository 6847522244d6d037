"""What is asked of merge trees and does not fit them, and what is near to nothing or beyond all numbers: what is given,
and the sentence or the value that answers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.basins import below_half, passes, per_basin
from landscaper_hpc.topology.distances import bottleneck, wasserstein
from landscaper_hpc.topology.metrics import smad_curve
from landscaper_hpc.topology.profile import landscape_profile
from landscaper_hpc.topology.sharpness import box_sharpness

FIELD = np.array([3.0, 1, 2, 0, 4, 2, 5])
TREE, HIGH = merge_tree(FIELD, labels=True), merge_tree(FIELD, direction="superlevel", labels=True)
LABELS: Any = TREE.labels
how: Any = "median"

REFUSED: list[tuple[str, Callable[[], object], str]] = [
    ("directions that differ", lambda: bottleneck(TREE, HIGH), "direction sublevel, the other of superlevel"),
    ("of Wasserstein", lambda: wasserstein(TREE, HIGH), "direction sublevel, the other of superlevel"),
    ("an order without numbers", lambda: wasserstein(TREE, TREE, 1e3), "order is 1000.0, whose powers"),
    ("a threshold that is none", lambda: smad_curve(TREE, [0, np.nan]), "threshold is NaN"),
    ("the field of another tree", lambda: landscape_profile(FIELD[:3], TREE), "field has 3 values, the merge tree 7"),
    ("a mean of another kind", lambda: per_basin(LABELS, FIELD, 3, how), "how is 'median'; choose one of mean, min"),
    ("fewer basins than labels", lambda: per_basin(LABELS, FIELD, 2), "a label is 2, but there are 2 basins"),
    ("passes of maxima", lambda: passes(HIGH, HIGH.minima), "direction superlevel; give that of the negated field"),
    ("half of a maximum", lambda: below_half(HIGH, FIELD, LABELS), "direction superlevel"),
    ("a minimum between two", lambda: passes(TREE, [1.7]), "1.7 is no minimum"),
]


@pytest.mark.parametrize(("call", "told"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_does_not_fit_is_one_sentence(call: Callable[[], object], told: str) -> None:
    with pytest.raises((InputError, ValueError), match=told):
        call()


@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**-300, 1.0, 2.0**300, 2.0**1000])
@pytest.mark.parametrize("order", [1.0, 2.0, 10.0, 64.0])
def test_distances_follow_the_unit_of_a_field(scale: float, order: float) -> None:
    """GUDHI does not end where powers of what is given vanish or overflow."""
    other = FIELD[::-1] ** 2
    found = wasserstein(merge_tree(FIELD * scale), merge_tree(other * scale), order)
    assert found / scale == pytest.approx(wasserstein(merge_tree(FIELD), merge_tree(other), order), rel=1e-12)


@pytest.mark.parametrize("order", [1.0, 2.0, 16.0])
def test_distances_of_what_is_nearly_the_same(order: float) -> None:
    """GUDHI does not end where the accuracy that is asked for is below rounding: each value here is a multiple of the
    difference, which is then all the distance there is."""
    rng, step = np.random.default_rng(0), 2.0**-46
    field = np.arange(0.0, 60) % 2 + rng.integers(1, 2**20, 60) * 2.0**-21
    lifted = field + (np.arange(60) == 30) * step  # one minimum is lifted, by less than anything else differs
    assert wasserstein(merge_tree(field), merge_tree(lifted), order) == pytest.approx(step, rel=1e-12)


@pytest.mark.parametrize(("lowest", "expected"), [(0.0, 50.0), (-0.5, 100.0), (-1.0, None), (-3.0, None)])
def test_a_loss_of_minus_one_has_no_rise_in_parts_of_nothing(lowest: float, expected: float | None) -> None:
    """Cosine similarities as losses end there."""
    axis = np.linspace(-1, 1, 5)
    assert box_sharpness(np.add.outer(axis**2, axis**2) + lowest, [axis, axis], 0.5) == expected
