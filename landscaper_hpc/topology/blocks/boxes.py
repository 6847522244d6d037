"""How a grid is cut into blocks, and which rank has which. Pure arithmetic; every rank computes the same."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology.kernels.compiled import jit

MAX_BLOCK = 2**30
"""Positions and labels within a block are 32-bit; labels of ghost vertices come on top."""


@dataclass(frozen=True)
class Boxes:
    """A grid of `shape` cut into blocks of at most `block` vertices per axis, numbered in C order, spread over `ranks`.

    Consecutive blocks go to the same rank; with more ranks than blocks some have none.
    """

    shape: tuple[int, ...]
    block: tuple[int, ...]
    ranks: int = 1

    def __post_init__(self) -> None:
        if len(self.block) != len(self.shape) or any(
            not 1 <= b <= k for b, k in zip(self.block, self.shape, strict=True)
        ):
            raise InputError(f"blocks of shape {self.block} do not fit a grid of shape {self.shape}")
        ghosted = math.prod(min(k, b + 2) for b, k in zip(self.block, self.shape, strict=True))
        if ghosted > MAX_BLOCK:
            raise InputError(f"blocks of shape {self.block} hold more than 2^30 vertices; make them smaller")

    @cached_property
    def counts(self) -> tuple[int, ...]:
        return tuple(-(-k // b) for k, b in zip(self.shape, self.block, strict=True))

    @property
    def size(self) -> int:
        return math.prod(self.counts)

    def owner(self, number: Any) -> Any:
        """The rank of a block, or of an array of them."""
        return number * self.ranks // self.size

    def of_rank(self, rank: int) -> range:
        """The blocks of a rank: those with `owner(number) == rank`."""
        return range(-(-rank * self.size // self.ranks), -(-(rank + 1) * self.size // self.ranks))

    def core(self, number: int) -> tuple[slice, ...]:
        """The box of a block."""
        index = np.unravel_index(number, self.counts)
        return tuple(
            slice(int(i) * b, min((int(i) + 1) * b, k)) for i, b, k in zip(index, self.block, self.shape, strict=True)
        )

    def ghosted(self, number: int) -> tuple[slice, ...]:
        """The box of a block with its ghost layer, as far as the grid goes."""
        return tuple(
            slice(max(0, s.start - 1), min(k, s.stop + 1)) for s, k in zip(self.core(number), self.shape, strict=True)
        )

    def most_vertices(self, rank: int) -> int:
        """How many vertices the largest block of a rank has, ghosts included."""
        return max((math.prod(s.stop - s.start for s in self.ghosted(b)) for b in self.of_rank(rank)), default=0)

    def block_of(self, vertices: NDArray[np.int64]) -> NDArray[np.int32]:
        """The block that each vertex (flat id) lies in."""
        result: NDArray[np.int32] = _block_numbers(vertices, *map(np.array, (self.shape, self.block, self.counts)))
        return result

    def neighbours(self, number: int) -> list[tuple[int, tuple[int, ...]]]:
        """The blocks around a block, each with its offset in the grid of blocks."""
        index = [int(i) for i in np.unravel_index(number, self.counts)]
        found = []
        for offset in itertools.product(*((-1, 0, 1) if count > 1 else (0,) for count in self.counts)):
            at = [i + o for i, o in zip(index, offset, strict=True)]
            if any(offset) and all(0 <= i < c for i, c in zip(at, self.counts, strict=True)):
                found.append((int(np.ravel_multi_index(at, self.counts)), offset))
        return found


def to_ids(positions: NDArray[Any], box: tuple[slice, ...], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Flat ids in the grid of flat positions in a box of it."""
    starts, sizes = np.array([(s.start, s.stop - s.start) for s in box]).T
    ids: NDArray[np.int64] = _ids(positions, starts, sizes, np.array(shape))
    return ids


@jit
def _ids(positions: Any, starts: Any, sizes: Any, shape: Any) -> Any:
    # compiled, as the next: there are up to as many exits as a face has vertices, and numpy would hold the coordinates
    # of all of them at once. Most follow another one of their row, which saves all divisions.
    ids = np.empty(positions.size, np.int64)
    first = last = shift = np.int64(0)
    width = sizes[shape.size - 1]
    for i in range(positions.size):
        position = np.int64(positions[i])
        if position < first or position >= last:
            first = position - position % width
            last = first + width
            rest = first
            stride = 1
            shift = -first
            for d in range(shape.size - 1, -1, -1):
                shift += (rest % sizes[d] + starts[d]) * stride
                rest //= sizes[d]
                stride *= shape[d]
        ids[i] = position + shift
    return ids


@jit
def _block_numbers(vertices: Any, shape: Any, block: Any, counts: Any) -> Any:
    numbers = np.empty(vertices.size, np.int32)
    first = last = np.int64(0)
    result = 0
    width, length = block[shape.size - 1], shape[shape.size - 1]
    for i in range(vertices.size):
        vertex = vertices[i]
        if vertex < first or vertex >= last:
            x = vertex % length
            first = vertex - x % width
            last = min(first + width, vertex - x + length)
            rest = vertex
            stride = 1
            result = 0
            for d in range(shape.size - 1, -1, -1):
                result += rest % shape[d] // block[d] * stride
                rest //= shape[d]
                stride *= counts[d]
        numbers[i] = result
    return numbers


