"""Compiled kernels on one block of a grid: steepest descent and path compression into basins.

A block is a C-ordered box of vertices: its core, and one layer of ghost vertices wherever the grid goes on. All kernels
walk over rows of the last axis, one neighbour direction at a time, so that the inner loops are contiguous and
vectorise, and there is no division or index arithmetic per vertex. Inner loops index with unsigned integers:
with signed ones every access also asks whether the index counts from the end, and nothing vectorises.
The kernels release the interpreter lock; callers give each thread its own rows.

The array `root` holds, per vertex of the block, first a pointer (the flat position of its lowest neighbour) and after
compression a label: labels are stored as their complement, so that a negative entry is a resolved one. `UNSEEN`
marks a ghost vertex on which no descent of the core ends, `WANTED` one that is to be labelled.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiled import jit

UNSEEN = np.int32(-(2**31))
WANTED = np.int32(-(2**31) + 1)
GROW = 1024
CHUNK = 512
"""About how many vertices of contiguous rows are worked on together: what is noted of them stays in the cache."""


@jit
def first_row(row: int, low: Any, high: Any, at: Any) -> None:
    """Write the position of core row number `row` (C order over all axes but the last) to `at`."""
    for d in range(low.size - 2, -1, -1):
        width = high[d] - low[d]
        at[d] = low[d] + row % width
        row //= width


@jit
def next_row(low: Any, high: Any, at: Any) -> None:
    for d in range(low.size - 2, -1, -1):
        at[d] += 1
        if at[d] < high[d]:
            return
        at[d] = low[d]


@jit
def row_start(at: Any, shape: Any) -> int:
    position = 0
    for d in range(shape.size - 1):
        position = (position + at[d]) * shape[d + 1]
    return position


@jit
def rows_at_once(shape: Any, low: Any, high: Any) -> int:
    """How many rows of the box are contiguous and small enough to be worked on together; at least one."""
    n = shape.size
    length = shape[n - 1]
    return max(1, CHUNK // length) if n > 1 and high[n - 1] - low[n - 1] == length else 1


@jit
def columns(at: Any, shape: Any, d: int, rows: int, a: int, b: int, span: Any) -> None:
    """Which of the columns `a` to `b` of some `rows` from the one at `at` have a neighbour before them on axis `d`:
    span[0] to span[1], and after them: span[2] to span[3]. Of the last axis: in memory, if not in the row."""
    n = shape.size
    span[:] = (a, b, a, b)
    if d == n - 1:
        span[0] = max(a, 1)
        span[3] = min(b, rows * shape[d] - 1)
    elif d == n - 2:
        span[0] += shape[n - 1] if at[d] == 0 else 0
        span[3] -= shape[n - 1] if at[d] + rows == shape[d] else 0
    else:
        span[0] = a if at[d] > 0 else b
        span[3] = b if at[d] + 1 < shape[d] else a


@jit
def row_neighbours(at: Any, shape: Any, a0: int, b0: int, steps: Any, dist: Any, near: Any) -> int:
    """Which stencil entries exist for the row `at`: fill `near` (m, 3) with the entry and the range of columns, of
    a0 ... b0, that have such a neighbour; return how many. In id order, without the vertex itself."""
    n = shape.size
    found = 0
    for k in range(steps.shape[0]):
        inside = dist[k] != 0
        for d in range(n - 1):
            x = at[d] + steps[k, d]
            inside &= (x >= 0) & (x < shape[d])
        s = steps[k, n - 1]
        a = max(a0, -s)
        b = min(b0, shape[n - 1] - s)
        if inside and a < b:
            near[found, 0] = k
            near[found, 1] = a
            near[found, 2] = b
            found += 1
    return found


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
def _note_minima(code: Any, base: int, a: int, b: int, minima: Any, found: int, here: int, most: int) -> Any:
    """Append where `code` is zero, `here` times in all; return the array, which may have grown. Nothing is appended
    where that would be more than `most`."""
    if found + here > most:
        return minima
    if found + here > minima.size:
        larger = np.empty(max(2 * minima.size, found + here), np.int32)
        larger[:found] = minima[:found]
        minima = larger
    for j in range(a, b):
        if code[j] == 0:
            minima[found] = base + j
            found += 1
    return minima


@jit
def descend(
    f: Any, root: Any, shape: Any, low: Any, high: Any, steps: Any, dist: Any, begin: int, end: int, most: int
) -> Any:
    """Point every vertex of the core rows `begin` to `end` at the lowest of itself and its neighbours.

    `f`, `root`: flat values and result of the whole block of the given `shape`; the core is the box `low` to `high`.
    `steps` (m, n), `dist` (m,): the stencil, see `stencil.BlockStencil`; `dist` has the values' width, so that choosing
    a value and noting where it came from are the same vector operation. Returns the positions of minima, or none if
    there are more than `most`, and how many there are.

    Equal values are ordered by id: neighbours before the vertex are tried from near to far and win ties, those after it
    from near to far and lose them, so that of equal ones the first in id order is chosen.
    """
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
        here = 0
        for j in range(np.uint64(a0), np.uint64(b0)):
            root[start + j] = start + j + np.uint64(code[j])
            here += code[j] == 0
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
def descend_axes(f: Any, root: Any, shape: Any, low: Any, high: Any, dist: Any, begin: int, end: int, most: int) -> Any:
    """`descend` for the axis connectivity: both neighbours along an axis at a time, and several rows at a time where
    they are contiguous. `dist` (n,): the distances of neighbours along each axis.

    Axes are taken from near to far; of equal values a neighbour before the vertex has a lower id than all taken so far,
    one after it a higher id than all.
    """
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
        here = 0
        start = np.uint64(base)
        for j in range(np.uint64(a), np.uint64(b)):
            root[start + j] = start + j + np.uint64(code[j])
            here += code[j] == 0
        if here:
            minima = _note_minima(code, base, a, b, minima, found, here, most)
            found += here
        row += rows
        if n > 1:
            at[n - 2] += rows - 1
        next_row(low, high, at)
    return minima[: found if found <= most else 0], found


@jit
def mark_exits(root: Any, shape: Any, low: Any, high: Any) -> None:
    """Mark the ghost vertices to which core vertices descend as `WANTED`."""
    n = shape.size
    rows = 1
    for d in range(n - 1):
        rows *= high[d] - low[d]
    a0, b0 = low[n - 1], high[n - 1]
    at = np.zeros(n, np.int64)
    first_row(0, low, high, at)
    open_ends = a0 > 0 or b0 < shape[n - 1]
    for _ in range(rows):
        base = row_start(at, shape)
        inner = max(1, b0 - 1 - a0) if open_ends else b0 - a0
        for d in range(n - 1):
            if (at[d] == low[d] and low[d] > 0) or (at[d] == high[d] - 1 and high[d] < shape[d]):
                inner = 1
        for j in range(a0 if open_ends or inner == 1 else b0, b0, inner):
            target = root[base + j]
            if target >= 0 and root[target] == UNSEEN:
                root[target] = WANTED
        next_row(low, high, at)


@jit
def collect_exits(root: Any, shape: Any, low: Any, high: Any, first_label: int) -> Any:
    """Label what is `WANTED` in the box `low` to `high`, in the order of positions, which are returned."""
    n = shape.size
    rows = 1
    for d in range(n - 1):
        rows *= high[d] - low[d]
    a0, b0 = low[n - 1], high[n - 1]
    at = np.zeros(n, np.int64)
    first_row(0, low, high, at)
    exits = np.empty(GROW, np.int32)
    found = 0
    for _ in range(rows):
        base = row_start(at, shape)
        if found + b0 - a0 > exits.size:
            larger = np.empty(2 * exits.size + b0 - a0, np.int32)
            larger[:found] = exits[:found]
            exits = larger
        for j in range(base + a0, base + b0):
            if root[j] == WANTED:
                root[j] = ~np.int32(first_label + found)
                exits[found] = j
                found += 1
        next_row(low, high, at)
    return exits[:found].copy()


@jit
def compress(root: Any, shape: Any, low: Any, high: Any, begin: int, end: int, n_labels: int) -> Any:
    """Replace the pointers of the core rows `begin` to `end` by labels; return the number of vertices per label.

    Minima and exits are labelled already. Threads may follow and rewrite each other's paths: whatever they read is a
    pointer further down the same path.
    """
    n = shape.size
    a0, b0 = low[n - 1], high[n - 1]
    at = np.zeros(n, np.int64)
    first_row(begin, low, high, at)
    counts = np.zeros(n_labels, np.int32)
    last = np.int32(-1)
    run = 0
    for _ in range(begin, end):
        start = np.uint64(row_start(at, shape))
        for i in range(start + np.uint64(a0), start + np.uint64(b0)):
            r = root[i]
            if r >= 0:
                top = np.uint64(r)
                r = root[top]
                if r >= 0:
                    while r >= 0:
                        r = root[np.uint64(r)]
                    while True:
                        below = root[top]
                        if below < 0:
                            break
                        root[top] = r
                        top = np.uint64(below)
                root[i] = r
            if r == last:
                run += 1
            else:
                counts[~last] += run
                last = r
                run = 1
        next_row(low, high, at)
    if run:
        counts[~last] += run
    return counts


@jit
def exit_labels(root: Any, exits: Any, n_minima: int, n_lowest: int) -> Any:
    """For each label (minima, exits, lowest ghost vertices) where it leads within the block: a minimum's number, or
    `n_minima` + that of a lowest ghost vertex. Labels of the exits are those that the block gives to their vertices."""
    n = n_minima + exits.size
    table = np.empty(n + n_lowest, np.int32)
    for i in range(n_minima):
        table[i] = i
    for i in range(exits.size):
        table[n_minima + i] = ~root[exits[i]]
    for i in range(n_lowest):
        table[n + i] = n + i
    for i in range(n_minima, n):
        end = table[i]
        while table[end] != end:
            end = table[end]
        at = np.int64(i)
        while table[at] != end:
            table[at], at = end, np.int64(table[at])
    for i in range(n_minima, n + n_lowest):
        if table[i] >= n:
            table[i] -= exits.size
    return table


@jit
def relabel(root: Any, table: Any, begin: int, end: int) -> None:
    for i in range(np.uint64(begin), np.uint64(end)):
        root[i] = ~table[np.uint64(~root[i])]
