"""The grid against plain numpy: coordinates, shards, stencils."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscaper_hpc import InputError
from landscaper_hpc.grid import Axis, Grid, stencil

shapes = st.lists(st.integers(1, 7), min_size=1, max_size=5).map(tuple)


@given(st.floats(1e-6, 1e3), st.integers(1, 50))
def test_symmetric_axes_are_exactly_antisymmetric_with_an_exact_zero(r: float, half: int) -> None:
    coordinates = Axis(-r, r, 2 * half + 1).coordinates()
    assert np.array_equal(coordinates, -coordinates[::-1])
    assert coordinates[half] == 0.0
    assert (coordinates[0], coordinates[-1]) == (-r, r)
    assert np.all(np.diff(coordinates) > 0)


@given(st.floats(-10, 10), st.floats(0.1, 10), st.integers(2, 60))
def test_axes_are_linspace(lower: float, width: float, count: int) -> None:
    axis = Axis(lower, lower + width, count)
    np.testing.assert_allclose(axis.coordinates(), np.linspace(lower, lower + width, count), rtol=0, atol=1e-13)


@given(shapes, st.integers(1, 500))
def test_shards_tile_the_grid(shape: tuple[int, ...], points: int) -> None:
    grid = Grid(tuple(Axis(-1.0, 1.0, k) for k in shape))
    shard_shape = grid.shard_shape(points)
    assert math.prod(shard_shape) <= points
    covered = np.zeros(shape, dtype=int)
    for shard in grid.shards(shard_shape):
        covered[shard.region] += 1
        assert shard.size == math.prod(shard.shape)
        assert shard.start == tuple(i * s for i, s in zip(shard.index, shard_shape, strict=True))
    assert np.all(covered == 1)


@pytest.mark.thorough
@given(shapes, st.integers(1, 100))
def test_points_are_the_grid_in_c_order(shape: tuple[int, ...], points: int) -> None:
    grid = Grid(tuple(Axis(-d - 1.0, 2.0, k) for d, k in enumerate(shape)))
    everything = np.stack(np.meshgrid(*grid.coordinates(), indexing="ij"), axis=-1)
    for shard in grid.shards(grid.shard_shape(points)):
        assert np.array_equal(grid.points(shard), everything[shard.region].reshape(-1, grid.ndim))


def test_checkpoint_index() -> None:
    assert Grid((Axis(-1, 1, 5), Axis(-1, 3, 5))).checkpoint_index() == (2, 1)
    assert Grid((Axis(-1, 1, 4), Axis(-1, 1, 3))).checkpoint_index() is None


@pytest.mark.parametrize("ndim", [1, 2, 3, 4, 5])
def test_stencils(ndim: int) -> None:
    sizes = {"axis": 2 * ndim, "freudenthal": 2 * (2**ndim - 1), "full": 3**ndim - 1}
    found = {name: {tuple(o) for o in stencil(name, ndim).tolist()} for name in sizes}  # type: ignore[arg-type]
    assert {name: len(offsets) for name, offsets in found.items()} == sizes
    assert found["axis"] <= found["freudenthal"] <= found["full"]
    for offsets in found.values():
        assert {tuple(-c for c in o) for o in offsets} == offsets


def test_unknown_connectivity() -> None:
    with pytest.raises(InputError, match="axis, freudenthal, full"):
        stencil("knn", 2)
