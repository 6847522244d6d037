"""Compiled kernels on one block of a grid: steepest descent and path compression into basins.

A block is a C-ordered box of vertices: its core, and one layer of ghost vertices wherever the grid goes on. All kernels
walk over rows of the last axis, one neighbour direction at a time, so that the inner loops are contiguous and
vectorise, and there is no division or index arithmetic per vertex. Inner loops index with unsigned integers:
with signed ones every access also asks whether the index counts from the end, and nothing vectorises.
The kernels release the interpreter lock; callers give each thread its own rows.

The array `root` holds, per vertex of the block, first a pointer (the flat position of its lowest neighbour) and after
compression a label: labels are stored as their complement, so that a negative entry is a resolved one. `UNSEEN`
marks a ghost vertex on which no descent of the core ends.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiled import jit

UNSEEN = np.int32(-(2**31))
GROW = 1024


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
def descend(f: Any, root: Any, shape: Any, low: Any, high: Any, steps: Any, dist: Any, begin: int, end: int) -> Any:
    """Point every vertex of the core rows `begin` to `end` at the lowest of itself and its neighbours.

    `f`, `root`: flat values and result of the whole block of the given `shape`; the core is the box `low` to `high`.
    `steps` (m, n), `dist` (m,): the stencil, see `stencil.BlockStencil`; `dist` has the values' width, so that choosing
    a value and noting where it came from are the same vector operation. Returns the positions of minima.

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
            if found + here > minima.size:
                larger = np.empty(max(2 * minima.size, found + here), np.int32)
                larger[:found] = minima[:found]
                minima = larger
            for j in range(a0, b0):
                if code[j] == 0:
                    minima[found] = base + j
                    found += 1
        next_row(low, high, at)
    return minima[:found]


@jit
def collect_exits(root: Any, shape: Any, low: Any, high: Any, first_label: int) -> Any:
    """Label the ghost vertices to which core vertices descend, in the order of discovery; return their positions."""
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
        surface = False
        for d in range(n - 1):
            surface |= at[d] == low[d] or at[d] == high[d] - 1
        inner = 1 if surface else max(1, b0 - 1 - a0)
        for j in range(a0, b0, inner):
            target = root[base + j]
            if target >= 0 and root[target] == UNSEEN:
                root[target] = ~np.int32(first_label + found)
                if found == exits.size:
                    larger = np.empty(2 * found, np.int32)
                    larger[:found] = exits
                    exits = larger
                exits[found] = target
                found += 1
        next_row(low, high, at)
    return exits[:found]


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
