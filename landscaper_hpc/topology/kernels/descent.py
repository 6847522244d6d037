"""Compiled kernels of steepest descent: every vertex of a box points at the lowest of itself and its neighbours.

One neighbour direction at a time over rows of the last axis, so that the inner loops are contiguous and vectorise.
Inner loops index with unsigned integers: with signed ones every access also asks whether the index counts from the
end, and nothing vectorises. The kernels release the interpreter lock; callers give each thread its own rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from landscaper_hpc.topology.kernels.compiled import jit
from landscaper_hpc.topology.kernels.rows import (
    GROW,
    columns,
    first_row,
    next_row,
    room,
    row_neighbours,
    row_start,
    rows_at_once,
)


@jit
def _take_lower(f: Any, source: int, strict: bool, dist: Any, a: int, b: int, best: Any, code: Any) -> None:
    """Where the neighbours at `source` are lower than `best` (or equal, if not `strict`), note them and `dist`."""
    s = np.uint64(source)
    if strict:
        for j in range(np.uint64(a), np.uint64(b)):
            v = f[s + j]
            w = best[j]
            lower = v < w
            best[j] = v if lower else w
            code[j] = dist if lower else code[j]
    else:
        for j in range(np.uint64(a), np.uint64(b)):
            v = f[s + j]
            w = best[j]
            lower = v <= w
            best[j] = v if lower else w
            code[j] = dist if lower else code[j]


@jit
def _point(root: Any, base: int, a: int, b: int, code: Any) -> int:
    """Write the pointers that `code` gives; tell how many are minima."""
    start = np.uint64(base)
    here = 0
    for j in range(np.uint64(a), np.uint64(b)):
        root[start + j] = start + j + np.uint64(code[j])
        here += code[j] == 0
    return here


@jit
def _note_minima(code: Any, base: int, a: int, b: int, minima: Any, found: int, here: int, most: int) -> Any:
    """Append where `code` is zero, `here` times in all; return the array, which may have grown. Nothing is appended
    where that would be more than `most`."""
    if found + here > most:
        return minima
    minima = room(minima, found, here)
    for j in range(a, b):
        if code[j] == 0:
            minima[found] = base + j
            found += 1
    return minima


@jit
def descend(f: Any, root: Any, box: Any, stencil: Any, begin: int, end: int, most: int) -> Any:
    """Point every vertex of the core rows `begin` to `end` at the lowest of itself and its neighbours.

    `f`, `root`: flat values and result of the whole block, in which `box` is the core. The distances of the `stencil`,
    a `BlockStencil`, have the values' width, so that choosing a value and noting where it came from are the same vector
    operation. Returns the positions of minima, or none if there are more than `most`, and how many there are.

    Equal values are ordered by id: neighbours before the vertex are tried from near to far and win ties, those after it
    from near to far and lose them, so that of equal ones the first in id order is chosen.
    """
    shape, low, high = box
    steps, dist = stencil.steps, stencil.dist
    n = shape.size
    length = shape[n - 1]
    a0, b0 = low[n - 1], high[n - 1]
    best = np.empty(length, f.dtype)
    code = np.empty(length, dist.dtype)
    near = np.empty((dist.size, 3), np.int64)
    at = np.zeros(n, np.int64)
    first_row(begin, low, high, at)
    minima = np.empty(GROW, np.int32)
    found = 0
    for _ in range(begin, end):
        base = row_start(at, shape)
        start = np.uint64(base)
        for j in range(np.uint64(a0), np.uint64(b0)):
            best[j] = f[start + j]
            code[j] = 0
        m = row_neighbours(at, shape, a0, b0, steps, dist, near)
        before = 0
        while before < m and dist[near[before, 0]] < 0:
            before += 1
        for i in range(before - 1, -1, -1):
            step = dist[near[i, 0]]
            _take_lower(f, base + step, False, step, near[i, 1], near[i, 2], best, code)
        for i in range(before, m):
            step = dist[near[i, 0]]
            _take_lower(f, base + step, True, step, near[i, 1], near[i, 2], best, code)
        here = _point(root, base, a0, b0, code)
        if here:
            minima = _note_minima(code, base, a0, b0, minima, found, here, most)
            found += here
        next_row(low, high, at)
    return minima[: found if found <= most else 0], found


@jit
def _begin(f: Any, start: int, a: int, b: int, best: Any, code: Any) -> None:
    """The lowest of each vertex, the one before it and the one after it in memory."""
    s = np.uint64(start)
    before = np.uint64(start - 1)
    after = np.uint64(start + 1)
    none, down, up = code.dtype.type(0), code.dtype.type(-1), code.dtype.type(1)
    for j in range(np.uint64(a), np.uint64(b)):
        w = f[s + j]
        v = f[before + j]
        lower = v <= w
        w = v if lower else w
        c = down if lower else none
        v = f[after + j]
        lower = v < w
        best[j] = v if lower else w
        code[j] = up if lower else c


@jit
def _begin_end(f: Any, start: int, j: int, step: int, best: Any, code: Any) -> None:
    """The same for a vertex that has only one neighbour in its row, or none if `step` is 0."""
    w = f[start + j]
    v = f[start + j + step]
    lower = v < w or (step < 0 and v == w)
    best[j] = v if lower else w
    code[j] = step if lower else 0


@jit
def _take_both(f: Any, source: int, dist: Any, a: int, b: int, best: Any, code: Any) -> None:
    """`_take_lower` for the neighbours at the distance `dist` before `source`, then for those after it."""
    before = np.uint64(source - dist)
    after = np.uint64(source + dist)
    for j in range(np.uint64(a), np.uint64(b)):
        w = best[j]
        v = f[before + j]
        lower = v <= w
        w = v if lower else w
        c = -dist if lower else code[j]
        v = f[after + j]
        lower = v < w
        best[j] = v if lower else w
        code[j] = dist if lower else c


@jit
def descend_axes(f: Any, root: Any, box: Any, dist: Any, begin: int, end: int, most: int) -> Any:
    """`descend` for the axis connectivity: both neighbours along an axis at a time, and several rows at a time where
    they are contiguous. `dist` (n,): the distances of neighbours along each axis.

    Axes are taken from near to far; of equal values a neighbour before the vertex has a lower id than all taken so far,
    one after it a higher id than all.
    """
    shape, low, high = box
    n = shape.size
    length = shape[n - 1]
    a0, b0 = low[n - 1], high[n - 1]
    together = rows_at_once(shape, low, high)
    best = np.empty(together * length, f.dtype)
    code = np.empty(together * length, dist.dtype)
    span = np.empty(4, np.int64)
    at = np.zeros(n, np.int64)
    first_row(begin, low, high, at)
    minima = np.empty(GROW, np.int32)
    found = 0
    row = begin
    while row < end:
        rows = min(together, end - row)
        if n > 1:
            rows = min(rows, high[n - 2] - at[n - 2])
        base = row_start(at, shape)
        a, b = a0, b0 + (rows - 1) * length
        if length > 1:
            _begin(f, base, max(a, 1), min(b, rows * length - 1), best, code)
        for r in range(rows):
            if a0 == 0:
                _begin_end(f, base, r * length, 1 if length > 1 else 0, best, code)
            if b0 == length and length > 1:
                _begin_end(f, base, (r + 1) * length - 1, -1, best, code)
        for d in range(n - 2, -1, -1):
            columns(at, shape, d, rows, a, b, span)
            a1, b1, a2, b2 = span
            step = dist[d]
            p, q = max(a1, a2), min(b1, b2)
            if p < q:
                _take_both(f, base, step, p, q, best, code)
                _take_lower(f, base + step, True, step, a2, p, best, code)
                _take_lower(f, base - step, False, -step, q, b1, best, code)
            else:
                _take_lower(f, base - step, False, -step, a1, b1, best, code)
                _take_lower(f, base + step, True, step, a2, b2, best, code)
        here = _point(root, base, a, b, code)
        if here:
            minima = _note_minima(code, base, a, b, minima, found, here, most)
            found += here
        row += rows
        if n > 1:
            at[n - 2] += rows - 1
        next_row(low, high, at)
    return minima[: found if found <= most else 0], found
