"""Numbers of basins and of the checkpoint's surroundings, against what they are by hand or by brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from landscaper_hpc.comparison.taxonomy import Thresholds, phase
from landscaper_hpc.errors import InputError
from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.basins import basin_entropy, basin_width, below_half, pairwise, passes, per_basin
from landscaper_hpc.topology.distances import bottleneck, wasserstein
from landscaper_hpc.topology.sharpness import adaptive_metric, ball_sharpness, box_sharpness

WELLS = np.array([4.0, 1.0, 3.0, 0.5, 5.0, 2.0, 4.5])  # minima 0.5 (id 3), 1 (1) and 2 (5)


def test_entropy_and_width_of_basins() -> None:
    tree = merge_tree(WELLS, labels=True)
    shares = np.sort(tree.basin_size) / 7
    assert basin_entropy(tree) == pytest.approx(-sum(p * math.log(p) for p in shares))
    assert basin_entropy(merge_tree(np.arange(5.0))) == 0
    assert basin_entropy(merge_tree(np.array([0.0, 1.0, 0.0, 1.0]))) == pytest.approx(math.log(2))
    assert basin_width(0.25, [2.0, 8.0]) == 2.0
    assert below_half(tree, WELLS, tree.labels) == 1 / 7  # 0.5, up to 1.75
    assert below_half(merge_tree(np.arange(5.0)), np.arange(5.0), np.zeros(5)) == 3 / 5


def test_passes_are_the_lowest_ways_over_the_grid() -> None:
    for seed, shape in itertools.product(range(4), [(7,), (5, 4)]):
        field = np.random.default_rng(seed).random(shape)
        tree = merge_tree(field)
        found = passes(tree, tree.minima)
        for i, j in itertools.product(range(tree.n_minima), repeat=2):
            expected = next(
                level
                for level in np.sort(field, axis=None)
                if connected(field <= level, int(tree.minima[i]), int(tree.minima[j]))
            )
            assert found[i, j] == expected
    with pytest.raises(InputError, match="17 is no minimum"):
        passes(merge_tree(WELLS), [17])


def connected(below: np.ndarray, start: int, end: int) -> bool:
    """Whether two points are in one component of a region of the grid, by steps along the axes."""
    seen, ahead = set(), [start]
    while ahead:
        v = ahead.pop()
        place = np.unravel_index(v, below.shape)
        if v in seen or not below[place]:
            continue
        seen.add(v)
        for d, k in enumerate(below.shape):
            for step in (-1, 1):
                other = [*place]
                other[d] += step
                if 0 <= other[d] < k:
                    ahead.append(int(np.ravel_multi_index(other, below.shape)))
    return start in seen and end in seen


def test_any_number_of_the_points_is_told_for_each_basin() -> None:
    labels = np.array([[0, 0, 1], [2, -1, 1]])
    array = np.array([[1.0, 3.0, 5.0], [np.nan, 7.0, 9.0]])
    np.testing.assert_array_equal(per_basin(labels, array, 3), [2, 7, np.nan])
    np.testing.assert_array_equal(per_basin(labels, array, 3, "max"), [3, 9, np.nan])
    np.testing.assert_array_equal(per_basin(labels, array, 3, "min"), [1, 5, np.nan])
    np.testing.assert_array_equal(per_basin(labels, array, 3, "sum"), [4, 14, np.nan])
    with pytest.raises(InputError, match="labels have 6 points and the array 5"):
        per_basin(labels, np.zeros(5), 3)


def test_distances_between_all_landscapes() -> None:
    fields = {name: np.random.default_rng(i).random((6, 6)) for i, name in enumerate("abc")}
    trees = {name: merge_tree(field) for name, field in fields.items()}
    for distance in (bottleneck, wasserstein):
        found = pairwise(trees, distance)
        assert (np.diag(found) == 0).all()
        for (i, a), (j, b) in itertools.permutations(enumerate(fields), 2):
            assert found[i, j] == pytest.approx(distance(trees[a], trees[b]))


def test_sharpness_of_a_bowl() -> None:
    x = np.linspace(-0.1, 0.1, 9)  # 0.025 apart
    field = 2 + 300 * x[:, None] ** 2 + 100 * x[None, :] ** 2
    assert box_sharpness(field, [x, x], 0.05) == pytest.approx(100 * (300 + 100) * 0.05**2 / 3)
    assert ball_sharpness(field, [x, x], 0.05) == pytest.approx(300 * 0.05**2)
    assert ball_sharpness(field, [x, x], 0.06) == pytest.approx(300 * 0.05**2 + 100 * 0.025**2)
    assert box_sharpness(field, [x, x], 0.11) is None  # the grid does not reach as far
    assert box_sharpness(field, [x, x], 0.02) is None  # and has no other point as near
    assert ball_sharpness(field[1:], [x[1:] + 0.001, x], 0.05) is None  # nor is the checkpoint on it
    field[4, 5] = np.inf
    assert ball_sharpness(field, [x, x], 0.05) is None


def test_phases_and_their_thresholds() -> None:
    assert phase(1.0, 500, -0.5, 0.5).name == "I"
    assert phase(1.0, 5, -0.5, 0.5).name == "II"
    assert phase(0.0, 5, -0.5, 0.5).name == "III"
    assert phase(0.0, 5, -0.01, 0.5).name == "IV-A"
    found = phase(0.0, 5, 0.0, 0.95)
    assert found.name == "IV-B"
    assert "largest eigenvalue 5, up to 100" in found.sentence
    assert phase(0.0, 5, 0.0, 0.95, Thresholds(similarity=0.99)).name == "IV-A"
    with pytest.raises(InputError, match="linear CKA is from 0 to 1"):
        phase(0, 1, 0, 1.5)


@pytest.mark.parametrize("by_filter", [True, False])
def test_the_adaptive_ball_is_one_of_parameters_whatever_the_angle_of_directions(by_filter: bool) -> None:
    """By brute force over the grid, and the same when filters or tensors of the parameters are scaled."""
    random = np.random.default_rng(0)
    theta = {"a": random.normal(size=(3, 4)), "b": random.normal(size=(2, 5))}
    x = np.linspace(-0.1, 0.1, 9)
    field = random.random((9, 9))

    def cut(w: np.ndarray) -> np.ndarray:
        return w.reshape(len(w), -1) if by_filter else w.reshape(1, -1)

    found = []
    drawn = {k: random.normal(size=(2, *w.shape)) + random.normal(size=w.shape) for k, w in theta.items()}
    for scales in ({"a": 1.0, "b": 1.0}, {"a": 7.0, "b": 0.1}):
        weights = {k: scales[k] * w for k, w in theta.items()}
        directions = {}
        for k, w in weights.items():
            parts = np.stack([cut(u) for u in drawn[k]])
            parts *= np.linalg.norm(cut(w), axis=1, keepdims=True) / np.linalg.norm(parts, axis=2, keepdims=True)
            directions[k] = parts.reshape(drawn[k].shape)
        metric = adaptive_metric(directions, by_filter)
        inside = np.zeros((9, 9), bool)
        for i, j in np.ndindex(9, 9):
            squares = [
                (np.linalg.norm(cut(x[i] * u[0] + x[j] * u[1]), axis=1) / np.linalg.norm(cut(weights[k]), axis=1)) ** 2
                for k, u in directions.items()
            ]
            inside[i, j] = np.concatenate(squares).mean() <= 0.05**2 * (1 + 1e-9)
        found.append(ball_sharpness(field, [x, x], metric=metric))
        assert found[-1] == pytest.approx(field[inside].max() - field[4, 4])
        assert inside.sum() != (np.hypot(*np.meshgrid(x, x)) <= 0.05).sum()  # not that of coordinates
    assert found[0] == found[1]
