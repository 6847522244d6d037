"""Blocks for the kernels' tests: odd sizes, unequal axes, ghost layers on some sides; random values, ties, NaN and
infinities. Their twins are plain Python over flat positions."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from landscaper_hpc.topology.kernels.order import ordered_keys
from landscaper_hpc.topology.kernels.rows import Box
from landscaper_hpc.topology.kernels.stencil import BlockStencil, block_stencil
from tests.oracles import grid_neighbours

BOXES = [
    ((11,), (0,), (11,)),
    ((7, 5), (0, 0), (7, 5)),
    ((9, 6), (1, 0), (8, 6)),
    ((5, 3, 8), (0, 0, 0), (5, 3, 8)),
    ((5, 4, 7), (1, 1, 0), (5, 3, 6)),
    ((3, 4, 3, 5), (0, 1, 0, 1), (3, 4, 2, 4)),
    ((3, 3, 2, 3, 4), (0,) * 5, (3, 3, 2, 3, 4)),
]
FIELDS = ["random", "ties", "flat", "infinite", "nan"]


_neighbours = functools.cache(grid_neighbours)


@dataclass(frozen=True)
class Case:
    """A block: flat values `f` that sort as the field does, and its box as the kernels want it."""

    sizes: tuple[int, ...]
    f: NDArray[Any]
    shape: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    axes: NDArray[np.int32]

    @property
    def box(self) -> Box:
        return Box(self.shape, self.low, self.high)

    @property
    def rows(self) -> int:
        return int(np.prod((self.high - self.low)[:-1]))

    @property
    def band(self) -> NDArray[Any]:
        limits = (
            (-np.inf, np.inf) if self.f.dtype.kind == "f" else (np.iinfo(self.f.dtype).min, np.iinfo(self.f.dtype).max)
        )
        return np.array(limits, self.f.dtype)

    def core(self) -> list[int]:
        """Flat positions of the core, in order."""
        inside = np.zeros(self.sizes, bool)
        inside[tuple(slice(a, b) for a, b in zip(self.low, self.high, strict=True))] = True
        return np.flatnonzero(inside).tolist()

    def around(self, connectivity: str) -> list[list[int]]:
        return _neighbours(self.sizes, connectivity)

    def order(self, v: int) -> tuple[Any, int]:
        return self.f[v], v

    def stencil(self, connectivity: Any) -> BlockStencil:
        return block_stencil(connectivity, self.sizes, np.dtype(f"i{self.f.dtype.itemsize}"))

    def lower(self, u: int, connectivity: str) -> list[int]:
        """The neighbours below u."""
        return [v for v in self.around(connectivity)[u] if self.order(v) < self.order(u)]

    def labels(self, connectivity: str) -> NDArray[np.int32]:
        """Every vertex's basin of the whole block, numbered from 0 in the order of the minima."""
        around = self.around(connectivity)
        down = [min([v, *around[v]], key=self.order) for v in range(self.f.size)]
        for _ in range(self.f.size):
            down = [down[v] for v in down]
        minima = sorted(set(down), key=self.order)
        return np.array([minima.index(v) for v in down], np.int32)


def case(box: int, field: str, dtype: str) -> Case:
    sizes, low, high = BOXES[box]
    rng = np.random.default_rng(box)
    values = {
        "random": lambda: rng.random(sizes),
        "ties": lambda: rng.integers(0, 3, sizes),
        "flat": lambda: np.zeros(sizes),
        "infinite": lambda: rng.choice([0.0, -0.0, 1.0, np.inf, -np.inf], sizes),
        "nan": lambda: rng.choice([0.0, 1.0, np.inf, np.nan], sizes),
    }[field]()
    flat = values.astype(dtype).reshape(-1)
    axes = np.cumprod([1, *sizes[:0:-1]])[::-1].astype(np.int32)
    ends = [np.array(x, np.int64) for x in (sizes, low, high)]
    return Case(sizes, ordered_keys(flat) if field == "nan" else flat, *ends, axes)  # type: ignore[arg-type]


cases = pytest.mark.parametrize(
    "block",
    [case(b, f, t) for b in range(len(BOXES)) for f, t in zip(FIELDS, ("f8", "f4", "f8", "f4", "f8"), strict=True)],
    ids=[f"{'x'.join(map(str, BOXES[b][0]))}-{f}" for b in range(len(BOXES)) for f in FIELDS],
)
connectivities = pytest.mark.parametrize("connectivity", ["axis", "freudenthal", "full"])
