"""The merge tree of an array in memory, on threads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscaper_hpc.grid import Connectivity
from landscaper_hpc.topology.blocks import boxes
from landscaper_hpc.topology.blocks.basins import find_basins
from landscaper_hpc.topology.blocks.block import Block, block_of, values_at
from landscaper_hpc.topology.blocks.block_forest import BlockForest, block_forest
from landscaper_hpc.topology.blocks.labels import ArrayLabels
from landscaper_hpc.topology.blocks.warm_up import available_threads, prepare
from landscaper_hpc.topology.build import Edges, build_tree
from landscaper_hpc.topology.kernels.stencil import check_connectivity
from landscaper_hpc.topology.kernels.threads import Threads
from landscaper_hpc.topology.readers import ArrayReader, array_of, check_shape, in_working_type
from landscaper_hpc.topology.tree import Direction, MergeTree, check_direction


def checked_values(values: ArrayLike) -> NDArray[Any]:
    """The values as a C-ordered float32 or float64 array with at least one vertex."""
    array = array_of(values)
    check_shape(array.shape)
    return in_working_type(array)


def merge_tree(
    values: ArrayLike,
    connectivity: Connectivity = "axis",
    direction: Direction = "sublevel",
    labels: bool = False,
    *,
    threads: int | None = None,
) -> MergeTree:
    """The exact merge tree of a field on a grid of any dimension, the same bit for bit for any number of threads.

    Parameters
    ----------
    values
        The field, of any shape, in any unit; float32 and float64 as they are, other real types as float64. Values are
        never repaired: -inf comes first in the order of the vertices, +inf and then NaN last.
    connectivity
        Which vertices are neighbours: "axis" (2n), "freudenthal" (2 (2^n - 1)) or "full" (3^n - 1), see `grid.stencil`.
    direction
        "sublevel" for minima, "superlevel" for maxima (the tree of the negated field; ties still by id).
    labels
        Also give every vertex the index of its minimum.
    threads
        How many to use; by default as many as the process may run on.

    Returns
    -------
    MergeTree
        Flat arrays, one entry per minimum.

    Raises
    ------
    InputError
        For anything that is no real field of at least one vertex, and for unknown names.

    References
    ----------
    Smirnov and Morozov, *Triplet Merge Trees* (2017): the tree as edges that join minima.
    Maack et al., *Parallel Computation of Piecewise Linear Morse-Smale Segmentations* (2023): descent and basins.

    Examples
    --------
    >>> tree = merge_tree([3.0, 1.0, 2.0, 0.0, 4.0])
    >>> tree.minima.tolist(), tree.first_saddle.tolist()
    ([3, 1], [2, 2])
    """
    check_direction(direction)
    array = checked_values(values)
    if array.ndim == 0:
        array = array.reshape(1)
    check_connectivity(connectivity, array.shape)
    if array.size > boxes.MAX_BLOCK:
        return _in_blocks(array, connectivity, direction, labels, threads)
    block, minima, sizes, forest, labelled = spanned(
        -array if direction == "superlevel" else array, connectivity, labels, threads
    )
    return build_tree(
        minima.astype(np.int64),
        values_at(block, minima),
        sizes.astype(np.int64),
        Edges(forest.child, forest.parent, forest.saddle.astype(np.int64), values_at(block, forest.saddle)),
        block.census,
        shape=array.shape,
        connectivity=connectivity,
        direction=direction,
        n_vertices=array.size,
        labels=labelled,
    )


class Spanned(NamedTuple):
    """A field in memory as minima in order, the `sizes` of their basins, and a forest that spans them; `labels`: the
    index of the minimum of each vertex, int32, in the field's shape."""

    block: Block
    minima: NDArray[np.int32]
    sizes: NDArray[np.int32]
    forest: BlockForest
    labels: NDArray[np.int32] | None


def spanned(array: NDArray[Any], connectivity: Connectivity, labels: bool, threads: int | None) -> Spanned:
    """What a merge tree follows from, of a field of one block."""
    prepare(connectivity, array.dtype)
    with Threads(threads or available_threads()) as pool:
        block = block_of(array, (0,) * array.ndim, array.shape, connectivity, pool)
        basins = find_basins(block, pool)
        labelled = np.invert(basins.root).reshape(array.shape) if labels else None  # before the forest uses it up
        return Spanned(block, basins.minima, basins.sizes, block_forest(block, basins, pool), labelled)


def _in_blocks(
    array: NDArray[Any], connectivity: Connectivity, direction: Direction, labels: bool, threads: int | None
) -> MergeTree:
    """`merge_tree` of a field with more vertices than the positions within one block can name."""
    from landscaper_hpc.topology.blocks.distributed import merge_tree_blocks  # which stands on this module

    writer = ArrayLabels() if labels else None
    tree = merge_tree_blocks(ArrayReader(array), connectivity, direction, writer, threads=threads).tree
    assert tree is not None  # as in every process alone
    return tree if writer is None else replace(tree, labels=writer.values)
