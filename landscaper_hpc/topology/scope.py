"""Merge trees of what follows from a field: of its logarithm, and of the part of it below a level.

Both are trees again, so that every number of a tree (`metrics`) is one of these, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.tree import MergeTree


def of_logarithm(tree: MergeTree) -> MergeTree | None:
    """The merge tree of the natural logarithm of a field: the same minima, basins and saddles, other heights.

    The logarithm keeps the order of the vertices, and with it everything that the tree says of them.

    Parameters
    ----------
    tree
        The merge tree of a field.

    Returns
    -------
    MergeTree or None
        None where the field has a value that is not above 0 (−inf among them): its logarithm is not defined.
        A saddle that is +inf or NaN stays so, and counts as the largest finite value.
    """
    low, high = tree.value_range
    if tree.nonfinite["neginf"] or low <= 0:
        return None
    return replace(
        tree,
        values=np.log(tree.values),
        first_saddle_value=np.log(tree.first_saddle_value),
        death_value=np.log(tree.death_value),
        value_range=(float(np.log(low)), float(np.log(high))),
    )


def below(tree: MergeTree, values: NDArray[Any], labels: NDArray[Any], level: float) -> MergeTree:
    """The merge tree within the scope {v : f(v) < level}: its minima, each with the part of its basin that lies there.

    Every vertex of the scope descends within it, so a basin's part is exact: the vertices of that basin below the
    level. A saddle at or above the level is not in the scope; it counts as the level (`value_range` ends there), as one
    that is +inf counts as the largest finite value. A single minimum has no saddle.

    Parameters
    ----------
    tree
        Of the field, of direction "sublevel", not simplified.
    values, labels
        The field, and the index of the minimum that each vertex descends to, in the tree's shape.
    level
        In the values' own unit.

    Returns
    -------
    MergeTree
        `n_vertices` are those in the scope, `value_range` runs from the smallest finite value to the level, or to the
        largest finite value where that is lower. Without minima where nothing lies below the level.
    """
    assert tree.direction == "sublevel"
    inside = values.reshape(-1) < level
    kept = int(np.count_nonzero(tree.values < level))
    size = np.bincount(labels.reshape(-1)[inside], minlength=kept).astype(np.int64)
    low, high = tree.value_range
    alone = kept == 1
    return replace(
        tree,
        minima=tree.minima[:kept],
        values=tree.values[:kept],
        basin_size=size,
        first_saddle=np.full(1, -1, np.int64) if alone else tree.first_saddle[:kept],
        first_saddle_value=np.full(1, np.nan) if alone else tree.first_saddle_value[:kept],
        parent=tree.parent[:kept],
        death=tree.death[:kept],
        death_value=tree.death_value[:kept],
        value_range=(low, min(level, high)),
        nonfinite={"nan": 0, "posinf": 0, "neginf": tree.nonfinite["neginf"]},
        n_vertices=int(np.count_nonzero(inside)),
        labels=None,
    )


def level_of_share(values: NDArray[Any], share: float) -> float:
    """The level below which the lowest `share` of all vertices lie, as nearly as ties let them and never more.

    It is a value of the field: the (⌊share · N⌋ + 1)-th smallest, NaN counted last; +inf where that is none.
    """
    flat = values.reshape(-1)
    k = min(int(share * flat.size), flat.size - 1)
    found = float(np.partition(flat, k)[k])
    return np.inf if np.isnan(found) else found
