"""The lowest part of a field of which most vertices are known with an error, against that of the field itself."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from landscaper_hpc import InputError
from landscaper_hpc.sampling.all_data import OfAllData, lowest_of_all_data
from landscaper_hpc.sampling.lowest import Lowest, lowest
from tests.kinds import thorough
from tests.sampling.test_lowest import Field, waves


def pairs(found: Lowest) -> set[tuple[int, int]]:
    dies = found.tree.parent >= 0
    return set(zip(found.tree.minima[dies].tolist(), found.tree.death[dies].tolist(), strict=True))


def both(values: NDArray[np.float64], few: NDArray[np.float64], share: float) -> tuple[Lowest, OfAllData, Field]:
    whole = Field(values)
    field = Field(few)
    found = lowest_of_all_data(field, whole, values.shape, share=share, descents=10)
    assert found.evaluated == len(field.asked)
    np.testing.assert_array_equal(found.ids, np.sort(whole.asked))
    np.testing.assert_array_equal(found.losses, values.reshape(-1)[found.ids])
    return lowest(Field(values), values.shape, share=share, descents=10), found, whole


@pytest.mark.thorough
@pytest.mark.parametrize(("shape", "most", "share"), [((33, 33, 33), 3, 0.02), thorough((17, 17, 17, 17), 2, 0.02)])
def test_pairs_are_those_of_all_data_for_a_fifth_of_the_examples(
    shape: tuple[int, ...], most: int, share: float
) -> None:
    """What few of the data miss hides pairs, and makes others."""
    values = waves(shape, seed=4, most=most, bowl=0.5)
    few = values - 0.2 * waves(shape, seed=9, most=1, bowl=0)
    of_all, found, whole = both(values, few, share)
    assert len(pairs(of_all) - pairs(lowest(Field(few), shape, share=share, descents=10))) > len(pairs(of_all)) / 4
    assert pairs(found.lowest) == pairs(of_all)
    assert 2 < found.sure <= len(pairs(of_all))
    assert abs(found.lowest.level - of_all.level) <= found.error
    # of 2 batches of 32
    assert len(whole.asked) + found.evaluated / 16 < sum(of_all.evaluated.values()) / 5


def test_what_the_tree_stands_on_is_of_all_data() -> None:
    values = waves((41, 41), seed=1)
    _, found, _ = both(values, values + 0.05 * waves((41, 41), seed=2, bowl=0), 0.1)
    tree = found.lowest.tree
    critical = np.concatenate([tree.minima, tree.death, tree.first_saddle])
    assert np.isin(critical[critical >= 0], found.ids).all()
    np.testing.assert_array_equal(tree.values, values.reshape(-1)[tree.minima])


def test_few_data_that_say_it_all() -> None:
    values = waves((41, 41), seed=1)
    of_all, found, whole = both(values, values, 0.1)
    assert pairs(found.lowest) == pairs(of_all)
    assert found.error == 0
    assert len(whole.asked) < 60


def test_losses_that_are_not_finite_are_no_measure_of_an_error() -> None:
    """Walls of NaN and infinities, in few data and in all; a constant, and a line."""
    values = waves((21, 21), seed=3)
    few = values + 0.02 * waves((21, 21), seed=4)
    values[:, :3], few[:3] = np.nan, np.inf
    _, found, _ = both(values, few, 0.2)
    assert np.isfinite(found.error)
    for field in (np.zeros((9, 9)), np.arange(50.0).reshape(1, 50)):
        assert lowest_of_all_data(Field(field + 1), Field(field), field.shape, share=0.3).lowest.tree.n_vertices >= 0


def test_a_scope_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="no scope given"):
        lowest_of_all_data(Field(np.zeros((9, 9))), Field(np.zeros((9, 9))), (9, 9))
