"""The loops over known vertices, against plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from landscaper_hpc.grid import stencil
from landscaper_hpc.sampling.kernels import (
    ASKED,
    KNOWN,
    UNKNOWN,
    first_saddle,
    graph_of,
    lowest_of,
    unknown_neighbours,
)
from tests.oracles import grid_neighbours, oracle_tree

shapes = pytest.mark.parametrize("shape", [(13,), (6, 5), (3, 4, 3)])
connectivities = pytest.mark.parametrize("connectivity", ["axis", "freudenthal", "full"])
ODD = [0.0, 1.0, np.inf, -np.inf, np.nan]


def order(values: NDArray[Any], v: int) -> tuple[bool, float, int]:
    return bool(np.isnan(values[v])), 0.0 if np.isnan(values[v]) else float(values[v]), v


def strided(shape: tuple[int, ...], connectivity: Any, stride: int) -> list[set[int]]:
    """The vertices at a multiple of each offset."""
    found = []
    for at in np.ndindex(shape):
        places = [
            tuple(a + stride * o for a, o in zip(at, offset, strict=True))
            for offset in stencil(connectivity, len(shape))
        ]
        inside = [p for p in places if all(0 <= x < k for x, k in zip(p, shape, strict=True))]
        found.append({int(np.ravel_multi_index(p, shape)) for p in inside})
    return found


@shapes
@connectivities
@pytest.mark.parametrize("stride", [1, 2])
def test_neighbours_that_nobody_has_asked_for_and_the_lowest(
    shape: tuple[int, ...], connectivity: Any, stride: int
) -> None:
    rng = np.random.default_rng(0)
    size = int(np.prod(shape))
    state = rng.choice([UNKNOWN, ASKED, KNOWN], size).astype(np.uint8)
    ids = np.flatnonzero(state == KNOWN)
    lengths, offsets = np.array(shape), stencil(connectivity, len(shape))
    around = strided(shape, connectivity, stride)
    expected = {w for v in ids for w in around[v] if state[w] == UNKNOWN}
    found = unknown_neighbours(ids, stride, state, lengths, offsets)
    assert sorted(found.tolist()) == sorted(expected)
    assert (state[found] == ASKED).all()
    assert len(unknown_neighbours(ids, stride, state, lengths, offsets)) == 0
    values = rng.choice(ODD, size)
    lowest = [min([v, *around[v]], key=lambda w: order(values, w)) for v in ids.tolist()]
    assert lowest_of(ids, stride, values, lengths, offsets).tolist() == lowest


@shapes
@connectivities
def test_the_graph_of_some_vertices_and_the_way_out_of_each(shape: tuple[int, ...], connectivity: Any) -> None:
    rng = np.random.default_rng(1)
    values = rng.choice(ODD, int(np.prod(shape)))
    ids = np.flatnonzero(rng.random(values.size) < 0.5)
    indptr, indices, way_out = graph_of(ids, values, np.array(shape), stencil(connectivity, len(shape)))
    within, around = set(ids.tolist()), grid_neighbours(shape, connectivity)
    for k, v in enumerate(ids.tolist()):
        assert set(ids[indices[indptr[k] : indptr[k + 1]]].tolist()) == within & set(around[v])
        outside = sorted(set(around[v]) - within, key=lambda w: order(values, w))
        assert way_out[k] == (outside[0] if outside else -1)
    assert indptr[-1] == len(indices)


@shapes
@connectivities
def test_the_first_saddle_of_each_minimum_asks_for_what_it_needs(shape: tuple[int, ...], connectivity: Any) -> None:
    values = np.random.default_rng(2).integers(0, 5, int(np.prod(shape))).astype(float)
    around = grid_neighbours(shape, connectivity)
    tree = oracle_tree(values, around)
    for minimum, saddle in zip(tree.minima, tree.first_saddle, strict=True):
        state = np.full(values.size, UNKNOWN, np.uint8)
        state[minimum] = KNOWN
        for _ in range(values.size + 1):
            found, needed = first_saddle(minimum, values, state, np.array(shape), stencil(connectivity, len(shape)))
            if not len(needed):
                break
            assert (state[needed] == KNOWN).all()
            assert any(state[w] == UNKNOWN for w in around[needed[0]])
            state[[w for v in needed for w in around[v]]] = KNOWN
        assert found == saddle
