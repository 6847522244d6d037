"""The total order of vertices: by value, then by flat id; -inf first, +inf and then NaN last.

Floating-point numbers become integers of the same width that sort in this order, NaN being the largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.kernels.compiled import jit
from landscaper_hpc.topology.kernels.rows import Box, first_row, joined, next_row, row_start


def ordered_keys(values: NDArray[Any]) -> NDArray[Any]:
    """Integers (int32 for float32, int64 for float64) that sort like `values`; equal values, -0.0 and 0.0 among them,
    have equal keys, and every NaN has the largest key."""
    integer: type[np.int32] | type[np.int64] = np.int32 if values.dtype.itemsize == 4 else np.int64
    keys: NDArray[Any] = (values + 0.0).view(integer)
    keys = keys ^ ((keys >> (8 * keys.itemsize - 1)) & np.iinfo(integer).max)
    keys[np.isnan(values)] = np.iinfo(integer).max
    return keys


def key_values(keys: NDArray[Any]) -> NDArray[Any]:
    """The floating-point numbers that `ordered_keys` came from (the sign of zero and the kind of NaN aside)."""
    bits = keys ^ ((keys >> (8 * keys.itemsize - 1)) & np.iinfo(keys.dtype).max)
    values: NDArray[Any] = bits.view(np.float32 if keys.itemsize == 4 else np.float64)
    return values


@jit
def keys_at(bits: Any, positions: Any, floats: bool) -> Any:
    """The int64 keys of single vertices, from an array's bits (integers of its width) if it holds `floats`, or from its
    keys."""
    keys = np.empty(positions.size, np.int64)
    most = np.int64(2 ** (8 * bits.itemsize - 1) - 1)
    for i in range(positions.size):
        k = np.int64(bits[positions[i]])
        if floats:
            k = np.int64(0) if k == -most - 1 else k ^ ((k >> 63) & most)
        keys[i] = k
    return keys


_LANES = 64


@jit
def _extremes(values: Any, start: int, stop: int, low: Any, high: Any, odd: Any) -> None:
    """Note the smallest and the largest value in each of the lanes; `odd` becomes NaN where one is not finite."""
    s = np.uint64(start)
    while s < np.uint64(stop):
        for j in range(min(np.uint64(_LANES), np.uint64(stop) - s)):
            v = values[s + j]
            low[j] = v if v < low[j] else low[j]
            high[j] = v if v > high[j] else high[j]
            odd[j] += v - v
        s += np.uint64(_LANES)


@jit
def scan(values: Any, box: Any, begin: int, end: int) -> Any:
    """Smallest and largest finite value (inf, -inf if there is none) and the numbers of NaN, +inf and -inf; of the rows
    `begin` to `end` of a box.

    The first pass is branch-free; only where it sees something that is not finite does a second one look closer.
    """
    shape, low, high = box
    at = np.zeros(shape.size, np.int64)
    least = np.full(_LANES, np.inf, values.dtype)
    most = np.full(_LANES, -np.inf, values.dtype)
    odd = np.zeros(_LANES, values.dtype)
    first_row(begin, low, high, at)
    for _ in range(begin, end):
        start = row_start(at, shape)
        _extremes(values, start + low[-1], start + high[-1], least, most, odd)
        next_row(low, high, at)
    nan = 0
    above = 0
    below = 0
    if odd.sum() != 0.0:
        least[:] = np.inf
        most[:] = -np.inf
        first_row(begin, low, high, at)
        for _ in range(begin, end):
            start = row_start(at, shape)
            for v in values[start + low[-1] : start + high[-1]]:
                if v - v == 0.0:
                    least[0] = min(least[0], v)
                    most[0] = max(most[0], v)
                elif v != v:
                    nan += 1
                elif v > 0:
                    above += 1
                else:
                    below += 1
            next_row(low, high, at)
    lowest, highest = least[0], most[0]
    for j in range(1, _LANES):
        lowest = min(lowest, least[j])
        highest = max(highest, most[j])
    return lowest, highest, nan, above, below


@dataclass(frozen=True)
class Census:
    """What the values of a grid, or of a part of it, are: range over finite values and counts of the others."""

    low: float = np.inf
    high: float = -np.inf
    nan: int = 0
    posinf: int = 0
    neginf: int = 0

    def __add__(self, other: Census) -> Census:
        return Census(
            min(self.low, other.low),
            max(self.high, other.high),
            self.nan + other.nan,
            self.posinf + other.posinf,
            self.neginf + other.neginf,
        )


def census(values: NDArray[Any], box: Box | None = None, begin: int = 0, end: int = 1) -> Census:
    """The census of a flat array, or of the rows `begin` to `end` of a box in it."""
    low, high, nan, above, below = scan(values, box or joined(values.shape, (0,), values.shape), begin, end)
    return Census(float(low) + 0.0, float(high) + 0.0, nan, above, below)
