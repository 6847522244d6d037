"""Mean climb from a sample against that of the dense tree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from landscaper_hpc import InputError
from landscaper_hpc.sampling.climb import climb
from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.metrics import mean_climb
from tests.sampling.test_lowest import Field, waves
from tests.topology.fields import connectivities, fields


@pytest.mark.thorough
@settings(max_examples=60)
@given(fields(max_ndim=4, max_size=60), connectivities)
def test_of_every_vertex_it_is_the_mean_climb(values: NDArray[Any], connectivity: str) -> None:
    """With so many starts that every vertex is drawn, the climbs are those of the dense tree: as many, each exact."""
    found = climb(Field(values), values.shape, starts=40 * values.size, connectivity=connectivity)
    tree = merge_tree(values, connectivity, labels=True)
    assert tree.labels is not None
    assert found.minima >= tree.n_minima  # places that are not finite are none
    drawn = np.random.default_rng(0).integers(values.size, size=40 * values.size)
    weights = np.bincount(drawn, minlength=values.size)
    assert found.evaluated == values.size
    if tree.n_minima:
        assert found.value_range == tree.value_range
        sizes = np.bincount(tree.labels.reshape(-1) + 1, weights, minlength=tree.n_minima + 1)[1:]
        weighted = replace(tree, basin_size=sizes, n_vertices=len(drawn))
        assert found.mean == pytest.approx(mean_climb(weighted, normalize=False), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("shape", [(40, 33), (16, 14, 15)])
@pytest.mark.thorough
def test_its_intervals_hold_as_often_as_they_say(shape: tuple[int, ...]) -> None:
    values = waves(shape, seed=len(shape), most=4, bowl=0.5)
    truth = mean_climb(merge_tree(values), normalize=False)
    found = [climb(Field(values), shape, starts=150, seed=seed) for seed in range(200)]
    assert np.mean([low <= truth <= high for low, high in (f.interval for f in found)]) >= 0.93
    assert np.mean([low <= truth <= high for low, high in (f.bernstein for f in found)]) >= 0.99
    error = np.mean([f.mean for f in found]) - truth
    assert abs(error) < 4 * np.std([f.mean for f in found]) / np.sqrt(200)  # no bias


@pytest.mark.thorough
def test_a_bowl_has_no_climb() -> None:
    values = waves((9, 9), seed=0, bowl=100.0)
    found = climb(Field(values), (9, 9), starts=20)
    assert (found.mean, found.minima, found.evaluated) == (0.0, 1, 81)


def test_one_start_has_no_interval() -> None:
    with pytest.raises(InputError, match="from 1 random points; give at least 2"):
        climb(lambda ids: ids, (9, 9), starts=1)
