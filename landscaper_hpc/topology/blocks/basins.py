"""Where the vertices of one block descend to.

Basins and steepest descent on a grid as in Maack et al., *Parallel Computation of Piecewise Linear Morse-Smale
Segmentations* (2023): pointers to the lowest neighbour, then path compression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.blocks.block import Block, core_faces, ghost_slabs, order_at
from landscaper_hpc.topology.kernels import basins, descent
from landscaper_hpc.topology.kernels.forest import radix_argsort
from landscaper_hpc.topology.kernels.rows import Box, joined, row_count
from landscaper_hpc.topology.kernels.threads import Threads

MOST_MINIMA = 2**31 - 1


class TooManyMinima(Exception):
    """The block has more minima than it may have; the argument is how many."""


@dataclass(frozen=True)
class Basins:
    """The basins of a block's core.

    minima      (m,) positions in the order of (value, position); their labels are 0 ... m - 1
    exits       (e,) ghost vertices on which descents of the core end, layer by layer; labels m ... m + e - 1
    sizes       (m + e,) core vertices per label
    root        (v,) per vertex the complement of its label (core and exits); `block_forest` uses it up
    touched     which pieces of `root` have a label that is not that of a minimum
    """

    minima: NDArray[np.int32]
    exits: NDArray[np.int32]
    sizes: NDArray[np.int32]
    root: NDArray[np.int32]
    touched: NDArray[np.uint8]


def find_basins(
    block: Block, threads: Threads, most_minima: int = MOST_MINIMA, room: NDArray[np.int32] | None = None
) -> Basins:
    """The basins of a block; TooManyMinima if there are more than `most_minima`. `room`: at least as many numbers as
    the block has vertices, to be used for `root`."""
    size = block.values.size
    root = np.empty(size, np.int32) if room is None else room[:size]
    shape, slabs = block.box.shape, ghost_slabs(block.box)
    for _, start, stop in slabs:
        root.reshape(shape)[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = basins.UNSEEN
    touched = np.zeros((size >> basins.PIECE) + 1, np.uint8)
    minima = _descend(block, root, block.box, threads, most_minima)
    minima = minima[radix_argsort(order_at(block, minima))]
    m = n = len(minima)
    root[minima] = ~np.arange(m, dtype=np.int32)
    found = [np.empty(0, np.int32)]
    for face in core_faces(block.box):
        basins.mark_exits(root, joined(*face))
    for slab in slabs:
        found.append(basins.collect_exits(root, joined(*slab), n))
        n += len(found[-1])
    # every part counts for itself, and there may be nearly as many labels as vertices
    parts = min(block.parts, max(1, size // (8 * n)))
    box = joined(*block.box, parts)
    rows = row_count(box)
    counted = threads.map(lambda a, b: basins.compress(root, box, a, b, m, n, touched), rows, min(rows, parts))
    sizes: NDArray[np.int32] = counted[0] if len(counted) == 1 else np.sum(counted, axis=0, dtype=np.int32)
    return Basins(minima, np.concatenate(found), sizes, root, touched)


def join_ghosts(block: Block, found: Basins, threads: Threads) -> NDArray[np.int32]:
    """Follow the descents that leave the core through the ghost layer, as far as the block shows it, and label all
    vertices by where they end: at a minimum, or at a ghost vertex that is lowest among its neighbours here.
    Returns the positions of these; their labels follow those of the minima. Changes `root` and `touched`.

    A vertex and where it ends here are connected below it, which is all that a candidate saddle needs. So a block whose
    exits are many joins hardly more labels than it has minima.
    """
    root, slabs = found.root, ghost_slabs(block.box)
    if not slabs:
        return np.empty(0, np.int32)
    m, n = len(found.minima), len(found.minima) + len(found.exits)
    ends = np.sort(np.concatenate([_descend(block, root, slab, threads) for slab in slabs]))
    root[ends] = ~np.arange(n, n + len(ends), dtype=np.int32)
    for slab in (joined(*s) for s in slabs):
        basins.compress(root, slab, 0, row_count(slab), m, n + len(ends), found.touched)
    relabel(block, root, basins.exit_labels(root, found.exits, m, len(ends)), found.touched, threads)
    return ends


def relabel(
    block: Block, root: NDArray[np.int32], table: NDArray[np.int32], pieces: NDArray[np.uint8], threads: Threads
) -> None:
    """Replace the labels in some pieces of `root` by their entries in `table`."""
    threads.map(lambda a, b: basins.relabel(root, table, pieces, a, b), pieces.size, block.parts)


def named_core(root: NDArray[np.int32], box: Box, names: NDArray[Any]) -> NDArray[Any]:
    """The core, each vertex with the entry of `names` for its label. Uses up `root`."""
    shape, low, high = box
    core = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    labels = np.invert(root, out=root).reshape(shape)[core]
    named = np.empty(labels.shape, names.dtype)
    for i in range(len(labels)):  # with "raise" it would make another copy
        np.take(names, labels[i : i + 1], out=named[i : i + 1], mode="clip")
    return named


def _descend(
    block: Block, root: NDArray[np.int32], box: Box, threads: Threads, most: int = MOST_MINIMA
) -> NDArray[np.int32]:
    """Pointers for all vertices of a box within the block; the positions of those that are lowest."""
    f, rows = block.values, row_count(box)

    def part(a: int, b: int) -> tuple[NDArray[np.int32], int]:
        if block.connectivity == "axis":
            found = descent.descend_axes(f, root, box, block.axes, a, b, most)
        else:
            found = descent.descend(f, root, box, block.stencil, a, b, most)
        return found  # type: ignore[no-any-return]

    found = threads.map(part, rows, min(rows, block.parts))
    total = sum(count for _, count in found)
    if total > most:
        raise TooManyMinima(total)
    return np.concatenate([minima for minima, _ in found])
