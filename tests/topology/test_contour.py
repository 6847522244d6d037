from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import stencil
from landscaper_hpc.topology import contour, contour_tree, merge_tree
from tests.topology.fields import connectivities, fields


def in_order(f: NDArray[Any]) -> list[int]:
    """Vertices by (value, id), NaN last."""
    flat = f.reshape(-1)
    return sorted(range(f.size), key=lambda v: (np.isnan(flat[v]), 0.0 if np.isnan(flat[v]) else flat[v], v))


def neighbours(f: NDArray[Any], connectivity: str) -> list[list[int]]:
    found = []
    for at in np.ndindex(f.shape):
        near = [tuple(np.add(at, step)) for step in stencil(connectivity, f.ndim)]
        inside = [x for x in near if all(0 <= i < k for i, k in zip(x, f.shape, strict=True))]
        found.append([int(np.ravel_multi_index(x, f.shape)) for x in inside])
    return found


def augmented(order: list[int], near: list[list[int]]) -> dict[int, int]:
    """From each vertex to the next one in the order with which it is connected by vertices up to that one."""
    after: dict[int, int] = {}
    seen: set[int] = set()
    for w in order:
        seen.add(w)
        component, front = {w}, [w]
        while front:
            front = [x for v in front for x in near[v] if x in seen and x not in component and not component.add(x)]
        after |= {v: w for v in component - {w} if v not in after}
    return after


def next_critical(f: NDArray[Any], connectivity: str) -> tuple[dict[int, int], dict[int, int]]:
    """The join and the split tree with the critical vertices of both, all others taken out."""
    order, near = in_order(f), neighbours(f, connectivity)
    trees = augmented(order, near), augmented(order[::-1], near)
    into = [list(tree.values()) for tree in trees]
    regular = {v for v in order if into[0].count(v) == into[1].count(v) == 1}
    for tree in trees:
        for v in tree:
            while tree.get(v) in regular:
                if tree[v] not in tree:
                    raise AssertionError("the last vertex of a tree is an extremum")
                tree[v] = tree[tree[v]]
        for v in regular:
            tree.pop(v)
    return trees


def by_hand(f: NDArray[Any], connectivity: str) -> set[tuple[int, int]]:
    """Carr, Snoeyink and Axen: leaves are taken off, from above as long as there are any, then from below, in turns."""
    join, split = next_critical(f, connectivity)
    rank = {v: i for i, v in enumerate(in_order(f))}
    arcs: set[tuple[int, int]] = set()
    left = {*join, *split}
    while len(left) > 1:
        for this, other in ((split, join), (join, split)):
            while len(left) > 1:
                into, back = list(this.values()), list(other.values())
                leaf = next((v for v in left if v not in into and back.count(v) < 2), None)
                if leaf is None:
                    break
                low, high = sorted((leaf, this.pop(leaf)), key=rank.__getitem__)
                arcs.add((low, high))
                beyond = other.pop(leaf, None)
                for v in [v for v, w in other.items() if w == leaf]:
                    del other[v]
                    if beyond is not None:
                        other[v] = beyond
                left.remove(leaf)
    return arcs


@settings(max_examples=100, deadline=None)
@given(fields(max_ndim=4, max_size=60), connectivities)
def test_equals_the_tree_of_all_vertices(f: NDArray[Any], connectivity: str) -> None:
    tree = contour_tree(f, connectivity)
    assert set(map(tuple, tree.edges.tolist())) == by_hand(f, connectivity)
    assert len(tree.edges) == len(tree.nodes) - 1
    nodes = tree.nodes.tolist()
    assert nodes == [v for v in in_order(f) if v in set(nodes)]
    join, split = next_critical(f, connectivity)
    for next_, count, expected in ((tree.join, tree.down, join), (tree.split, tree.up, split)):
        assert {v: nodes[i] for v, i in zip(nodes, next_, strict=True) if i >= 0} == expected
        assert count.tolist() == [list(expected.values()).count(v) for v in nodes]
    np.testing.assert_array_equal(tree.values, f.reshape(-1)[tree.nodes])


@settings(max_examples=60, deadline=None)
@given(fields(max_size=60))
def test_both_merge_trees_follow_from_the_tree_of_a_triangulation(f: NDArray[Any]) -> None:
    tree = contour_tree(f, "freudenthal")
    nodes = tree.nodes.tolist()
    near: list[list[int]] = [[] for _ in range(f.size)]
    for low, high in tree.edges.tolist():
        near[low].append(high)
        near[high].append(low)
    for order, next_ in ((nodes, tree.join), (nodes[::-1], tree.split)):
        assert augmented(order, near) == {v: nodes[i] for v, i in zip(nodes, next_, strict=True) if i >= 0}
    assert tree.down.tolist() == [np.count_nonzero(tree.edges[:, 1] == v) for v in nodes]
    assert tree.up.tolist() == [np.count_nonzero(tree.edges[:, 0] == v) for v in nodes]


