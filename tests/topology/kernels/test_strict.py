"""The kernels that do as topopy does, against plain loops over sets."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from landscaper_hpc.topology.kernels.stencil import block_stencil
from landscaper_hpc.topology.kernels.strict import steepest, strict_arcs, strict_tree
from tests.kinds import kinds
from tests.oracles import grid_neighbours
from tests.topology.kernels.cases import connectivities

shapes = pytest.mark.parametrize("shape", [(15,), (5, 6), (3, 4, 3)])


def field(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).integers(0, 6, int(np.prod(shape))).astype(np.float32)


def twin_tree(y: Any, order: list[int], around: list[list[int]]) -> tuple[bool, list[int], list[int], list[bool]]:
    component = [{v} for v in range(len(y))]
    top, end, owner, node = ([-1] * len(y) for _ in range(4))
    for v in order:
        met = {min(component[w]): component[w] for w in around[v] if y[w] < y[v]}
        tops = [top[next(u for u in lower if top[u] >= 0)] for lower in met.values()]
        if len(tops) == 1:
            owner[v] = tops[0]
        else:
            node[v] = 1
            for t in tops:
                end[t] = v
        whole = {v}.union(*met.values())
        for u in whole:
            component[u], top[u] = whole, v if node[v] == 1 else tops[0]
    last = order[-1]
    sound = node[last] != 1
    if sound:
        node[last], end[owner[last]] = 1, last
    return sound, end, owner, [x == 1 for x in node]


@shapes
@connectivities
@pytest.mark.parametrize("seed", kinds(range(4), 0))
def test_trees_of_strictly_lower_neighbours_and_their_arcs(
    shape: tuple[int, ...], connectivity: Any, seed: int
) -> None:
    y = field(shape, seed)
    order = np.argsort(y, kind="stable")
    stencil = block_stencil(connectivity, shape)
    end, owner = np.full(y.size, -1, np.int32), np.full(y.size, -1, np.int32)
    node = np.zeros(y.size, np.bool_)
    sound = strict_tree(y, order, np.array(shape), stencil.steps, stencil.dist, end, owner, node)
    expected = twin_tree(y, order.tolist(), grid_neighbours(shape, connectivity))
    assert sound == expected[0]
    if not sound:
        return
    assert (end.tolist(), owner.tolist(), node.tolist()) == expected[1:]
    chosen = np.flatnonzero(node | (np.random.default_rng(seed).random(y.size) < 0.5))
    number = np.full(y.size, -1, np.int32)
    number[chosen] = np.arange(len(chosen))
    after, inside = np.full(len(chosen), -1, np.int32), np.zeros(len(chosen), np.bool_)
    count = strict_arcs(order, end, owner, node, number, after, inside)
    twin, within = [-1] * len(chosen), set()
    for v in order[node[order]].tolist():
        if end[v] >= 0:
            on_it = [u for u in order.tolist() if owner[u] == v and not node[u] and number[u] >= 0]
            chain = [int(number[u]) for u in (v, *on_it, end[v])]
            within |= set(chain)
            for a, b in itertools.pairwise(chain):
                twin[a] = b
    assert after.tolist() == twin
    assert set(np.flatnonzero(inside).tolist()) == within
    np.testing.assert_array_equal(count, np.bincount(after[after >= 0], minlength=len(chosen)))


@shapes
@connectivities
def test_the_steepest_edge(shape: tuple[int, ...], connectivity: Any) -> None:
    y = field(shape, 0)
    stencil = block_stencil(connectivity, shape)
    x = np.zeros((len(shape), max(shape)), np.float32)
    for axis, length in enumerate(shape):
        x[axis, :length] = np.linspace(-1, 1, length)
    places = np.stack([x[d][i] for d, i in enumerate(np.unravel_index(np.arange(y.size), shape))], axis=1)
    down = []
    for v, near in enumerate(grid_neighbours(shape, connectivity)):
        squares = {w: sum(((places[v] - places[w]) ** 2).tolist(), np.float32(0)) for w in near}
        slopes = {w: (y[v] - y[w]) / np.sqrt(np.float32(squares[w])) for w in near}
        down.append(min([(-s, w) for w, s in slopes.items() if s > 0 or (s == 0 and w < v)], default=(0, v))[1])
    for _ in down:
        down = [down[v] for v in down]
    assert steepest(y, x, np.array(shape), stencil.steps, stencil.dist).tolist() == down
