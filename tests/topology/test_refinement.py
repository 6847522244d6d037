"""Nested grids: which there are, what changes between them, and whether it settles."""

from __future__ import annotations

from typing import Any

import gudhi
import numpy as np
import pytest
from numpy.typing import NDArray

from landscaper_hpc.grid import nested_steps
from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.distances import bottleneck
from landscaper_hpc.topology.metrics import mean_climb, smad
from landscaper_hpc.topology.refinement import Refinement
from landscaper_hpc.topology.scope import below


@pytest.mark.parametrize(
    ("shape", "steps"),
    [
        ((41, 41, 41), [4, 2, 1]),
        ((21, 21), [2, 1]),
        ((33,), [8, 4, 2, 1]),
        ((41, 11), [1]),  # 11 would become 6, an even count
        ((41, 17), [4, 2, 1]),
        ((7, 9), [1]),
        ((5, 5), [1]),
        ((1, 9), [1]),
    ],
)
def test_nested_grids(shape: tuple[int, ...], steps: list[int]) -> None:
    assert nested_steps(shape) == steps
    for step in steps:
        for k in shape:
            points = np.arange(k)[::step]
            assert points[0] == 0
            assert points[-1] == k - 1
            assert k == 1 or (len(points) % 2 == 1 and points[len(points) // 2] == k // 2)


def wells(*shape: int, wave: float) -> NDArray[Any]:
    """A smooth field with `wave` wells along each axis, none at the edge; heights differ."""
    axes = np.meshgrid(*(np.linspace(0, 1, k) for k in shape), indexing="ij")
    return 2.0 + sum(np.cos(2 * np.pi * wave * x) + (i + 1) * 0.3 * x for i, x in enumerate(axes))


def refined(values: NDArray[Any], level: float | None = None) -> Refinement:
    fields = [values[(slice(None, None, step),) * values.ndim] for step in nested_steps(values.shape)]
    trees = [merge_tree(field, labels=True) for field in fields]
    scopes = None
    if level is not None:
        scopes = [below(t, f, t.labels, level) for t, f in zip(trees, fields, strict=True) if t.labels is not None]
    return Refinement.of(trees, scopes)


def test_a_resolved_landscape_settles() -> None:
    found = refined(wells(129, 129, wave=2), level=1.0)
    assert found.shapes[-1] == (129, 129)
    assert found.n_minima[-3:].tolist() == [4, 4, 4]
    assert found.verdict == found.scope_verdict == "settled"
    assert (found.bottleneck[-2:] < 0.02).all()


@pytest.mark.parametrize("seed", range(3))
def test_noise_never_settles(seed: int) -> None:
    found = refined(np.random.default_rng(seed).random((65, 65)), level=0.5)
    assert found.verdict == found.scope_verdict == "not resolved"
    assert (np.diff(found.n_minima) > 0).all()


def test_what_is_low_settles_though_the_walls_do_not() -> None:
    values = wells(129, 129, wave=2)
    values = np.where(values > 3.0, values + np.random.default_rng(0).random(values.shape), values)
    found = refined(values, level=1.5)
    assert found.verdict == "not resolved"
    assert found.scope_verdict == "settled"


def test_two_grids_are_no_test() -> None:
    assert refined(wells(21, 21, wave=2)).verdict == "not tested"
    assert refined(wells(7, 7, wave=2)).verdict == "not tested"
    assert refined(wells(21, 21, wave=2)).scope_verdict is None


def test_numbers_are_those_of_each_grid() -> None:
    values = np.random.default_rng(1).random((17, 33)) + 1
    found = refined(values, level=1.5)
    for i, step in enumerate(nested_steps(values.shape)):
        field = values[::step, ::step]
        tree = merge_tree(field)
        assert found.shapes[i] == field.shape
        assert found.n_minima[i] == tree.n_minima
        assert found.mean_climb[i] == mean_climb(tree)
        assert found.smad[i] == smad(tree)
        assert found.scope_n_minima is not None
        assert found.scope_n_minima[i] == np.count_nonzero(tree.values < 1.5)
    assert found.mean_climb_log is not None
    assert refined(values - 1.5).mean_climb_log is None
    assert refined(np.zeros((33, 33))).verdict == "settled"
    assert refined(np.full((33, 33), np.nan)).verdict == "not resolved"


@pytest.mark.parametrize("seed", range(4))
def test_bottleneck_equals_that_of_gudhis_diagrams(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.random((2, 9, 8))
    diagrams = []
    for field in (one, other):
        cubes = gudhi.CubicalComplex(vertices=field)
        cubes.persistence(min_persistence=0)
        diagrams.append(cubes.persistence_intervals_in_dimension(0))
    expected = gudhi.bottleneck_distance(*diagrams)
    assert bottleneck(merge_tree(one), merge_tree(other)) == pytest.approx(expected, rel=1e-12)
    upside = [merge_tree(-field, direction="superlevel") for field in (one, other)]
    assert bottleneck(*upside) == pytest.approx(expected, rel=1e-12)


def test_bottleneck_by_hand() -> None:
    tree = merge_tree(np.array([0.0, 4.0, 1.0, 9.0]))
    assert bottleneck(tree, tree) == 0.0
    assert bottleneck(tree, merge_tree(np.array([0.5, 4.0, 1.0, 9.0]))) == 0.5
    assert bottleneck(tree, merge_tree(np.array([0.0, 4.0, 5.0, 9.0]))) == 1.5  # (1, 4) goes to the diagonal
    wall = merge_tree(np.array([0.0, np.inf, 1.0, 9.0]))
    assert bottleneck(wall, tree) == 4.0  # +inf counts as 9: half of the persistence of (1, 9)
    assert bottleneck(merge_tree(np.array([0.0, np.nan, 1.0, 9.0])), wall) == 0.0
    none = merge_tree(np.full(3, np.nan))
    assert bottleneck(none, none) == 0.0
    assert bottleneck(none, tree) == np.inf
