"""How compiled kernels walk over a box of a block: row by row of the last axis, several rows at a time where they are
contiguous, without division or index arithmetic per vertex. A neighbour direction exists for a range of columns."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.kernels.compiled import jit

GROW = 1024
"""How many results a kernel has room for at first."""
CHUNK = 512
"""About how many vertices of contiguous rows are worked on together: what is noted of them stays in the cache."""


class Box(NamedTuple):
    """The shape of an array, and the lower and upper bounds of a box in it."""

    shape: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]


def joined(shape: Any, low: Any, high: Any, rows: int = 1) -> Box:
    """The box `low` to `high` with trailing whole axes joined: the same vertices in fewer and longer rows, at least
    `rows` of them if there are as many. For kernels that look at no neighbours."""
    shape, low, high = list(shape), list(low), list(high)
    while len(shape) > 1 and high[-1] - low[-1] == shape[-1]:
        if math.prod(b - a for a, b in zip(low[:-2], high[:-2], strict=True)) < rows:
            break
        k = shape.pop()
        low[-2:], high[-2:] = [low[-2] * k], [high[-2] * k]
        shape[-1] *= k
    return Box(np.array(shape, np.int64), np.array(low, np.int64), np.array(high, np.int64))


def row_count(box: Box) -> int:
    return int(np.prod((box.high - box.low)[:-1]))


@jit
def room(array: Any, used: int, more: int) -> Any:
    """The array, or a larger one that begins with the `used` of its entries, with room for so many `more`."""
    if used + more <= array.size:
        return array
    larger = np.empty(2 * array.size + more, array.dtype)
    for i in range(used):  # for an assignment of slices numba compiles two seconds longer
        larger[i] = array[i]
    return larger


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
    span[0] = span[2] = a
    span[1] = span[3] = b
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
