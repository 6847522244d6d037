"""Compiled kernels that find candidate saddles: the vertices that may join basins.

A vertex u joins the basins of its lower neighbours. It cannot be where two of them first meet if these neighbours are
already connected strictly below u: dropping it changes no component of any sublevel set. So only vertices whose lower
neighbours fall apart are candidates, as the saddles of piecewise linear Morse theory (Banchoff 1970); of those only
the ones whose lower neighbours lie in different basins. Lower neighbours in the same basin are connected below u: both
descend to its minimum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiled import jit
from .kernels import GROW, UNSEEN, first_row, next_row, row_neighbours, row_start

MOST_AXES = 15
"""Up to here the directions of the axis connectivity fit into half a word; beyond, `dense_candidates` serves."""


@jit
def _mark_different(root: Any, start: int, other: int, a: int, b: int, mark: Any) -> None:
    s = np.uint64(start)
    t = np.uint64(other)
    for j in range(np.uint64(a), np.uint64(b)):
        mark[j] |= root[s + j] ^ root[t + j]


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
def _sort_lower(f: Any, root: Any, start: int, other: int, strict: bool, bit: Any, a: int, b: int, mark: Any) -> None:
    """Where the neighbour at `other` is lower, set `bit` if it lies in another basin, `bit` << 32 if in the same."""
    s = np.uint64(start)
    t = np.uint64(other)
    none = mark.dtype.type(0)
    same = bit << 32
    if strict:
        for j in range(np.uint64(a), np.uint64(b)):
            which = bit if root[t + j] != root[s + j] else same
            mark[j] |= which if f[t + j] < f[s + j] else none
    else:
        for j in range(np.uint64(a), np.uint64(b)):
            which = bit if root[t + j] != root[s + j] else same
            mark[j] |= which if f[t + j] <= f[s + j] else none


@jit
def _room(array: Any, used: int, more: int) -> Any:
    if used + more <= array.size:
        return array
    larger = np.empty(2 * array.size + more, array.dtype)
    larger[:used] = array[:used]
    return larger


@jit
def _add(labels: Any, start: int, used: int, label: int) -> int:
    """Append a label unless it is among those from `start` on; return the new end."""
    for i in range(start, used):
        if labels[i] == label:
            return used
    labels[used] = label
    return used + 1


@jit
def _axis_row(
    f: Any,
    root: Any,
    base: int,
    a0: int,
    b0: int,
    far: Any,
    lower: Any,
    ghost: int,
    vertices: Any,
    stops: Any,
    labels: Any,
    found: int,
    used: int,
) -> Any:
    """The candidates of one row, appended; a function of its own because numba would count references per vertex."""
    m = far.size
    half = np.int64(0xFFFFFFFF)
    for j in range(a0, b0):
        across = lower[j] & half
        if across == 0:
            continue
        same = lower[j] >> 32
        u = np.uint64(base + j)
        fu = f[u]
        start = used
        labels[used] = ~root[u]
        used += 1
        for i in range(m):
            if (across >> i) & 1 == 0:
                continue
            step = far[i]
            apart = True
            for k in range(m):
                if (same >> k) & 1:
                    corner = step + far[k]
                    fw = f[u + np.uint64(corner)]
                    if fw < fu or (fw == fu and corner < 0):
                        apart = False
                        break
            if apart:
                r = root[u + np.uint64(step)]
                used = _add(labels, start, used, ~r if r != UNSEEN else ghost + base + j + step)
        if used == start + 1:
            used = start
            continue
        vertices[found] = base + j
        stops[found] = used
        found += 1
    return found, used


@jit
def axis_candidates(
    f: Any, root: Any, shape: Any, low: Any, high: Any, steps: Any, dist: Any, begin: int, end: int, ghost: int
) -> Any:
    """Candidates among the core rows `begin` to `end` for the axis connectivity, each with the labels it joins.

    Returns `vertices` (c,), `stops` (c,) and `labels`: those of vertex i are labels[stops[i - 1] : stops[i]], its own
    first. A ghost vertex that is no exit has the label `ghost` + its position.

    With t a lower neighbour of u in its own basin and v one in another, w = v + (t - u) is adjacent to both: if w
    lies below u, t and v are connected below u. (Where v is opposite to t, w is u itself.)
    """
    n = shape.size
    length = shape[n - 1]
    a0, b0 = low[n - 1], high[n - 1]
    at = np.zeros(n, np.int64)
    first_row(begin, low, high, at)
    near = np.empty((dist.size, 3), np.int64)
    far = np.empty(dist.size, np.int64)
    mark = np.empty(length, np.int32)
    lower = np.empty(length, np.int64)
    vertices = np.empty(GROW, np.int32)
    stops = np.empty(GROW, np.int32)
    labels = np.empty(4 * GROW, np.int32)
    found = 0
    used = 0
    for _ in range(begin, end):
        base = row_start(at, shape)
        m = row_neighbours(at, shape, a0, b0, steps, dist, near)
        mark[a0:b0] = 0
        for i in range(m):
            far[i] = dist[near[i, 0]]
            _mark_different(root, base, base + far[i], near[i, 1], near[i, 2], mark)
        some = np.int32(0)
        for j in range(np.uint64(a0), np.uint64(b0)):
            some |= mark[j]
        if some != 0:
            vertices = _room(vertices, found, length)
            stops = _room(stops, found, length)
            labels = _room(labels, used, length * (dist.size + 1))
            lower[a0:b0] = 0
            for i in range(m):
                bit = np.int64(1) << i
                _sort_lower(f, root, base, base + far[i], far[i] > 0, bit, near[i, 1], near[i, 2], lower)
            found, used = _axis_row(f, root, base, a0, b0, far[:m], lower, ghost, vertices, stops, labels, found, used)
        next_row(low, high, at)
    return vertices[:found], stops[:found], labels[:used]


@jit
def _first_bit(word: Any) -> int:
    """The number of the lowest bit of a word that is not zero."""
    at = 0
    while (word >> np.uint64(at)) & np.uint64(0xFF) == 0:
        at += 8
    while (word >> np.uint64(at)) & np.uint64(1) == 0:
        at += 1
    return at


@jit
def _spread(adjacent: Any, across: Any, front: Any) -> bool:
    """Remove from the set `across` what is connected with the set `front` within both; tell whether some is left.

    Sets of stencil entries are bits in words of 64. `front` is used up."""
    words = across.size
    w = 0
    while w < words:
        if front[w] == 0:
            w += 1
            continue
        bit = _first_bit(front[w])
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
    f: Any,
    root: Any,
    base: int,
    a0: int,
    b0: int,
    dist: Any,
    adjacent: Any,
    lower: Any,
    differs: Any,
    ghost: int,
    vertices: Any,
    stops: Any,
    labels: Any,
    found: int,
    used: int,
) -> Any:
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
        if some == 0 or not _spread(adjacent, across, front):
            continue
        u = base + j
        start = used
        labels[used] = ~root[u]
        used += 1
        for w in range(words):
            while across[w]:
                bit = _first_bit(across[w])
                across[w] ^= np.uint64(1) << np.uint64(bit)
                v = u + dist[64 * w + bit]
                used = _add(labels, start, used, ~root[v] if root[v] != UNSEEN else ghost + v)
        vertices[found] = u
        stops[found] = used
        found += 1
    return found, used


@jit
def dense_candidates(
    f: Any,
    root: Any,
    shape: Any,
    low: Any,
    high: Any,
    steps: Any,
    dist: Any,
    adjacent: Any,
    begin: int,
    end: int,
    ghost: int,
) -> Any:
    """The same as `axis_candidates` for stencils whose entries are adjacent to each other: `adjacent` (m, words) says
    to which. Lower neighbours that are connected among themselves are connected below u."""
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
    for _ in range(begin, end):
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
            vertices = _room(vertices, found, length)
            stops = _room(stops, found, length)
            labels = _room(labels, used, length * (dist.size + 1))
            lower[:] = 0
            for i in range(m):
                k = near[i, 0]
                bit = one << np.uint64(k & 63)
                _mark_lower(f, base, base + dist[k], dist[k] > 0, bit, near[i, 1], near[i, 2], lower, (k >> 6) * length)
            found, used = _dense_row(
                f, root, base, a0, b0, dist, adjacent, lower, differs, ghost, vertices, stops, labels, found, used
            )
        next_row(low, high, at)
    return vertices[:found], stops[:found], labels[:used]
