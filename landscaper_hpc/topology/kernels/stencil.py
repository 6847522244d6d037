"""The neighbours of a vertex, as the kernels want them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.grid import Connectivity, stencil


def check_connectivity(connectivity: str, shape: tuple[int, ...] = ()) -> None:
    """Raise InputError unless it is one of those of a grid, and gives a grid of this shape no more neighbours than can
    be worked with."""
    stencil(connectivity, max(1, sum(k > 1 for k in shape)))


class BlockStencil(NamedTuple):
    """A stencil for blocks of one shape, its m entries in id order.

    `steps` (m, n): the offsets; `dist` (m,): the same as distances in the flat block;
    `adjacent` (m, words): which entries are adjacent to which, as bits in words of 64.
    """

    steps: NDArray[np.int64]
    dist: NDArray[Any]
    adjacent: NDArray[np.uint64]


@lru_cache(maxsize=16)
def _offsets(connectivity: Connectivity, ndim: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    offsets = stencil(connectivity, ndim)
    m = len(offsets)
    adjacent = np.zeros((m, -(-m // 64)), np.uint64)
    if connectivity == "axis":  # no two neighbours along axes are adjacent
        return offsets, adjacent
    # a sum of two offsets has digits -2 ... 2, so sums of these codes are codes of sums
    code = offsets @ 5 ** np.arange(ndim)
    middle = (5**ndim - 1) // 2
    number = np.full(5**ndim, -1, np.int16)
    number[middle + code] = np.arange(m)
    for k in range(m):
        other = number[middle + code + code[k]].astype(np.int64)
        other = other[other >= 0]
        np.bitwise_or.at(adjacent[k], other >> 6, np.uint64(1) << (other & 63).astype(np.uint64))
    return offsets, adjacent


def block_stencil(connectivity: Connectivity, shape: tuple[int, ...], width: Any = np.int64) -> BlockStencil:
    """The stencil for C-ordered blocks of `shape`, whose flat distances are integers of type `width`."""
    offsets, adjacent = _offsets(connectivity, len(shape))
    strides = np.cumprod(np.array([1, *shape[:0:-1]], np.int64))[::-1]
    return BlockStencil(offsets, (offsets @ strides).astype(width), adjacent)
