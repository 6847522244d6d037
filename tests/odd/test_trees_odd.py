"""What is asked of merge trees and does not fit them, and what is near to nothing or beyond all numbers: what is given,
and the sentence or the value that answers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology import contour_tree, merge_tree
from landscaper_hpc.topology.basins import below_half, passes, per_basin
from landscaper_hpc.topology.decided import decided, without_shallow
from landscaper_hpc.topology.distances import bottleneck, wasserstein
from landscaper_hpc.topology.metrics import mean_climb, persistence_statistics, smad, smad_curve
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


WIDE = 2.0**1023  # times values from -1.9 to 1.9: their differences are no numbers
NEAR = np.random.default_rng(5).uniform(-1.9, 1.9, (6, 7))


@pytest.mark.parametrize(
    "number",
    [
        smad,
        mean_climb,
        lambda tree: smad(tree, weighted=False),
        lambda tree: persistence_statistics(tree).entropy,
        lambda tree: without_shallow(tree).n_minima,
        decided,
        lambda tree: smad_curve(tree).n_minima.tolist()[:10],
        lambda tree: contour_tree(NEAR * WIDE if tree.value_range[1] > 2 else NEAR).branches.leaf.tolist(),
    ],
)
def test_a_range_that_is_beyond_all_numbers_changes_nothing_that_has_no_unit(number: Any) -> None:
    assert number(merge_tree(NEAR * WIDE)) == number(merge_tree(NEAR))


def test_what_has_a_unit_is_right_as_far_as_there_are_numbers(caplog: pytest.LogCaptureFixture) -> None:
    one, wide = merge_tree(NEAR), merge_tree(NEAR * WIDE)
    assert "differences are larger than numbers go" in caplog.text
    assert smad(wide, normalize=False) == smad(one, normalize=False) * WIDE
    found, expected = persistence_statistics(wide), persistence_statistics(one)
    assert (found.mean, found.pairs, found.infinite_pairs) == (expected.mean * WIDE, expected.pairs, 0)
    assert (found.max, found.total) == (np.inf, np.inf)  # beyond 1.8e308
    np.testing.assert_array_equal(wide.lifetimes[1:], np.minimum(one.lifetimes[1:], np.nextafter(2, 0)) * WIDE)
    assert wide.lifetimes[0] == np.inf
    assert (
        bottleneck(wide, merge_tree(NEAR[::-1] ** 2 / 2 * WIDE))
        == bottleneck(one, merge_tree(NEAR[::-1] ** 2 / 2)) * WIDE
    )
    tall = persistence_statistics(merge_tree(np.array([0, 1.7, 0, 1.7, 0, 1.7]) * 1e308))
    assert (tall.mean, tall.total) == (1.7e308, np.inf)
    assert tall.entropy == pytest.approx(np.log(2))


OTHERS: list[tuple[str, Any, str]] = [
    ("of other values", merge_tree(FIELD + 1, labels=True), "of other values: at its minimum 3 it has 1.0, and they"),
    ("of turned values", merge_tree(FIELD[::-1], labels=True), "of other values: at its minimum"),
    ("of other high values", merge_tree(np.minimum(FIELD, 4), labels=True), "of other values, from 0.0 to 4.0, and "),
    ("of fewer values", merge_tree(FIELD[:5], labels=True), r"has the shape \(5,\)"),
    ("that is simplified", TREE.simplify(2), "simplified, without pairs below 2.0, and a contour tree is of all"),
    ("that is none", contour_tree(FIELD), "tree is a ContourTree; give the merge tree"),
]


@pytest.mark.parametrize(("tree", "told"), [row[1:] for row in OTHERS], ids=[row[0] for row in OTHERS])
def test_a_merge_tree_that_is_not_the_values_is_refused(tree: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        contour_tree(FIELD, tree=tree)


@pytest.mark.parametrize("tree", [TREE, HIGH, TREE.simplify(0), merge_tree(FIELD)])
def test_a_merge_tree_of_the_values_changes_nothing(tree: Any) -> None:
    assert contour_tree(FIELD, tree=tree).edges.tolist() == contour_tree(FIELD).edges.tolist()