@settings(max_examples=40, deadline=None)
@given(fields(max_size=200), connectivities)
def test_the_lower_half_is_the_merge_tree(f: NDArray[Any], connectivity: str) -> None:
    below, tree = merge_tree(f, connectivity, labels=True), contour_tree(f, connectivity, labels=True)
    assert tree.minima.tolist() == below.minima.tolist()
    np.testing.assert_array_equal(tree.ascending, below.labels)
    assert set(below.death[below.death >= 0]) <= set(tree.join_saddles)
    assert tree.nonfinite == below.nonfinite
    assert tree.value_range == pytest.approx(below.value_range, nan_ok=True)
    joins, minima = tree.join_index.sum(), np.count_nonzero(tree.down == 0)
    splits, maxima = tree.split_index.sum(), np.count_nonzero(tree.up == 0)
    assert (joins, splits) == (minima - 1, maxima - 1)


@settings(max_examples=60, deadline=None)
@given(fields(max_ndim=3, max_size=100), connectivities)
def test_labels_follow_the_steepest_way(f: NDArray[Any], connectivity: str) -> None:
    tree = contour_tree(f, connectivity, labels=True)
    rank = {v: i for i, v in enumerate(in_order(f))}
    near = neighbours(f, connectivity)
    for extrema, labels, choose in ((tree.minima, tree.ascending, min), (tree.maxima, tree.descending, max)):
        number = {v: i for i, v in enumerate(extrema.tolist())}
        for v, label in enumerate(labels.reshape(-1)):
            while (w := choose([v, *near[v]], key=rank.__getitem__)) != v:
                v = w
            assert label == number.get(v, -1)
    pairs, cells = tree.cells()
    assert len(pairs) == len(np.unique(pairs, axis=0))
    np.testing.assert_array_equal(pairs[cells][..., 0], tree.ascending)
    np.testing.assert_array_equal(pairs[cells][..., 1], tree.descending)


def test_an_improper_end_is_no_minimum_and_no_maximum() -> None:
    tree = contour_tree([np.nan, -np.inf, 2.0, 1.0, np.inf, np.nan], labels=True)
    assert tree.minima.tolist() == [1, 3]
    assert tree.maxima.tolist() == [2]
    assert tree.ascending.tolist() == [0, 0, 0, 1, 1, 1]
    assert tree.descending.tolist() == [-1, -1, 0, -1, -1, -1]
    assert tree.nonfinite == {"nan": 2, "posinf": 1, "neginf": 1}
    assert {0, 5} <= set(tree.nodes.tolist())


def branches_by_hand(edges: list[tuple[int, int]], height: dict[int, float]) -> list[tuple[int, int, float]]:
    """Take the shortest leaf off whose saddle keeps an arc in the same direction, on and on."""
    arcs, found = set(edges), []
    for v in height:
        without(arcs, v)
    while len(arcs) > 1:
        takable = []
        for a, b in arcs:
            below_b, above_a = sum(y == b for _, y in arcs), sum(x == a for x, _ in arcs)
            if not any(y == a for _, y in arcs) and above_a == 1 and below_b > 1:
                takable.append((height[b] - height[a], a, b))
            if not any(x == b for x, _ in arcs) and below_b == 1 and above_a > 1:
                takable.append((height[b] - height[a], b, a))
        length, leaf, saddle = min(takable)
        arcs.discard((min(leaf, saddle), max(leaf, saddle)))
        found.append((leaf, saddle, length))
        without(arcs, saddle)
    return found


def without(arcs: set[tuple[int, int]], v: int) -> None:
    """Join the two arcs of a vertex that has one in each direction."""
    below, above = [a for a in arcs if a[1] == v], [a for a in arcs if a[0] == v]
    if len(below) == len(above) == 1:
        arcs -= {below[0], above[0]}
        arcs.add((below[0][0], above[0][1]))


