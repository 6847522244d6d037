from __future__ import annotations

import numpy as np

from landscaper_hpc.topology.kernels.ids import add_counts, follow, is_sorted, present, summed, union


def test_nodes_are_followed() -> None:
    rng = np.random.default_rng(0)
    at = np.sort(rng.choice(1000, 200, replace=False))
    to = rng.integers(0, 1000, 200)
    for nodes in (np.sort(rng.integers(0, 1000, 500)), rng.integers(0, 1000, 500), np.empty(0, np.int64)):
        place = np.minimum(np.searchsorted(at, nodes), 199)
        expected = np.where(at[place] == nodes, to[place], nodes)
        found = nodes.copy()
        assert follow(at, to, found) == bool((expected != nodes).any())
        np.testing.assert_array_equal(found, expected)


def test_counts_and_sizes_are_added_up() -> None:
    rng = np.random.default_rng(0)
    ids, sizes = rng.integers(0, 20, 100), rng.integers(0, 9, 100)
    different, total = summed(ids, sizes)
    np.testing.assert_array_equal(different, np.unique(ids))
    np.testing.assert_array_equal(total, np.bincount(ids, sizes)[different])
    added = np.full(20, 7)
    add_counts(added, ids.astype(np.int32), sizes)
    np.testing.assert_array_equal(added, 7 + np.bincount(ids, sizes, 20))
    assert [len(x) for x in summed(ids[:0], sizes[:0])] == [0, 0]


def test_sets_of_ids() -> None:
    rng = np.random.default_rng(0)
    one, other, none = rng.integers(0, 50, 30), rng.integers(0, 50, 9), np.empty(0, np.int64)
    for a, b in ((one, other), (one, none), (none, none)):
        np.testing.assert_array_equal(union(a, b), np.union1d(a, b))
    assert present(one.astype(np.int32), 60) == np.unique(one).tolist()
    for ids in (one, np.sort(one), none, none + 1, np.array([1, 1, 2]), np.array([1, 2, 1])):
        assert bool(is_sorted(ids)) == (np.sort(ids).tolist() == ids.tolist())
