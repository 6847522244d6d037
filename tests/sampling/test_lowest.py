"""The lowest part of a field against its dense merge tree, and against a flood vertex by vertex."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from landscaper_hpc import InputError
from landscaper_hpc.sampling.lowest import Lowest, lowest
from landscaper_hpc.topology import MergeTree, merge_tree
from landscaper_hpc.topology.metrics import mean_climb, smad
from landscaper_hpc.topology.scope import below, level_of_share
from tests.topology.fields import connectivities, fields
from tests.topology.test_scope import neighbours


class Field:
    """A field that notes what it was asked for."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values
        self.asked = np.empty(0, np.int64)

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        assert (np.diff(ids) > 0).all()
        assert not np.isin(ids, self.asked).any()
        self.asked = np.concatenate([self.asked, ids])
        return self.values.reshape(-1)[ids]


def waves(shape: tuple[int, ...], seed: int, most: int = 3, bowl: float = 1.0) -> NDArray[np.float64]:
    """A bowl with twelve waves of at most so many periods along each axis."""
    rng = np.random.default_rng(seed)
    x = np.meshgrid(*(np.linspace(-1, 1, k) for k in shape), indexing="ij", sparse=True)
    field = np.zeros(shape)
    for _ in range(12):
        field += np.cos(sum(np.pi * rng.integers(-most, most + 1) * c for c in x) + rng.uniform(0, 2 * np.pi)) / 4
    return field + bowl * sum(c**2 for c in x)


def dense(values: NDArray[Any], connectivity: str, level: float) -> MergeTree:
    tree = merge_tree(values, connectivity, labels=True)
    assert tree.labels is not None
    return below(tree, values, tree.labels, level)


def assert_exact(found: Lowest, values: NDArray[Any], connectivity: str) -> None:
    """That all that was found is complete, and says what the dense tree says of it."""
    flat = values.reshape(-1)
    near = neighbours(values.shape, connectivity)
    met = set(found.ids.tolist())
    assert all(flat[v] < found.level for v in met)
    assert all(w in met for v in met for w in near[v] if flat[w] < found.level)
    tree, whole = found.tree, dense(values, connectivity, found.level)
    at = np.searchsorted(whole.minima[(order := np.argsort(whole.minima))], tree.minima)
    of = order[at]
    np.testing.assert_array_equal(whole.minima[of], tree.minima)
    np.testing.assert_array_equal(whole.basin_size[of], tree.basin_size)
    np.testing.assert_array_equal(whole.values[of], tree.values)
    first = whole.first_saddle_value[of] < found.level
    np.testing.assert_array_equal(whole.first_saddle[of][first], tree.first_saddle[first])
    np.testing.assert_array_equal(tree.first_saddle_value < found.level, first)
    dies = whole.death_value[of] < found.level
    np.testing.assert_array_equal(tree.parent >= 0, dies)
    np.testing.assert_array_equal(whole.death[of][dies], tree.death[dies])
    np.testing.assert_array_equal(whole.minima[whole.parent[of][dies]], tree.minima[tree.parent[dies]])


@settings(max_examples=50)
@given(fields(max_ndim=4, max_size=150), connectivities, st.floats(0.05, 0.9), st.integers(0, 20))
def test_what_is_found_is_complete_and_exact(
    values: NDArray[Any], connectivity: str, share: float, descents: int
) -> None:
    """Ties, plateaus, NaN, infinities, unequal axes; by share, by level, and by number of points."""
    field = Field(values)
    found = lowest(field, values.shape, share=share, connectivity=connectivity, descents=descents)
    assert_exact(found, values, connectivity)
    assert len(found.ids) <= share * values.size
    assert sum(found.evaluated.values()) == len(field.asked)
    again = lowest(Field(values), values.shape, below=found.level, connectivity=connectivity, descents=0)
    assert_exact(again, values, connectivity)
    if values.size > 20:
        some = lowest(Field(values), values.shape, points=values.size - 1, connectivity=connectivity, descents=descents)
        assert_exact(some, values, connectivity)


@pytest.mark.thorough
@pytest.mark.parametrize("connectivity", ["axis", "freudenthal", "full"])
@pytest.mark.parametrize("share", [0.01, 0.1])
@pytest.mark.parametrize("shape", [(41, 41), (33, 25, 21), (17, 13, 12, 15)])
def test_smooth_fields_are_found_whole(shape: tuple[int, ...], share: float, connectivity: str) -> None:
    """The level, the tree and its numbers are those of the dense grid, from a part of it."""
    values = waves(shape, seed=len(shape), most=1, bowl=0.5)
    field = Field(values)
    found = lowest(field, shape, share=share, connectivity=connectivity, descents=0)
    whole = dense(values, connectivity, level_of_share(values, share))
    assert found.level == level_of_share(values, share)
    np.testing.assert_array_equal(found.tree.minima, whole.minima)
    np.testing.assert_array_equal(found.tree.basin_size, whole.basin_size)
    assert found.tree.value_range == whole.value_range
    assert smad(found.tree) == pytest.approx(smad(whole), rel=1e-12)
    assert mean_climb(found.tree) == pytest.approx(mean_climb(whole), rel=1e-12)
    assert len(field.asked) < 0.75 * values.size


