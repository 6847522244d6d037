from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology import merge_tree, merge_tree_graph, merge_tree_points, mutual_knn
from tests.oracles import grid_neighbours, oracle_tree
from tests.topology.fields import connectivities, directions, fields
from tests.topology.test_merge_tree import assert_is_oracle


def csr(neighbours: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.cumsum([0, *map(len, neighbours)]), np.array([v for n in neighbours for v in n], np.int64)


@pytest.mark.thorough
@settings(deadline=None, max_examples=100)
@given(fields(max_ndim=4), connectivities, directions)
def test_a_grid_as_a_graph_gives_the_grids_tree(values: NDArray[Any], connectivity: Any, direction: Any) -> None:
    grid = merge_tree(values, connectivity, direction, labels=True)
    graph = merge_tree_graph(values, *csr(grid_neighbours(values.shape, connectivity)), direction, labels=True)
    one, other = grid.to_arrays(), graph.to_arrays()
    for name in one.keys() - {"shape", "connectivity", "labels"}:
        assert one[name].tobytes() == other[name].tobytes(), name
    np.testing.assert_array_equal(one["labels"].reshape(-1), other["labels"])


@pytest.mark.thorough
@settings(deadline=None, max_examples=100)
@given(st.data())
def test_random_graphs_equal_brute_force(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 30))
    edges = data.draw(st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=60))
    near: list[list[int]] = [[] for _ in range(n)]
    for u, v in edges:
        if u != v and v not in near[u]:
            near[u].append(v)
            near[v].append(u)
    palette = st.sampled_from([0.0, 1.0, 2.0, 3.0, np.nan, np.inf, -np.inf])
    values = np.array(data.draw(st.lists(palette, min_size=n, max_size=n)))
    direction = data.draw(directions)
    tree = merge_tree_graph(values, *csr(near), direction, labels=True)
    assert_is_oracle(tree, oracle_tree(values, near, direction), values)


def brute_force_mutual(points: NDArray[np.float64], k: int) -> list[list[int]]:
    n = len(points)
    k = min(k, n - 1)
    distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    nearest = [
        set(sorted((v for v in range(n) if v != u), key=lambda v, u=u: (distance[u, v], v))[:k])  # type: ignore[misc]
        for u in range(n)
    ]
    return [sorted(v for v in nearest[u] if u in nearest[v]) for u in range(n)]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_mutual_neighbours_with_ties_equal_brute_force(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n, m = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 60))
    coarse = data.draw(st.booleans())  # integers: many equal distances, also points at the same place
    points = rng.integers(0, 4, (m, n)).astype(float) if coarse else rng.random((m, n))
    k = data.draw(st.integers(1, 12))
    indptr, indices = mutual_knn(points, k)
    expected = brute_force_mutual(points, k)
    assert [indices[a:b].tolist() for a, b in itertools.pairwise(indptr)] == expected


def test_samples_of_double_wells() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-1.5, 1.5, (4000, 2))
    values = ((points**2 - 1) ** 2).sum(axis=1)
    tree = merge_tree_points(points, values).simplify(0.5)
    assert tree.connectivity == "knn"
    deep = tree.minima[tree.basin_size > 100]  # a sample at the rim may be nobody's mutual neighbour
    assert sorted(map(tuple, np.sign(points[deep]).tolist())) == [(-1, -1), (-1, 1), (1, -1), (1, 1)]


@pytest.mark.parametrize(
    ("indptr", "indices", "says"),
    [
        ([0, 1], [1, 0], "indptr"),
        ([0, 1, 2], [1, 2], "outside"),
        ([0, 1, 1], [1], "one direction"),
    ],
)
def test_what_is_no_graph_is_refused(indptr: list[int], indices: list[int], says: str) -> None:
    with pytest.raises(InputError, match=says):
        merge_tree_graph([1.0, 2.0], indptr, indices)


def test_points_must_be_points() -> None:
    for points, k in [(np.zeros(3), None), (np.full((2, 2), np.nan), None), (np.zeros((2, 2)), 0)]:
        with pytest.raises(InputError):
            mutual_knn(points, k)
