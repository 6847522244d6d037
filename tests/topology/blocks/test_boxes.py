"""Positions in a box against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from landscaper_hpc.topology.blocks.boxes import Boxes, to_ids

SHAPE = (5, 7, 4)


@pytest.mark.parametrize("box", [((0, 5), (0, 7), (0, 4)), ((1, 3), (2, 7), (3, 4)), ((4, 5), (0, 6), (1, 3))])
def test_positions_in_a_box_are_ids_of_the_grid(box: tuple[tuple[int, int], ...]) -> None:
    region = tuple(slice(*ends) for ends in box)
    expected = np.arange(np.prod(SHAPE)).reshape(SHAPE)[region].reshape(-1)
    positions = np.random.default_rng(0).permutation(len(expected)).astype(np.int32)
    np.testing.assert_array_equal(to_ids(np.arange(len(expected)), region, SHAPE), expected)
    np.testing.assert_array_equal(to_ids(positions, region, SHAPE), expected[positions])


@pytest.mark.parametrize("block", [(5, 7, 4), (2, 3, 4), (1, 7, 3)])
def test_which_block_a_vertex_is_in(block: tuple[int, ...]) -> None:
    boxes = Boxes(SHAPE, block)
    at = np.unravel_index(vertices := np.random.default_rng(0).permutation(np.prod(SHAPE)), SHAPE)
    expected = np.ravel_multi_index([x // b for x, b in zip(at, block, strict=True)], boxes.counts)
    np.testing.assert_array_equal(boxes.block_of(vertices), expected)
    np.testing.assert_array_equal(boxes.block_of(np.sort(vertices)), expected[np.argsort(vertices)])