@pytest.mark.parametrize("seed", range(20))
def test_branches(seed: int) -> None:
    rng = np.random.default_rng(seed)
    f = rng.integers(0, 30, tuple(rng.integers(2, 6, 3))).astype(float) if seed % 2 else rng.random((9, 7))
    tree = contour_tree(f, ["axis", "freudenthal", "full"][seed % 3])
    place = {v: i for i, v in enumerate(tree.nodes.tolist())}
    edges = [(place[a], place[b]) for a, b in tree.edges.tolist()]
    expected = branches_by_hand(edges, dict(enumerate(tree.values.tolist())))
    b = tree.branches
    ours = [(place[x], place[y], p) for x, y, p in zip(b.leaf.tolist(), b.end.tolist(), b.persistence, strict=True)]
    assert ours[:0:-1] == expected
    lowest, highest = ours[0][:2]
    assert tree.down[lowest] == 0 and tree.up[highest] == 0
    assert b.parent[0] == -1 and all(parent < i for i, parent in enumerate(b.parent))
    for (leaf, end, _), parent in itertools.islice(zip(ours, b.parent, strict=True), 1, None):
        low, high = sorted(ours[parent][:2])
        assert low <= end <= high and leaf != end


NAMES = ("nodes", "values", "edges", "down", "up", "join", "split", "ascending", "descending")


@pytest.mark.thorough
@settings(max_examples=100)
@given(f=fields(), connectivity=connectivities)
def test_a_merge_tree_that_is_known_is_not_computed_again_and_changes_nothing(
    f: NDArray[Any], connectivity: str
) -> None:
    own = contour_tree(f, connectivity, labels=True)
    tree = merge_tree(f, connectivity, labels=True)
    computed = []
    with pytest.MonkeyPatch.context() as patch:
        half = contour.half_of
        patch.setattr(contour, "half_of", lambda *a: computed.append(a) or half(*a))
        found = contour_tree(f, connectivity, labels=True, tree=tree)
        contour_tree(f, connectivity, tree=replace(tree, labels=None))
    assert len(computed) == (1 if np.isfinite(f).all() else 2) + 2
    for name in NAMES:
        np.testing.assert_array_equal(getattr(own, name), getattr(found, name))


def test_the_merge_tree_of_other_values_is_refused() -> None:
    tree = merge_tree(np.random.default_rng(0).random((5, 6)), labels=True)
    with pytest.raises(InputError, match=r"the merge tree has the shape \(5, 6\) .* give the tree of these values"):
        contour_tree(np.zeros((6, 5)), tree=tree)
    with pytest.raises(InputError, match=r"connectivity axis, the values have .* full"):
        contour_tree(np.zeros((5, 6)), "full", tree=tree)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e37])
def test_what_is_not_finite_keeps_its_place_in_the_order(dtype: Any, scale: float) -> None:
    """Also beside the largest numbers that there are, where nothing finite is larger."""
    rng = np.random.default_rng(5)
    f = (scale * rng.normal(size=(9, 8, 7))).astype(dtype)
    for value in (-np.inf, np.inf, np.nan):
        f[rng.random(f.shape) < 0.05] = value
    for extreme in (False, True):
        if extreme:
            f.flat[[3, 77]] = np.finfo(dtype).max, np.finfo(dtype).min
        ranks = np.empty(f.size)
        ranks[in_order(f)] = np.arange(f.size)
        found = contour_tree(f)
        expected = contour_tree(ranks.reshape(f.shape))
        np.testing.assert_array_equal(found.nodes, expected.nodes)
        np.testing.assert_array_equal(found.edges, expected.edges)


def test_threads_change_nothing() -> None:
    f = np.random.default_rng(3).integers(0, 1000, (17, 5, 9, 6)).astype(np.float32)
    one, four = contour_tree(f, threads=1, labels=True), contour_tree(f, threads=4, labels=True)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(one, name), getattr(four, name))


def test_networkx() -> None:
    import networkx

    tree = contour_tree(np.random.default_rng(1).random((8, 9)))
    graph = tree.to_networkx()
    assert networkx.is_tree(graph.to_undirected())
    assert dict(graph.in_degree()) == dict(zip(tree.nodes.tolist(), tree.down.tolist(), strict=True))
    assert all(graph.nodes[a]["value"] < graph.nodes[b]["value"] for a, b in graph.edges)


def test_without_networkx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(InputError, match="networkx is not installed; pip install networkx"):
        contour_tree([1.0, 2.0]).to_networkx()


def test_bad_input() -> None:
    with pytest.raises(InputError, match="connectivity"):
        contour_tree(np.zeros((2, 2)), "diagonal")
    with pytest.raises(InputError, match="holds no vertex"):
        contour_tree(np.zeros((0, 2)))
    with pytest.raises(InputError, match=r"cells need labels; use contour_tree\(values, labels=True\)"):
        contour_tree([1.0, 2.0]).cells()


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_vertex(shape: tuple[int, ...]) -> None:
    tree = contour_tree(np.ones(shape))
    assert tree.nodes.tolist() == tree.minima.tolist() == tree.maxima.tolist() == [0]
    assert tree.edges.shape == (0, 2) and tree.branches.leaf.tolist() == [0]
    assert tree.pairs().shape == (0, 2)