@pytest.mark.thorough
def test_a_number_of_points_is_not_passed_and_leads_as_far_up_as_is_known() -> None:
    values = waves((41, 41, 21), seed=5)
    field = Field(values)
    few = lowest(field, values.shape, points=4000)
    assert 3800 < len(field.asked) <= 4000
    assert few.level == min(v for v in values.reshape(-1)[field.asked] if v >= few.level)
    more = lowest(Field(values), values.shape, points=8000)
    assert more.level > few.level
    assert_exact(more, values, "axis")


def test_the_checkpoints_basin_is_met_wherever_it_lies() -> None:
    """A hole of one vertex, off the lattice."""
    values = np.add.outer(np.linspace(-1, 1, 41) ** 2, np.linspace(-1, 1, 41) ** 2)
    values[33, 37] = -1.0
    hole = 33 * 41 + 37
    assert hole not in lowest(Field(values), values.shape, share=0.05, descents=0).tree.minima
    assert lowest(Field(values), values.shape, share=0.05, descents=0, start=[hole]).tree.minima[0] == hole


@pytest.mark.thorough
def test_the_bound_of_what_was_not_met_holds_as_often_as_it_says() -> None:
    """Of a rough field, of which the lattice misses much: the share that descends to what was missed, 200 times."""
    values = waves((17, 16, 18), seed=1, most=9, bowl=0.3)
    seeds_only = lowest(Field(values), values.shape, share=0.05, descents=0)
    whole = merge_tree(values, labels=True)
    assert whole.labels is not None
    missing = np.flatnonzero((whole.values < seeds_only.level) & ~np.isin(whole.minima, seeds_only.tree.minima))
    truth = np.isin(whole.labels, missing).mean()
    assert truth > 0.01
    held = []
    for seed in range(200):
        found = lowest(Field(values), values.shape, share=0.05, descents=60, seed=seed)
        assert found.descents == 60
        held.append(truth <= found.unmet)
    assert np.mean(held) >= 0.93


def test_random_descents_stay_cheap_unless_they_are_asked_for() -> None:
    values = waves((33, 33, 33), seed=2)
    found = lowest(Field(values), values.shape, share=0.01)
    assert 0 < found.descents < 300
    assert found.evaluated["random descents"] < 0.02 * values.size
    field, rounds = Field(values), []
    asked = lowest(lambda ids: (rounds.append(len(ids)), field(ids))[1], values.shape, share=0.01, descents=300)
    assert asked.descents == 300
    assert len(rounds) < 120  # a round takes a while however few it evaluates: descents go side by side


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "no scope given; give one of share, below and points"),
        ({"share": 0.1, "below": 1.0}, "share=0.1 and below=1.0 given"),
        ({"share": 1.0}, "share is 1.0; give a share of the points between 0 and 1"),
        ({"below": float("nan")}, "below is NaN"),
        ({"points": 9}, "points is 9; give more than the 9 of the lattice"),
        ({"share": 0.1, "descents": -1}, "descents is -1"),
    ],
)
def test_bad_scopes_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        lowest(lambda ids: ids, (12, 12), **options)


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="evaluate gave complex128 values of shape"):
        lowest(lambda ids: ids * 1j, (12, 12), share=0.1)
    with pytest.raises(InputError, match=r"of shape \(3, 3\) for 9 vertices"):
        lowest(lambda ids: ids.reshape(3, 3), (12, 12), share=0.1)
    with pytest.raises(InputError, match="shape is"):
        lowest(lambda ids: ids, (), share=0.1)


def test_nothing_below_a_level() -> None:
    found = lowest(lambda ids: ids * 1.0, (9, 9), below=-1.0)
    assert (found.tree.n_minima, found.tree.n_vertices, len(found.ids)) == (0, 0, 0)
    assert np.isnan(mean_climb(found.tree))


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_the_next_tenth_costs_about_what_is_said(share: float) -> None:
    values = waves((17, 17, 17, 17), seed=3, most=1)
    found, more = (lowest(Field(values), values.shape, share=by * share, descents=0) for by in (1, 1.1))
    cost = sum(more.evaluated.values()) - sum(found.evaluated.values())
    assert 0.7 < found.next_tenth / cost < 1.4
