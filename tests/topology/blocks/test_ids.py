"""The compiled functions of blocks on ids, each against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from landscaper_hpc.topology.blocks.boxes import Boxes, to_ids
from landscaper_hpc.topology.blocks.exits import follow, summed
from landscaper_hpc.topology.blocks.shells import Shell

SHAPE = (5, 7, 4)


@pytest.mark.parametrize("box", [((0, 5), (0, 7), (0, 4)), ((1, 3), (2, 7), (3, 4)), ((4, 5), (0, 6), (1, 3))])
def test_positions_in_a_box_are_ids_of_the_grid(box: tuple[tuple[int, int], ...]) -> None:
    region = tuple(slice(*ends) for ends in box)
    expected = np.arange(np.prod(SHAPE)).reshape(SHAPE)[region].reshape(-1)
    positions = np.random.default_rng(0).permutation(len(expected)).astype(np.int32)
    np.testing.assert_array_equal(to_ids(np.arange(len(expected)), region, SHAPE), expected)
    np.testing.assert_array_equal(to_ids(positions, region, SHAPE), expected[positions])


def test_labels_are_looked_up_on_faces() -> None:
    boxes = Boxes(SHAPE, (3, 4, 4))
    core = boxes.core(0)
    labels = np.arange(48, dtype=np.int32).reshape(3, 4, 4)
    shell = Shell(core, {(0, 1): labels[-1], (1, 1): labels[:, -1]}, np.arange(48) * 10)
    inside = np.arange(np.prod(SHAPE)).reshape(SHAPE)[core]
    asked = np.concatenate([inside[-1].reshape(-1), inside[:, -1].reshape(-1)])
    expected = np.concatenate([labels[-1].reshape(-1), labels[:, -1].reshape(-1)])
    shuffled = np.random.default_rng(0).permutation(len(asked))
    for order in (np.arange(len(asked)), shuffled):
        np.testing.assert_array_equal(shell.labels_of(asked[order], SHAPE), expected[order])
        np.testing.assert_array_equal(shell.lead_to(asked[order], SHAPE), expected[order] * 10)


def test_nodes_are_followed_and_sizes_summed() -> None:
    rng = np.random.default_rng(0)
    at = np.sort(rng.choice(1000, 200, replace=False))
    to = rng.integers(0, 1000, 200)
    for nodes in (np.sort(rng.integers(0, 1000, 500)), rng.integers(0, 1000, 500), np.empty(0, np.int64)):
        place = np.minimum(np.searchsorted(at, nodes), 199)
        expected = np.where(at[place] == nodes, to[place], nodes)
        found = nodes.copy()
        assert follow(at, to, found) == bool((expected != nodes).any())
        np.testing.assert_array_equal(found, expected)
    ids, sizes = rng.integers(0, 20, 100), rng.integers(0, 9, 100)
    different, total = summed(ids, sizes)
    np.testing.assert_array_equal(different, np.unique(ids))
    np.testing.assert_array_equal(total, np.bincount(ids, sizes)[different])
