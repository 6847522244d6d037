"""Profiles against component sizes counted by flooding the grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.profile import Profile, landscape_profile
from tests.oracles import grid_neighbours
from tests.topology.fields import connectivities, fields


def ranks(values: NDArray[Any]) -> NDArray[np.int64]:
    """Place of each vertex in the total order; numpy sorts NaN last, and a stable sort breaks ties by id."""
    order = np.argsort(values.reshape(-1) + 0.0, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def component(neighbours: list[list[int]], below: NDArray[np.bool_], start: int) -> int:
    """Number of vertices that a flood from `start` reaches within `below`."""
    seen, todo = {start}, [start]
    while todo:
        for w in neighbours[todo.pop()]:
            if below[w] and w not in seen:
                seen.add(w)
                todo.append(w)
    return len(seen)


def possible_sizes(values: NDArray[Any], connectivity: str, minimum: int, height: float) -> set[int]:
    """Component sizes of `minimum` just before and just after each vertex of exactly this value."""
    rank = ranks(values)
    near = grid_neighbours(values.shape, connectivity)
    at = rank[values.reshape(-1) == height]
    return {component(near, rank < r, minimum) for r in {*at, *(at + 1)} if rank[minimum] < r}


def outlines(profile: Profile) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    return [(profile.height[s], profile.size[s]) for s in map(profile.branch, range(profile.n_branches))]


@given(fields(max_ndim=3, max_size=60), connectivities)
@pytest.mark.thorough
def test_every_size_is_that_of_the_component(values: NDArray[Any], connectivity: Any) -> None:
    tree = merge_tree(values, connectivity, labels=True)
    for i, (heights, sizes) in enumerate(outlines(landscape_profile(values, tree))):
        minimum = int(tree.minima[i])
        assert heights[0] == tree.values[i]
        assert sizes[0] == 1
        assert (np.diff(heights[np.isfinite(heights)]) >= 0).all()
        assert (np.diff(sizes) >= 0).all()
        absorbed = set()  # sizes between two branches that are absorbed at one vertex are no component's
        for j in np.flatnonzero(tree.parent == i):
            absorbed.add(float(tree.death_value[j]))
        for height, size in zip(heights, sizes, strict=True):
            if height not in absorbed:
                assert size in possible_sizes(values, connectivity, minimum, height)


@pytest.mark.thorough
@given(fields(max_ndim=3, max_size=60), connectivities)
def test_outlines_end_at_the_death_or_hold_everything(values: NDArray[Any], connectivity: Any) -> None:
    tree = merge_tree(values, connectivity, labels=True)
    profile = landscape_profile(values, tree)
    rank, near = ranks(values), grid_neighbours(values.shape, connectivity)
    below_inf = int(np.count_nonzero(values < np.inf))
    for i, (heights, sizes) in enumerate(outlines(profile)):
        last = int(rank[tree.death[i]]) if profile.dies[i] else below_inf
        assert sizes[-1] == component(near, rank < last, int(tree.minima[i]))
        if profile.dies[i]:
            assert heights[-1] == tree.death_value[i]
            assert profile.depth[i] == profile.depth[tree.parent[i]] + 1
        else:
            assert profile.depth[i] == 0


@pytest.mark.thorough
@given(fields(max_ndim=3, max_size=60), connectivities)
def test_outlines_nest_without_overlap(values: NDArray[Any], connectivity: Any) -> None:
    tree = merge_tree(values, connectivity, labels=True)
    profile = landscape_profile(values, tree)
    for i in range(profile.n_branches):
        s = profile.branch(i)
        assert (np.diff(profile.left[s]) <= 1e-9).all()
        assert (np.diff(profile.right[s]) >= -1e-9).all()
    tops = [profile.branch(i).stop - 1 for i in range(profile.n_branches)]
    for i in np.flatnonzero(profile.dies):
        s = profile.branch(int(tree.parent[i]))
        joint = [p for p in range(s.start, s.stop) if profile.height[p] == tree.death_value[i]]
        assert min(profile.left[joint]) <= profile.left[tops[i]] + 1e-9
        assert max(profile.right[joint]) >= profile.right[tops[i]] - 1e-9
        apart = profile.right[tops[i]] <= profile.left[joint[0]] or profile.left[tops[i]] >= profile.right[joint[0]]
        assert apart


@pytest.mark.thorough
@given(fields(max_ndim=2, max_size=100), st.floats(0, 1))
def test_a_simplified_tree_keeps_every_vertex(values: NDArray[Any], threshold: float) -> None:
    tree = merge_tree(values, labels=True).simplify(threshold)
    profile = landscape_profile(values, tree)
    sizes = [s[-1] for (_, s), dies in zip(outlines(profile), profile.dies, strict=True) if not dies]
    assert sum(sizes) == np.count_nonzero(values < np.inf)


def test_two_wells_by_hand() -> None:
    values = np.array([1.0, 0.0, 2.0, 5.0, 3.0, 4.0])
    profile = landscape_profile(values, merge_tree(values, labels=True))
    (h0, s0), (h1, s1) = outlines(profile)
    assert list(zip(h0, s0, strict=True)) == [(0, 1), (1, 2), (2, 3), (5, 3), (5, 5), (5, 6)]
    assert list(zip(h1, s1, strict=True)) == [(3, 1), (4, 2), (5, 2)]


def test_a_large_outline_is_thinned_but_smooth() -> None:
    x = np.linspace(-1, 1, 101)
    values = x[:, None] ** 2 + x**2
    profile = landscape_profile(values, merge_tree(values, labels=True))
    (_, sizes) = outlines(profile)[0]
    assert len(sizes) < 500
    assert np.diff(sizes).max() <= values.size / 256


def test_needs_labels() -> None:
    values = np.zeros((3, 3))
    with pytest.raises(ValueError, match="labels=True"):
        landscape_profile(values, merge_tree(values))
    with pytest.raises(ValueError, match="sublevel"):
        landscape_profile(values, merge_tree(values, direction="superlevel", labels=True))
