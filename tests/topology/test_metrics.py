from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import landscaper_hpc
from landscaper_hpc.objective.precision import PRECISIONS, epsilon
from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.metrics import (
    mean_climb,
    minima_above,
    minima_on_edge,
    noise_floor,
    persistence_statistics,
    smad,
    smad_curve,
)

ORACLES = sorted((Path(__file__).parents[1] / "data").glob("oracle_*.npz"))


@pytest.mark.parametrize("path", ORACLES, ids=lambda p: p.stem)
def test_smad_of_the_oracles(path: Path) -> None:
    """Equation 1 on white noise. Landscaper 1.3.1 says the same of six of these fields, see `test_landscaper`."""
    with np.load(path) as oracle:
        tree = merge_tree(oracle["f"])
        assert smad(tree) == pytest.approx(float(oracle["smad"]), rel=1e-6)
        assert smad(tree, weighted=False) == pytest.approx(float(oracle["norm"]), rel=1e-6)
        assert smad(tree, normalize=False, weighted=False) == pytest.approx(float(oracle["plain"]), rel=1e-6)
        assert tree.n_minima == len(oracle["pairs"])


@pytest.mark.parametrize("path", ORACLES, ids=lambda p: p.stem)
def test_persistences_are_landscapers(path: Path) -> None:
    theirs = json.loads(path.with_name("landscaper_persistence.json").read_text())[path.stem]
    with np.load(path) as oracle:
        field = oracle["f"]
        below = merge_tree(field)
        assert set(zip(below.minima, below.first_saddle, strict=True)) == set(map(tuple, oracle["pairs"].tolist()))
    above = merge_tree(field, direction="superlevel")
    # theirs are those of minima and of maxima together, written with six digits
    lives = [np.ptp(field)] * 2
    for tree in (below, above):
        pairs = tree.persistence()
        lives += np.abs(pairs.deaths - pairs.births).tolist()
    assert sorted(lives) == pytest.approx(theirs["persistences"], rel=1e-5)
    ours = max(persistence_statistics(tree).persistence_range for tree in (below, above))
    assert ours == pytest.approx(theirs["persistence_range"], rel=1e-5)


def test_oracles_are_there() -> None:
    assert len(ORACLES) == 8


def test_smad_by_hand() -> None:
    #        basins: 0 0 0 | 1 1    heights 2 - 0 and 2 - 1, range 4
    values = np.array([4.0, 0.0, 2.0, 1.0, 3.0])
    tree = merge_tree(values)
    assert tree.basin_size.tolist() == [3, 2]
    assert smad(tree) == pytest.approx((2 / 4 * 3 / 5 + 1 / 4 * 2 / 5) / 2)
    assert smad(tree, weighted=False) == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert smad(tree, normalize=False, weighted=False) == pytest.approx(1.5)
    assert smad(merge_tree(-values, direction="superlevel")) == smad(tree)


def test_single_minimum_and_flat_fields_give_zero() -> None:
    x = np.linspace(-1, 1, 9)
    assert smad(merge_tree(x[:, None] ** 2 + x**2)) == 0.0
    assert smad(merge_tree(np.zeros((3, 3)))) == 0.0
    assert smad(merge_tree(np.array([1.0, np.inf, 1.0]))) == 0.0
    assert smad(merge_tree(np.array([[np.nan]]))) != smad(merge_tree(np.array([[np.nan]])))


@pytest.mark.parametrize("wall", [np.inf, np.nan])
@pytest.mark.parametrize("direction", ["sublevel", "superlevel"])
def test_infinite_saddles_count_as_the_largest_value(wall: float, direction: str) -> None:
    values = np.array([0.0, 2.0, np.inf, 1.0, 3.0])
    values[2] = wall
    sign = -1.0 if direction == "superlevel" else 1.0
    tree = merge_tree(sign * values, direction=direction)  # type: ignore[arg-type]
    assert smad(tree, weighted=False) == pytest.approx(((3 - 0) / 3 + (3 - 1) / 3) / 2)
    assert persistence_statistics(tree).pairs == 0
    assert persistence_statistics(tree).infinite_pairs == 1


def test_minus_infinity_counts_as_the_smallest_value() -> None:
    tree = merge_tree(np.array([-np.inf, 5.0, 1.0, 3.0]))
    assert smad(tree, weighted=False) == pytest.approx(((5 - 1) / 4 + (5 - 1) / 4) / 2)


