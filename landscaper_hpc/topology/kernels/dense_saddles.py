"""Compiled kernels that find candidate saddles, see `saddles`, for stencils whose entries are adjacent to each other,
and for the axis connectivity in many dimensions. Sets of stencil entries are bits in words of 64."""

from __future__ import annotations

from typing import Any

import numpy as np

from landscaper_hpc.topology.kernels.compiled import jit, lowest_bit
from landscaper_hpc.topology.kernels.forest import Candidates
from landscaper_hpc.topology.kernels.rows import GROW, first_row, next_row, room, row_neighbours, row_start
from landscaper_hpc.topology.kernels.saddles import MOST_CANDIDATES, Run, add_label


@jit
def _mark_bit(root: Any, start: int, other: int, bit: Any, a: int, b: int, mark: Any, word: int) -> None:
    """Set `bit` where the labels differ. The bits of column j are in mark[word + j]."""
    s = np.uint64(start)
    t = np.uint64(other)
    x = np.uint64(word)
    none = mark.dtype.type(0)
    for j in range(np.uint64(a), np.uint64(b)):
        mark[x + j] |= bit if root[s + j] != root[t + j] else none


@jit
def _mark_lower(f: Any, start: int, other: int, strict: bool, bit: Any, a: int, b: int, mark: Any, word: int) -> None:
    """Set `bit` where the neighbour at `other` is lower (or equal, if not `strict`)."""
    s = np.uint64(start)
    t = np.uint64(other)
    x = np.uint64(word)
    none = mark.dtype.type(0)
    if strict:
        for j in range(np.uint64(a), np.uint64(b)):
            mark[x + j] |= bit if f[t + j] < f[s + j] else none
    else:
        for j in range(np.uint64(a), np.uint64(b)):
            mark[x + j] |= bit if f[t + j] <= f[s + j] else none


@jit
def _spread(adjacent: Any, across: Any, front: Any) -> bool:
    """Remove from the set `across` what is connected with the set `front` within both; tell whether some is left.

    `front` is used up."""
    words = across.size
    w = 0
    while w < words:
        if front[w] == 0:
            w += 1
            continue
        bit = lowest_bit(front[w])
        front[w] ^= np.uint64(1) << np.uint64(bit)
        left = np.uint64(0)
        again = w
        for x in range(words):
            new = adjacent[64 * w + bit, x] & across[x]
            across[x] ^= new
            front[x] |= new
            left |= across[x]
            if new and x < again:
                again = x
        if left == 0:
            return False
        w = again
    return True


@jit
def _dense_row(
    f: Any, root: Any, run: Any, stencil: Any, marks: Any, band: Any, into: Any, found: int, used: int
) -> Any:
    """As `saddles._axis_row`; `marks`: which entries of the stencil are lower, and which have another label."""
    base, a0, b0 = run
    _, dist, adjacent = stencil
    lower, differs = marks
    vertices, stops, labels = into
    words = adjacent.shape[1]
    length = lower.size // words
    across = np.empty(words, np.uint64)
    front = np.empty(words, np.uint64)
    for j in range(a0, b0):
        some = np.uint64(0)
        for w in range(words):
            across[w] = lower[w * length + j] & differs[w * length + j]
            front[w] = lower[w * length + j] & ~differs[w * length + j]
            some |= across[w]
        u = base + j
        if some == 0 or f[u] < band[0] or f[u] > band[1] or not _spread(adjacent, across, front):
            continue
        start = used
        labels[used] = ~root[u]
        used += 1
        for w in range(words):
            while across[w]:
                bit = lowest_bit(across[w])
                across[w] ^= np.uint64(1) << np.uint64(bit)
                v = u + dist[64 * w + bit]
                used = add_label(labels, start, used, ~root[v])
        vertices[found] = u
        stops[found] = used
        found += 1
    return found, used


@jit
def dense_candidates(f: Any, root: Any, box: Any, stencil: Any, begin: int, end: int, band: Any) -> Any:
    """As `saddles.axis_candidates`, for stencils whose entries are adjacent to each other, see `BlockStencil`. Lower
    neighbours that are connected among themselves are connected below u."""
    shape, low, high = box
    steps, dist, adjacent = stencil.steps, stencil.dist, stencil.adjacent
    n = shape.size
    length = shape[n - 1]
    a0, b0 = low[n - 1], high[n - 1]
    at = np.zeros(n, np.int64)
    first_row(begin, low, high, at)
    near = np.empty((dist.size, 3), np.int64)
    words = adjacent.shape[1]
    lower = np.empty(words * length, np.uint64)
    differs = np.empty(words * length, np.uint64)
    one = np.uint64(1)
    vertices = np.empty(GROW, np.int32)
    stops = np.empty(GROW, np.int32)
    labels = np.empty(4 * GROW, np.int32)
    found = 0
    used = 0
    row = begin
    while row < end and found < MOST_CANDIDATES:
        base = row_start(at, shape)
        m = row_neighbours(at, shape, a0, b0, steps, dist, near)
        differs[:] = 0
        for i in range(m):
            k = near[i, 0]
            bit = one << np.uint64(k & 63)
            _mark_bit(root, base, base + dist[k], bit, near[i, 1], near[i, 2], differs, (k >> 6) * length)
        some = np.uint64(0)
        for i in range(np.uint64(differs.size)):
            some |= differs[i]
        if some != 0:
            vertices = room(vertices, found, length)
            stops = room(stops, found, length)
            labels = room(labels, used, length * (dist.size + 1))
            lower[:] = 0
            for i in range(m):
                k = near[i, 0]
                bit = one << np.uint64(k & 63)
                _mark_lower(f, base, base + dist[k], dist[k] > 0, bit, near[i, 1], near[i, 2], lower, (k >> 6) * length)
            into = Candidates(vertices, stops, labels)
            found, used = _dense_row(f, root, Run(base, a0, b0), stencil, (lower, differs), band, into, found, used)
        row += 1
        next_row(low, high, at)
    return Candidates(vertices[:found], stops[:found], labels[:used]), row
