from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology import merge_tree, merge_tree_graph
from landscaper_hpc.topology.distances import bottleneck, distances, wasserstein


def costs(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far points (birth, death) move to each other and to the diagonal, square."""
    n, m = len(one), len(other)
    found = np.zeros((n + m, n + m))
    found[:n, :m] = np.abs(one[:, None] - other[None]).max(-1)
    found[:n, m:] = (one[:, 1:] - one[:, :1]) / 2
    found[n:, :m] = (other[:, 1] - other[:, 0]) / 2
    return found


def by_hand(cost: NDArray[np.float64], order: float) -> float:
    if order < np.inf:
        return float((cost**order)[linear_sum_assignment(cost**order)].sum() ** (1 / order))
    for d in np.unique(cost):
        if (cost > d)[linear_sum_assignment(cost > d)].sum() == 0:
            return float(d)
    raise AssertionError


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["sublevel", "superlevel"]), st.sampled_from([1.0, 2.0, np.inf]))
def test_distances_by_matching(seed: int, direction: str, order: float) -> None:
    rng = np.random.default_rng(seed)
    fields = [rng.random((7, 6)), rng.integers(0, 9, (5, 4)) / 9]
    trees = [merge_tree(f, direction=direction) for f in fields]
    diagrams = []
    for tree in trees:
        pairs = tree.persistence()
        diagrams.append(np.sort(np.stack([pairs.births, pairs.deaths], 1), 1))
    apart = abs(trees[0].values[0] - trees[1].values[0])  # the essential ones
    found = by_hand(costs(*diagrams), order)
    if order == np.inf:
        assert bottleneck(*trees) == pytest.approx(max(found, apart), rel=1e-12)
    else:
        expected = (found**order + apart**order) ** (1 / order)
        assert wasserstein(*trees, order=order) == pytest.approx(expected, rel=1e-8)


def test_a_bottleneck_distance_is_at_most_the_largest_difference() -> None:
    rng = np.random.default_rng(0)
    f = rng.random((9, 8, 7))
    for size in (0.0, 0.01, 0.3):
        g = f + size * rng.uniform(-1, 1, f.shape)
        found = bottleneck(merge_tree(f), merge_tree(g))
        assert found <= np.abs(f - g).max() + 1e-15
        assert (found == 0) == (size == 0)


def test_different_numbers_of_essential_minima_are_infinitely_far() -> None:
    wall = merge_tree([0.0, np.nan, 1.0])
    assert wasserstein(wall, wall) == 0
    apart = merge_tree_graph([0.0, 1.0], [0, 0, 0], [])
    assert wasserstein(apart, merge_tree([0.0, 1.0])) == np.inf


@pytest.mark.parametrize("order", [0.5, np.inf, np.nan])
def test_an_order_below_one_is_refused(order: float) -> None:
    tree = merge_tree([0.0, 1.0])
    with pytest.raises(InputError, match=f"order is {order}; give a finite number of at least 1, or use bottleneck"):
        wasserstein(tree, tree, order)


@pytest.mark.parametrize("order", [1.0, 2.0])
def test_a_single_minimum_is_as_far_from_many_as_these_are_deep(order: float) -> None:
    """GUDHI crashes here, where it is given what never dies as well."""
    many, one = merge_tree(np.array([0.0, 3.0, 1.0, 4.0, 2.5])), merge_tree(np.array([0.25, 1.0]))
    expected = (0.25**order + 1.0**order + 0.75**order) ** (1 / order)
    assert wasserstein(many, one, order) == pytest.approx(expected, rel=1e-8)
    assert wasserstein(one, many, order) == pytest.approx(expected, rel=1e-8)


def test_distances_of_several_are_those_of_each_two_as_far_as_pairs_are_kept() -> None:
    random = np.random.default_rng(3)
    trees = [merge_tree(random.normal(size=(9, 9))) for _ in range(3)]
    assert min(tree.n_minima for tree in trees) > 8
    whole, few = distances(trees, pairs=1000), distances(trees, pairs=5)
    assert whole.left_out == 0
    for i, one in enumerate(trees):
        for j, other in enumerate(trees):
            assert whole.bottleneck[i, j] == bottleneck(one, other)
            assert whole.wasserstein[i, j] == pytest.approx(wasserstein(one, other), rel=1e-8)
    sixth = [np.sort(tree.lifetimes)[-6] for tree in trees]
    assert few.left_out == max(sixth)
    assert np.abs(few.bottleneck - whole.bottleneck).max() <= few.left_out
    assert not np.allclose(few.wasserstein, whole.wasserstein)
