from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from landscaper_hpc.topology.blocks.block import block_of, core_faces, ghost_slabs, limits, order_at, values_at
from landscaper_hpc.topology.kernels.order import census, ordered_keys
from landscaper_hpc.topology.kernels.rows import Box
from landscaper_hpc.topology.kernels.threads import Threads
from tests.topology.kernels.cases import BOXES


def inside(box: Box) -> Any:
    """Where the box is, as 1 in an array of its shape."""
    shape, low, high = box
    where = np.zeros(shape, int)
    where[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return where


@pytest.mark.parametrize(("sizes", "low", "high"), [*BOXES, ((1, 5, 1, 4), (0, 1, 0, 0), (1, 5, 1, 3))])
def test_core_faces_and_ghosts_of_a_block(sizes: Any, low: Any, high: Any) -> None:
    values = np.random.default_rng(0).choice([0.0, -0.0, 1.0, -np.inf], sizes)
    with Threads(2) as pool:
        block = block_of(values, low, high, "axis", pool)
    core = inside(block.box)
    assert core.shape == tuple(k for k in sizes if k > 1)
    slabs = sum((inside(slab) for slab in ghost_slabs(block.box)), np.zeros_like(core))
    np.testing.assert_array_equal(slabs, 1 - core)  # all that is not core, once
    padded = np.pad(1 - core, 1)  # beyond the grid there is nothing
    beside = sum(np.roll(padded, step, d) for d in range(core.ndim) for step in (-1, 1))
    faces = sum((inside(face) for face in core_faces(block.box)), np.zeros_like(core))
    np.testing.assert_array_equal(faces > 0, core * beside[(slice(1, -1),) * core.ndim] > 0)
    assert block.census == census(values.reshape(core.shape)[core > 0])
    where = np.arange(values.size)
    np.testing.assert_array_equal(values_at(block, where), values.reshape(-1) + 0.0)
    np.testing.assert_array_equal(order_at(block, where), ordered_keys(values.reshape(-1)))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_with_nan_anywhere_a_block_holds_keys(dtype: str) -> None:
    values = np.array([[np.nan, 0.0], [-1.0, np.inf], [2.0, -0.0]], dtype)
    with Threads(1) as pool:
        block = block_of(values, (1, 0), (3, 2), "full", pool)
    assert block.values.dtype.kind == "i"
    assert block.census.nan == 0  # it is a ghost
    np.testing.assert_array_equal(values_at(block, np.arange(6)), [np.nan, 0, -1, np.inf, 2, 0])
    low, high = limits(block)
    assert ((block.values >= low) & (block.values <= high)).all()