def test_persistence_statistics_by_hand() -> None:
    tree = merge_tree(np.array([0.0, 4.0, 1.0, 5.0, 4.0, 9.0]))
    statistics = persistence_statistics(tree)
    assert statistics.pairs == 2  # (1, 4) and (4, 5)
    assert statistics.mean == 2.0
    assert statistics.max == 3.0
    assert statistics.total == 4.0
    assert statistics.entropy == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert statistics.distance_to_diagonal == pytest.approx(2**0.5)
    assert statistics.persistence_range == 9.0 - 1.0
    assert persistence_statistics(tree, 2.0).pairs == 1
    assert persistence_statistics(tree, 10.0).pairs == 0
    assert minima_above(tree, 2.0) == 2
    assert persistence_statistics(merge_tree(np.zeros(4)))[:5] == (0, 0.0, 0.0, 0.0, 0.0)


def test_curve_ends_at_zero_and_starts_at_smad() -> None:
    values = np.random.default_rng(0).random((9, 9, 9))
    tree = merge_tree(values)
    curve = smad_curve(tree, [0.0, 0.2, 2.0])
    assert curve.smad[0] == smad(tree)
    assert curve.mean_climb[0] == mean_climb(tree)
    assert curve.n_minima.tolist() == [tree.n_minima, minima_above(tree, 0.2), 1]
    assert curve.smad[2] == 0.0
    default = smad_curve(tree)
    assert default.n_minima[0] == tree.n_minima
    assert (np.diff(default.n_minima) <= 0).all()


def test_noise_floor() -> None:
    assert noise_floor(np.float32, (0.0, 1.0)) == np.finfo(np.float32).eps
    assert noise_floor(np.float64, (-2.0, 1.0)) == 2 * np.finfo(np.float64).eps
    assert noise_floor(np.float64, (np.nan, np.nan)) == 0.0
    for precision in PRECISIONS:
        assert noise_floor(precision, (0.0, 1.0)) == epsilon(precision, torch.device("cuda"))


@pytest.mark.parametrize("seed", range(5))
def test_mean_climb_is_a_mean_over_vertices(seed: int) -> None:
    """Vertex by vertex, and m times SMAD; also of what is not finite."""
    values = np.random.default_rng(seed).normal(size=(9, 8))
    if seed:
        values[3, 3], values[5, 1], values[0, 7] = np.nan, np.inf, -np.inf
    tree = merge_tree(values, labels=True)
    low, high = tree.value_range
    climbs = []
    assert tree.labels is not None
    for label in tree.labels.reshape(-1).tolist():
        if label < 0 or tree.first_saddle[label] < 0:
            climbs.append(0.0)
        else:
            top = tree.first_saddle_value[label]
            climbs.append(float(np.clip(high if np.isnan(top) else top, low, high) - max(low, tree.values[label])))
    assert mean_climb(tree, normalize=False) == pytest.approx(np.mean(climbs), rel=1e-12)
    assert mean_climb(tree) == pytest.approx(np.mean(climbs) / (high - low), rel=1e-12)
    assert mean_climb(tree) == pytest.approx(tree.n_minima * smad(tree), rel=1e-12)


def test_mean_climb_settles_where_smad_falls_like_one_over_m() -> None:
    """A row of equal wells: more of them on a longer grid are not a rougher landscape."""
    few, many = (merge_tree(np.tile([0.0, 1.0, 2.0, 1.0], n)) for n in (10, 1000))
    assert mean_climb(many) == pytest.approx(mean_climb(few), rel=0.1)
    assert smad(many) < smad(few) / 50
    assert mean_climb(merge_tree(np.array([2.0, 0.0, 1.0]))) == 0.0
    assert mean_climb(merge_tree(np.zeros((3, 3)))) == 0.0
    assert np.isnan(mean_climb(merge_tree(np.full(3, np.nan))))
    assert landscaper_hpc.mean_climb is mean_climb


def test_minima_on_the_edge() -> None:
    values = 9.0 - np.arange(25.0).reshape(5, 5) / 100
    values[0, 2], values[2, 2], values[4, 4], values[3, 0] = 1.0, 2.0, 3.0, 4.0
    assert minima_on_edge(merge_tree(values)) == 3
