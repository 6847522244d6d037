from __future__ import annotations

import numpy as np
import pytest

from landscaper_hpc.topology.kernels.forest import (
    Candidates,
    Forest,
    component_labels,
    find,
    radix_argsort,
    spanning_forest,
)


@pytest.mark.parametrize("n", [0, 1, 2, 999])
@pytest.mark.parametrize("most", [1, 3, 2**20, 2**62])
def test_the_order_of_keys_is_stable(n: int, most: int) -> None:
    keys = np.random.default_rng(n).integers(-most, most, n)
    np.testing.assert_array_equal(radix_argsort(keys), np.argsort(keys, kind="stable"))


def kruskal(keys: list[int], stops: list[int], labels: list[int], n: int) -> list[tuple[int, int, int]]:
    """Edges (child, parent, candidate) in order."""
    component, edges = list(range(n)), []
    for c in sorted(range(len(keys)), key=lambda c: (keys[c], c)):
        mine = labels[stops[c - 1] if c else 0 : stops[c]]
        for other in mine[1:]:
            a, b = sorted((component[mine[0]], component[other]))
            if a != b:
                component = [a if x == b else x for x in component]
                edges.append((b, a, c))
    return edges


@pytest.mark.parametrize(
    ("candidates", "n", "ties"),
    [(0, 3, 9), (1, 2, 9), (40, 9, 5), (300, 80, 10**6), (60_000, 60, 10**9), (60_000, 60, 1), (60_000, 60, 3)],
)
def test_a_forest_is_that_of_kruskal(candidates: int, n: int, ties: int) -> None:
    rng = np.random.default_rng(candidates)
    counts = rng.integers(2, 5, candidates)
    stops = np.cumsum(counts).astype(np.int32)
    labels = rng.integers(0, n, int(counts.sum())).astype(np.int32)
    keys = rng.integers(-ties, ties, candidates)
    vertices = np.arange(candidates, dtype=np.int32) + 1000
    child, parent, saddle = spanning_forest(keys, Candidates(vertices, stops, labels), n)
    expected = kruskal(keys.tolist(), stops.tolist(), labels.tolist(), n)
    assert list(zip(child, parent, saddle - 1000, strict=True)) == expected
    table = np.arange(n)
    for b, a, _ in expected:
        table[table == table[b]] = a
    np.testing.assert_array_equal(component_labels(child, parent, n), table)


def test_a_reduced_forest_spans_what_its_parts_span() -> None:
    rng = np.random.default_rng(0)
    ids = rng.choice(10**9, 30, replace=False)
    parts = [
        Forest(
            *ids[rng.integers(0, 30, (2, 40))], rng.integers(0, 10**9, 40), rng.choice([0.5, 1.0, np.inf, np.nan], 40)
        )
        for _ in range(3)
    ]
    whole = Forest.concatenate(parts).reduced()
    again = Forest.concatenate([p.reduced() for p in parts]).reduced()
    for name in ("child", "parent", "saddle", "value"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    assert len(Forest.concatenate([])) == len(Forest.empty().reduced()) == 0


def test_the_smallest_node_of_a_component_is_found() -> None:
    rng = np.random.default_rng(0)
    up = np.array([0, *(rng.integers(0, i + 1) for i in range(1, 200))], np.int32)  # nobody is above a larger one
    root = up.copy()
    for _ in range(200):
        root = root[root]
    for x in rng.permutation(200):
        assert find(up, x) == root[x]
    for _ in range(200):
        up = up[up]  # paths are shorter, and lead where they led
    np.testing.assert_array_equal(up, root)