BASE_BYTES = 210_000_000
"""What the process holds before and beside the blocks: interpreter, libraries, compiled code."""
EXIT_BYTES = 96
"""For a vertex on a face to which descents lead: its ids, counts and answers while its block is worked on."""
FRONT_BYTES = 24
"""For a vertex between the blocks done and those to come: who asks for it, its count and where its answer leads."""
KEPT_BYTES = 48
"""For an exit whose answer is kept for a second walk, which writes labels."""
MINIMUM_BYTES = 360
"""For a minimum of the whole grid: its part of the tree and of the forests that become the tree."""
CANDIDATE_BYTES = 800
"""For a minimum of a block: the candidate saddles around it, sorted …"""
CANDIDATES_BYTES = 130_000_000
"""… of which a thread holds no more than this at a time."""
LABEL_BYTES = 8
"""For a vertex of a block whose label is written: the label, and the copy that goes to the store."""


def planned_bytes(boxes: Boxes, itemsize: int, density: float = 0.0, keep: bool = False, held: int = 0) -> int:
    """Peak memory of a process for blocks of this size and `density` minima per vertex, which only the values can tell;
    with `keep` for two walks over the blocks; `held`: what reading takes beside the values.

    For each vertex of the largest block with its ghosts: its value, a 32-bit label, and half a value for what is
    read in pieces. Besides, the labels on the faces that blocks to come will ask for, all that waits between the blocks
    done and those to come, and exits all over the largest face.
    """
    core, whole = math.prod(boxes.block), math.prod(boxes.shape)
    ghosted = math.prod(min(k, b + 2) for b, k in zip(boxes.block, boxes.shape, strict=True))
    faces = [core // b for b, k in zip(boxes.block, boxes.shape, strict=True) if b < k]
    waiting = min(math.prod(boxes.counts[1:]) + 1, boxes.size)
    surface = 4 * sum(faces) * waiting + EXIT_BYTES * max(faces, default=0)
    cuts = [c for c in boxes.counts if c > 1]
    if len(cuts) > 1:  # with one axis cut, the front is the largest face
        surface += FRONT_BYTES * (whole // boxes.shape[0])
    if keep:
        surface += KEPT_BYTES * sum(2 * (c - 1) * (whole // k) for c, k in zip(boxes.counts, boxes.shape, strict=True))
    noise = int(density * MINIMUM_BYTES * whole) + min(int(density * CANDIDATE_BYTES * ghosted), 2 * CANDIDATES_BYTES)
    block = max(int(ghosted * (1.5 * itemsize + 4)), ghosted * 4 + core * LABEL_BYTES if keep else 0)
    return BASE_BYTES + held + block + surface + noise


def choose_boxes(
    shape: tuple[int, ...],
    itemsize: int,
    ranks: int = 1,
    max_memory: int | None = None,
    density: float = 0.0,
    keep: bool = False,
    held: int = 0,
) -> Boxes:
    """The cut with the least work for the busiest rank, ghost vertices included, that fits into `max_memory` bytes per
    process, see `planned_bytes`. As few axes are cut as will do, the first ones: rows stay long and contiguous."""
    least = 0
    best: tuple[tuple[int, int, int], Boxes] | None = None
    for axes in range(1, len(shape) + 1):
        if sum(k > 1 for k in shape[:axes]) > _MOST_CUT:
            break
        for block in _cuts(shape, axes):
            if math.prod(min(k, b + 2) for b, k in zip(block, shape, strict=True)) > MAX_BLOCK:
                continue
            boxes = Boxes(shape, block, ranks)
            needed = planned_bytes(boxes, itemsize, density, keep, held)
            least = min(least or needed, needed)
            if max_memory is not None and needed > max_memory:
                continue
            # the vertices that the busiest rank works on, ghosts included
            work = -(-boxes.size // ranks) * math.prod(min(k, b + 2) for b, k in zip(block, shape, strict=True))
            key = (work, -min(ranks, boxes.size), boxes.size)
            if best is None or key < best[0]:
                best = key, boxes
        if best is not None and best[1].size >= ranks and best[0][0] * ranks <= _ENOUGH * math.prod(shape):
            break
    if best is not None:
        return best[1]
    tree = int(density * MINIMUM_BYTES * math.prod(shape))
    raise InputError(
        f"max-memory is {max_memory} bytes; at least {max(least, BASE_BYTES + held)} are needed"
        + (f", {held} of them for chunks, which are decoded whole" if held else "")
        + (f", {tree} of them for the tree: about {density:.1%} of the vertices are minima" if density else "")
    )


_MOST_CUT = 10
"""Blocks of half a grid along so many axes are small enough for anything, and the ways to cut them few enough."""
_ENOUGH = 1.5  # so much work, of what it is without ghosts, and no more axes need to be cut


def _cuts(shape: tuple[int, ...], axes: int) -> Iterator[tuple[int, ...]]:
    """Blocks that cut the first `axes` axes into nearly equal parts, a few thousand at most; other axes stay whole."""
    sides = []
    for k in shape[:axes]:
        different = sorted({-(-k // c) for c in range(1, k + 1)} if k < 2**16 else {max(1, k >> i) for i in range(40)})
        few = max(2, int(4000 ** (1 / axes)))
        sides.append(
            different
            if len(different) <= few
            else [different[i * (len(different) - 1) // (few - 1)] for i in range(few)]
        )
    for front in itertools.product(*sides):
        yield (*front, *shape[axes:])
