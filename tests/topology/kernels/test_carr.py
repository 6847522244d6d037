"""The kernels of the contour tree, against trees that are grown and taken apart vertex by vertex."""

from __future__ import annotations

import numpy as np
import pytest

from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.kernels.carr import arcs, combine
from tests.oracles import grid_neighbours
from tests.topology.kernels.cases import connectivities


def pointers(around: list[list[int]]) -> list[int]:
    """Of each vertex, numbered in order, the next above that touches what it hangs together with from below."""
    after = []
    for v in range(len(around)):
        component, grown = {v}, True
        while grown:
            near = {w for u in component for w in around[u] if w <= v} - component
            component |= near
            grown = bool(near)
        after.append(min((w for u in component for w in around[u] if w > v), default=-1))
    return after


def taken_apart(split: list[int], join: list[int]) -> set[tuple[int, int]]:
    """Leaf by leaf, by turns all of one tree that at most one node of the other leads to. (By turns: where the
    connectivity is none of a triangulation, another order gives another tree.)"""
    trees, left, edges = [list(split), list(join)], set(range(len(join))), set()
    turn = 0
    while len(left) > 1:
        near = [{v: [u for u in left if tree[u] == v] for v in left} for tree in trees]
        fit = [v for v in sorted(left) if not near[turn][v] and len(near[1 - turn][v]) < 2]
        if not fit:
            turn = 1 - turn
            continue
        v = fit[0]
        edges.add((min(v, trees[turn][v]), max(v, trees[turn][v])))
        for tree in trees:
            tree[:] = [tree[v] if w == v else w for w in tree]
        left.remove(v)
    return edges


@pytest.mark.parametrize("shape", [(17,), (5, 6), (3, 4, 3)])
@connectivities
def test_a_contour_tree_of_all_vertices(shape: tuple[int, ...], connectivity: str) -> None:
    values = np.random.default_rng(len(shape)).permutation(int(np.prod(shape)))
    around = grid_neighbours(shape, connectivity)
    by_rank = [[int(values[w]) for w in around[v]] for v in np.argsort(values)]
    n = len(values)
    trees = []
    for upside_down in (False, True):
        ranks = n - 1 - values if upside_down else values
        tree = merge_tree(ranks.reshape(shape).astype(float), connectivity, labels=True)
        dies = np.flatnonzero(tree.parent >= 0)
        dies = dies[np.argsort(tree.death_value[dies], kind="stable")]
        assert tree.labels is not None
        given = (tree.labels.reshape(-1)[np.argsort(ranks)], dies, tree.parent[dies], tree.death_value[dies])
        after, count = np.full(n, -1, np.int32), np.zeros(n, np.int32)
        arcs(*(x.astype(np.int32) for x in given), tree.n_minima, after, count)
        expected = pointers([[n - 1 - w for w in near] for near in by_rank[::-1]] if upside_down else by_rank)
        assert after.tolist() == expected
        np.testing.assert_array_equal(count, np.bincount(after[after >= 0], minlength=n))
        trees.append((after, count))
    (join, down), (split, up) = trees
    split, up = np.where(split < 0, -1, n - 1 - split)[::-1].astype(np.int32), up[::-1].copy()
    expected_edges = taken_apart(split.tolist(), join.tolist())
    found = np.sort(combine(join.copy(), down.copy(), split.copy(), up.copy()), axis=1)
    assert sorted(map(tuple, found.tolist())) == sorted(expected_edges)
