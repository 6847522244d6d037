"""Scopes and logarithms against brute force: vertex by vertex, with a flood that stops at the level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from landscaper_hpc.grid import stencil
from landscaper_hpc.topology import MergeTree, merge_tree
from landscaper_hpc.topology.metrics import mean_climb, smad
from landscaper_hpc.topology.scope import below, level_of_share, of_logarithm
from tests.topology.fields import connectivities, fields


def neighbours(shape: tuple[int, ...], connectivity: str) -> list[list[int]]:
    found: list[list[int]] = []
    for index in np.ndindex(shape):
        near = stencil(connectivity, len(shape)) + np.array(index)
        near = near[((near >= 0) & (near < np.array(shape))).all(axis=1)]
        found.append(np.ravel_multi_index(tuple(near.T), shape).tolist())
    return found


def brute(values: NDArray[Any], connectivity: str, level: float) -> tuple[dict[int, int], dict[int, float]]:
    """How many vertices below the level descend to each minimum, and how far its first saddle lies above it."""
    f = values.reshape(-1).astype(float)
    near = neighbours(values.shape, connectivity)
    inside = sorted((v for v in range(f.size) if f[v] < level), key=lambda v: (f[v], v))
    finite = f[np.isfinite(f)]
    low, high = (finite.min(), min(level, finite.max())) if len(finite) else (0.0, 0.0)
    size: dict[int, int] = {}
    for v in inside:
        at = v
        while (to := min([at, *near[at]], key=lambda w: (np.inf if np.isnan(f[w]) else f[w], w))) != at:
            at = to
        size[at] = size.get(at, 0) + 1
    component: dict[int, int] = {}
    met: dict[int, float] = {}
    members: dict[int, list[int]] = {}
    for v in inside:
        around = sorted({component[w] for w in near[v] if w in component})
        if not around:
            component[v], members[v] = v, [v]
            continue
        if len(around) > 1:
            met |= {m: f[v] for m in around if m not in met and sum(u in size for u in members[m]) == 1}
        first = around[0]
        for other in around[1:]:
            members[first] += members.pop(other)
        members[first].append(v)
        component |= dict.fromkeys(members[first], first)
    if len(size) == 1 or not low < high:
        return size, dict.fromkeys(size, 0.0)
    clip = lambda x: min(max(x, low), high)  # noqa: E731
    return size, {m: clip(met.get(m, level)) - clip(f[m]) for m in size}


def scoped(values: NDArray[Any], connectivity: str, level: float) -> MergeTree:
    tree = merge_tree(values, connectivity, labels=True)
    assert tree.labels is not None
    return below(tree, values, tree.labels, level)


def check(values: NDArray[Any], connectivity: str, level: float) -> None:
    tree = scoped(values, connectivity, level)
    size, climb = brute(values, connectivity, level)
    assert dict(zip(tree.minima.tolist(), tree.basin_size.tolist(), strict=True)) == size
    assert tree.n_vertices == sum(size.values()) == np.count_nonzero(values < level)
    if not size:
        assert np.isnan(mean_climb(tree))
        return
    mean = sum(size[m] * climb[m] for m in size) / tree.n_vertices
    assert mean_climb(tree, normalize=False) == pytest.approx(mean, rel=1e-12)
    assert smad(tree, normalize=False) == pytest.approx(mean / len(size), rel=1e-12)
    low, high = tree.value_range
    if low < high:
        assert mean_climb(tree) == pytest.approx(mean / (high - low), rel=1e-9)
        assert 0 <= mean_climb(tree) <= 1 + 1e-12


@settings(max_examples=60, deadline=None)
@given(fields(max_size=100), connectivities, st.floats(0, 1))
def test_below_a_share_equals_brute_force(values: NDArray[Any], connectivity: str, share: float) -> None:
    level = level_of_share(values, share)
    assert np.count_nonzero(values < level) <= share * values.size or np.isinf(level)
    check(values, connectivity, level)


@settings(max_examples=30, deadline=None)
@given(fields(max_size=100), connectivities, st.sampled_from([-1.0, 0.0, 0.5, 1.0, 7.0, np.inf]))
def test_below_a_value_equals_brute_force(values: NDArray[Any], connectivity: str, level: float) -> None:
    check(values, connectivity, level)


@pytest.mark.parametrize("shape", [(31,), (17, 12), (9, 5, 7), (5, 4, 3, 6)])
def test_smooth_fields(shape: tuple[int, ...]) -> None:
    axes = np.meshgrid(*(np.linspace(-2, 2, k) for k in shape), indexing="ij")
    values = sum((x**2 - 1) ** 2 + (0.1 + 0.05 * i) * x for i, x in enumerate(axes))
    for share in (0.02, 0.1, 0.5, 0.9):
        check(values, "axis", level_of_share(values, share))
    check(values, "axis", np.inf)


def test_the_scope_of_everything_is_the_whole_grid() -> None:
    values = np.random.default_rng(0).random((8, 9))
    tree = merge_tree(values)
    whole = scoped(values, "axis", 2.0)
    assert mean_climb(whole) == mean_climb(tree)
    assert smad(whole) == smad(tree)


def test_by_hand() -> None:
    #                  basins: 0  0  0    1  1    2  2
    values = np.array([4.0, 0.0, 2.0, 1.0, 5.0, 3.0, 9.0])
    tree = scoped(values, "axis", 2.5)
    assert tree.minima.tolist() == [1, 3]
    assert tree.basin_size.tolist() == [2, 1]
    assert mean_climb(tree) == pytest.approx((2 * 2 + 1 * 1) / 3 / 2.5)
    # they meet at 2, which is not in the scope: it counts as 1.5
    tree = scoped(values, "axis", 1.5)
    assert mean_climb(tree) == pytest.approx((1.5 + 0.5) / 2 / 1.5)
    # the spurious basin at 3, which decides SMAD of the whole, is in no low scope
    assert mean_climb(scoped(values, "axis", 1.0)) == 0.0


def test_level_of_a_share() -> None:
    values = np.array([3.0, 1.0, 2.0, np.nan, np.inf, -np.inf, 1.0, 0.0, 5.0, 6.0])
    assert level_of_share(values, 0.1) == 0.0
    assert level_of_share(values, 0.0) == -np.inf
    assert level_of_share(values, 0.3) == 1.0  # its tie stays outside: two points below, not four
    assert level_of_share(values, 0.8) == level_of_share(values, 1.0) == np.inf


@settings(max_examples=30, deadline=None)
@given(fields(max_size=100), connectivities)
def test_log_loss_is_the_tree_of_the_logarithm(values: NDArray[Any], connectivity: str) -> None:
    values = np.abs(values.astype(np.float64)) + 0.25
    tree = of_logarithm(merge_tree(values, connectivity))
    assert tree is not None
    twin = merge_tree(np.log(values), connectivity)
    assert tree.minima.tolist() == twin.minima.tolist()
    assert tree.first_saddle.tolist() == twin.first_saddle.tolist()
    for number in (mean_climb, smad):
        np.testing.assert_allclose(number(tree, normalize=False), number(twin, normalize=False), rtol=1e-12)


@pytest.mark.parametrize("bad", [0.0, -1.0, -np.inf])
def test_log_loss_is_not_defined_where_a_loss_is_not_positive(bad: float) -> None:
    values = np.random.default_rng(0).random((5, 5)) + 1
    values[2, 2] = bad
    assert of_logarithm(merge_tree(values)) is None


def test_log_loss_does_not_depend_on_the_unit_of_the_loss() -> None:
    values = np.exp(np.random.default_rng(1).normal(size=(9, 9)) * 4)
    one, other = (of_logarithm(merge_tree(scale * values)) for scale in (1.0, 1024.0))
    assert one is not None
    assert other is not None
    assert mean_climb(other, normalize=False) == pytest.approx(mean_climb(one, normalize=False), rel=1e-12)
