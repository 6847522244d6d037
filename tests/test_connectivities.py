"""A connectivity is one value and one row: trees of one that is added are those of the graph that it says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.sparse import csr_array

from landscaper_hpc import grid, registry
from landscaper_hpc.grid import Neighbours, stencil
from landscaper_hpc.topology import merge_tree, merge_tree_graph


def test_a_new_connectivity_is_one_value_and_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    diagonals = Neighbours(lambda n: 2**n, lambda n: 2 * np.array(list(np.ndindex(*[2] * n))) - 1)
    rows = {**registry.CONNECTIVITIES.own, "diagonals": "landscaper_hpc.grid:DIAGONALS"}
    monkeypatch.setattr(grid, "DIAGONALS", diagonals, raising=False)
    monkeypatch.setattr(grid, "CONNECTIVITIES", dataclasses.replace(registry.CONNECTIVITIES, own=rows))
    field = np.random.default_rng(0).integers(0, 9, (5, 4, 3)).astype(float)
    edges = []
    for index in np.ndindex(field.shape):
        for offset in stencil("diagonals", 3):
            other = np.add(index, offset)
            if np.all(other >= 0) and np.all(other < field.shape):
                edges.append([np.ravel_multi_index(index, field.shape), np.ravel_multi_index(other, field.shape)])
    graph = csr_array((np.ones(len(edges)), np.transpose(edges)), shape=(field.size, field.size))
    graph.sort_indices()
    expected = merge_tree_graph(field.ravel(), graph.indptr, graph.indices)
    found = merge_tree(field, "diagonals")
    for name in ("minima", "first_saddle", "basin_size", "parent"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
