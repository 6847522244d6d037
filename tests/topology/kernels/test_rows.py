from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from landscaper_hpc.topology.kernels import rows
from landscaper_hpc.topology.kernels.stencil import block_stencil
from tests.oracles import grid_neighbours
from tests.topology.kernels.cases import Case, cases, connectivities


@cases
def test_rows_are_walked_in_order(block: Case) -> None:
    wide = rows.joined(*block.box)
    for shape, low, high in (block.box, wide, rows.joined(*block.box, 3)):
        at = np.zeros(shape.size, np.int64)
        count, seen = int(np.prod((high - low)[:-1])), []
        rows.first_row(0, low, high, at)
        for row in range(count):
            again = np.zeros_like(at)
            rows.first_row(row, low, high, again)
            assert again[:-1].tolist() == at[:-1].tolist()
            start = rows.row_start(at, shape)
            seen += range(start + low[-1], start + high[-1])
            rows.next_row(low, high, at)
        assert seen == block.core()
    assert rows.row_count(wide) <= block.rows


@pytest.mark.thorough
@cases
@connectivities
def test_which_neighbours_a_row_has(block: Case, connectivity: Any) -> None:
    stencil, around = block.stencil(connectivity), block.around(connectivity)
    near, at = np.empty((len(stencil.dist), 3), np.int64), np.zeros(block.shape.size, np.int64)
    a, b = block.low[-1], block.high[-1]
    for row in range(block.rows):
        rows.first_row(row, block.low, block.high, at)
        start = rows.row_start(at, block.shape)
        found = near[: rows.row_neighbours(at, block.shape, a, b, stencil.steps, stencil.dist, near)]
        for j in range(a, b):
            mine = [start + j + int(stencil.dist[k]) for k, p, q in found if p <= j < q]
            assert mine == sorted(around[start + j])


def test_columns_with_a_neighbour_along_an_axis() -> None:
    shape, span = np.array([4, 5, 6]), np.empty(4, np.int64)
    together = 2  # rows 1 and 2 of axis 1
    for x in range(4):
        for y in range(4):
            at = np.array([x, y, 0])
            for d in range(3):
                rows.columns(at, shape, d, together, 0, 12, span)
                place = [(x, y + j // 6, j % 6)[d] for j in range(12)]
                before, after = ([j in range(*span[i : i + 2]) for j in range(12)] for i in (0, 2))
                if d < 2:
                    assert before == [p > 0 for p in place]
                    assert after == [p < shape[d] - 1 for p in place]
                else:  # in memory
                    assert before == [j > 0 for j in range(12)]
                    assert after == [j < 11 for j in range(12)]


def test_room_keeps_what_is_used() -> None:
    array = np.arange(10, dtype=np.int32)
    assert rows.room(array, 4, 6) is array
    larger = rows.room(array, 4, 7)
    assert larger.size >= 11
    assert larger[:4].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("ndim", [1, 2, 3, 4, 5])
@connectivities
def test_a_stencil_is_the_neighbours_and_which_of_them_are_adjacent(ndim: int, connectivity: Any) -> None:
    found = block_stencil(connectivity, (3,) * ndim)
    around = grid_neighbours((3,) * ndim, connectivity)
    middle = 3**ndim // 2
    mine = [middle + int(d) for d in found.dist]
    assert mine == sorted(around[middle])
    strides = 3 ** np.arange(ndim)[::-1]
    assert (found.steps @ strides == found.dist).all()
    if connectivity != "axis":
        for k, v in enumerate(mine):
            bits = [p for p, w in enumerate(mine) if int(found.adjacent[k, p >> 6]) >> (p & 63) & 1]
            assert bits == [p for p, w in enumerate(mine) if w in around[v]]


@cases
def test_rows_that_are_worked_on_together_are_contiguous(block: Case) -> None:
    together = rows.rows_at_once(*block.box)
    length = int(block.shape[-1])
    whole = block.shape.size > 1 and block.high[-1] - block.low[-1] == length
    assert together == (rows.CHUNK // length if whole else 1)


def test_long_rows_are_worked_on_one_by_one() -> None:
    assert [rows.rows_at_once(*rows.joined((3, k, 1), (0, 0, 0), (3, k, 1), 3 * k)) for k in (2, 9)] == [rows.CHUNK] * 2
    shape = np.array([2, 2 * rows.CHUNK])
    assert rows.rows_at_once(shape, 0 * shape, shape) == 1
