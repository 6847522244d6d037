"""The neighbours of a vertex, as the kernels want them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import CONNECTIVITIES, Connectivity, stencil


def check_connectivity(connectivity: str) -> None:
    """Raise InputError unless it is one of those of a grid."""
    if connectivity not in CONNECTIVITIES:
        raise InputError(f"connectivity is {connectivity!r}; choose one of {', '.join(CONNECTIVITIES)}")


@dataclass(frozen=True)
class BlockStencil:
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
    number = {tuple(o): k for k, o in enumerate(offsets.tolist())}
    adjacent = np.zeros((len(offsets), -(-len(offsets) // 64)), np.uint64)
    if connectivity != "axis":  # no two neighbours along axes are adjacent
        for k, o in enumerate(offsets):
            for p in (offsets + o).tolist():
                other = number.get(tuple(p))
                if other is not None:
                    adjacent[k, other >> 6] |= np.uint64(1 << (other & 63))
    return offsets, adjacent


def block_stencil(connectivity: Connectivity, shape: tuple[int, ...], width: Any = np.int64) -> BlockStencil:
    """The stencil for C-ordered blocks of `shape`, whose flat distances are integers of type `width`."""
    offsets, adjacent = _offsets(connectivity, len(shape))
    strides = np.cumprod(np.array([1, *shape[:0:-1]], np.int64))[::-1]
    return BlockStencil(offsets, (offsets @ strides).astype(width), adjacent)
