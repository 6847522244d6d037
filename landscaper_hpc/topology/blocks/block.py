"""A block: a box of vertices with one layer of ghost vertices wherever the grid goes on.

`basins` finds where its vertices descend to, `block_forest` where these basins meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.grid import Connectivity
from landscaper_hpc.topology.kernels.order import Census, census, key_values, keys_at, ordered_keys
from landscaper_hpc.topology.kernels.rows import Box, joined, row_count
from landscaper_hpc.topology.kernels.stencil import BlockStencil, block_stencil
from landscaper_hpc.topology.kernels.threads import Threads

SMALL = 1 << 15


@dataclass(frozen=True)
class Block:
    """A block to be minimised; vertices are flat positions in it. Axes of one vertex are left out.

    values      (v,) in C order with the ghost layer, float32 or float64; where there are NaN, `ordered_keys` of them
    box         its shape, and the core's lower and upper bounds
    stencil     the neighbours of a vertex
    axes        (n,) how far apart neighbours along each axis are
    parts       into how many parts threads divide its rows
    census      of the core
    """

    values: NDArray[Any]
    box: Box
    connectivity: Connectivity
    stencil: BlockStencil
    axes: NDArray[np.int32]
    parts: int
    census: Census


def block_of(
    values: NDArray[Any], low: tuple[int, ...], high: tuple[int, ...], connectivity: Connectivity, threads: Threads
) -> Block:
    """The block of an array (C order, float32 or float64) with its ghost layer; its core is the box `low` to `high`."""
    keep = [d for d, k in enumerate(values.shape) if k > 1] or [0]
    shape = tuple(values.shape[d] for d in keep)
    box = Box(np.array(shape, np.int64), np.array([low[d] for d in keep]), np.array([high[d] for d in keep]))
    parts = 1 if values.size < SMALL else min(row_count(box), 4 * threads.count)
    flat = values.reshape(-1)

    def count(where: Box) -> Census:
        where = joined(*where, parts)
        rows = row_count(where)
        return sum(threads.map(lambda a, b: census(flat, where, a, b), rows, min(rows, parts)), Census())

    found = count(box)
    keys = found.nan or any(count(slab).nan for slab in ghost_slabs(box))
    return Block(
        ordered_keys(flat) if keys else flat,
        box,
        connectivity,
        block_stencil(connectivity, shape, np.dtype(f"i{values.itemsize}")),
        np.cumprod([1, *shape[:0:-1]])[::-1].astype(np.int32),
        parts,
        found,
    )


def values_at(block: Block, positions: NDArray[Any]) -> NDArray[np.float64]:
    """The field at flat positions, as float64, -0.0 as 0.0."""
    found = block.values[positions]
    floats = key_values(found) if found.dtype.kind == "i" else found
    return floats.astype(np.float64) + 0.0


def order_at(block: Block, positions: NDArray[Any]) -> NDArray[np.int64]:
    """The `ordered_keys` of the field at flat positions, as int64."""
    f = block.values
    keys: NDArray[np.int64] = keys_at(f.view(f"i{f.itemsize}"), positions, f.dtype.kind == "f")
    return keys


def limits(block: Block) -> NDArray[Any]:
    """Two numbers between which all values lie."""
    kind = block.values.dtype
    ends = (-np.inf, np.inf) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    return np.array(ends, kind)


def ghost_slabs(box: Box) -> list[Box]:
    """The ghost vertices: one box for each side on which the grid goes on, none of which overlap."""
    shape, first, last = box
    slabs = []
    low, high = np.zeros_like(shape), shape.copy()
    for d, k in enumerate(shape):
        for a, b in ((0, first[d]), (last[d], k)):
            if a < b:
                slabs.append(Box(shape, low.copy(), high.copy()))
                slabs[-1].low[d], slabs[-1].high[d] = a, b
        low[d], high[d] = first[d], last[d]
    return slabs


def core_faces(box: Box) -> list[Box]:
    """The layers of the core beside ghost vertices."""
    shape, low, high = box
    faces = []
    for d, k in enumerate(shape):
        for side, on in ((low[d], low[d] > 0), (high[d] - 1, high[d] < k)):
            if on:
                faces.append(Box(shape, low.copy(), high.copy()))
                faces[-1].low[d], faces[-1].high[d] = side, side + 1
    return faces
