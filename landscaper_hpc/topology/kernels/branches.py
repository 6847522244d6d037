"""Compiled kernel of the branch decomposition of a contour tree: Pascucci, Cole-McLaughlin and Scorzelli,
*Multi-resolution computation and presentation of contour trees* (2004)."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import numpy as np

from landscaper_hpc.topology.kernels.compiled import jit


@jit
def _length(values: Any, v: int, w: int) -> float:
    """How far apart two nodes are; what is not finite is infinitely far, so that it is taken last."""
    length = abs(values[v] - values[w])
    return length if length < np.inf else np.inf


@jit
def _vanish(s: int, above: Any, below: Any, ends: Any) -> None:
    """Join the two arcs of a node with one in each direction."""
    a, b = below[s], above[s]
    ends[s, 0] = a
    ends[s, 1] = b
    above[a] ^= s ^ b
    below[b] ^= s ^ a


@jit
def branch_decomposition(edges: Any, n: int, values: Any) -> Any:
    """Take leaf arcs off, the shortest first, while their saddle keeps an arc in the same direction; what is left is
    one monotone path. Nodes are numbered in order.

    Returns the branches' leaves, ends and parents, the main one first and then from the last taken to the first. A
    node with one arc of a direction finds it as the exclusive or of all that it had and those it has lost.
    """
    up = np.zeros(n, np.int64)
    down = np.zeros(n, np.int64)
    above = np.zeros(n, np.int64)
    below = np.zeros(n, np.int64)
    for i in range(edges.shape[0]):
        v, w = edges[i, 0], edges[i, 1]
        up[v] += 1
        above[v] ^= w
        down[w] += 1
        below[w] ^= v
    when = np.full(n, n, np.int64)  # the two that are left: last
    sequence = np.empty(n, np.int64)
    ends = np.full((n, 2), -1, np.int64)  # of a leaf: where its branch ends, twice; of others: the arc they vanish in
    taken = 0
    for v in range(n):  # where the tree is not one of a triangulation, see `contour`
        if up[v] == 1 and down[v] == 1:
            when[v] = taken
            sequence[taken] = v
            taken += 1
            _vanish(v, above, below, ends)
    heap = [(0.0, -1, -1)]
    heappop(heap)
    for v in range(n):
        if up[v] + down[v] == 1:
            w = above[v] ^ below[v]
            heappush(heap, (_length(values, v, w), v, w))
    while heap:
        _, v, s = heappop(heap)
        lower = up[v] == 1
        if when[v] < n or above[v] ^ below[v] != s or (down[s] if lower else up[s]) < 2:
            continue
        when[v] = taken
        sequence[taken] = v
        ends[v] = s
        taken += 1
        if lower:
            down[s] -= 1
            below[s] ^= v
        else:
            up[s] -= 1
            above[s] ^= v
        if down[s] + up[s] == 1:  # an extremum at which others met
            w = above[s] ^ below[s]
            heappush(heap, (_length(values, s, w), s, w))
        if down[s] != 1 or up[s] != 1:
            continue
        when[s] = taken
        sequence[taken] = s
        taken += 1
        _vanish(s, above, below, ends)
        a, b = ends[s]
        for x, y in ((a, b), (b, a)):
            if up[x] + down[x] == 1:
                heappush(heap, (_length(values, x, y), x, y))
    return _numbered(ends, when, sequence[:taken])


@jit
def _numbered(ends: Any, when: Any, sequence: Any) -> Any:
    """Branches from the last taken to the first, and which one each ends on."""
    n = when.size
    owner = np.zeros(n, np.int64)
    main = np.flatnonzero(when == n)
    count = 1
    for v in sequence:
        count += ends[v, 0] == ends[v, 1]
    leaf = np.empty(count, np.int64)
    end = np.empty(count, np.int64)
    parent = np.full(count, -1, np.int64)
    leaf[0] = main[0]
    end[0] = main[-1]
    b = 1
    for i in range(sequence.size - 1, -1, -1):
        v = sequence[i]
        x, y = ends[v]
        if x == y:
            leaf[b] = v
            end[b] = x
            owner[v] = b
            b += 1
        else:
            owner[v] = owner[x if when[x] < when[y] else y]
    for b in range(1, count):
        parent[b] = owner[end[b]]
    return leaf, end, parent
