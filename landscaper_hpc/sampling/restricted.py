"""The merge tree of what lies below a level, where nothing else is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.sampling.sample import Sample
from landscaper_hpc.topology.graph import merge_tree_graph
from landscaper_hpc.topology.tree import MergeTree


def restricted_tree(sample: Sample, ids: NDArray[np.int64], level: float) -> tuple[MergeTree, NDArray[np.int64]]:
    """The merge tree within the scope {v : f(v) < level}, as far as it was met.

    Of every component that was met it says what `topology.scope.below` says of the whole grid: minima, basins' parts
    and saddles below the level. Where a component meets another, above the level, is not known: its lowest minimum has
    no `parent` and no `death`, and if it is alone there its `first_saddle` is the lowest known vertex around it, which
    lies at or above the level and counts as the level. A single minimum has no saddle.

    Parameters
    ----------
    sample
        In which all neighbours of all known vertices below the level are known.
    ids
        These vertices; they grow.
    level
        In the values' own unit.

    Returns
    -------
    MergeTree
        `n_vertices` are those below the level, `value_range` runs from the smallest finite value to the level.
    (ids,)
        Which of its minima each vertex descends to.
    """
    values = sample.values[ids]
    finite = values[np.isfinite(values)]
    high = level if np.isfinite(level) else finite.max(initial=-np.inf)
    own = {
        "shape": sample.shape,
        "connectivity": sample.connectivity,
        "value_range": (float(finite.min()), float(high)) if len(finite) else (np.nan, np.nan),
        "nonfinite": {"nan": 0, "posinf": 0, "neginf": int(np.count_nonzero(values == -np.inf))},
        "n_vertices": len(ids),
    }
    if not len(ids):
        i, f = np.empty(0, np.int64), np.empty(0)
        return MergeTree(
            direction="sublevel",
            minima=i,
            values=f,
            basin_size=i,
            first_saddle=i,
            first_saddle_value=f,
            parent=i,
            death=i,
            death_value=f,
            **own,  # type: ignore[arg-type]
        ), i
    indptr, indices, way_out = sample.graph(ids)
    tree = merge_tree_graph(values, indptr, indices, labels=True)
    assert tree.labels is not None
    first, first_value = _globally(tree.first_saddle, ids), tree.first_saddle_value.copy()
    alone = (first < 0) & (tree.n_minima > 1)
    edge = np.flatnonzero((way_out >= 0) & alone[tree.labels])
    edge = edge[np.lexsort((way_out[edge], sample.values[way_out[edge]]))]
    minimum, lowest = np.unique(tree.labels[edge], return_index=True)
    first[minimum] = way_out[edge[lowest]]
    first_value[minimum] = sample.values[first[minimum]]
    labels = tree.labels
    tree = replace(
        tree,
        minima=ids[tree.minima],
        first_saddle=first,
        first_saddle_value=first_value,
        death=_globally(tree.death, ids),
        labels=None,
        **own,  # type: ignore[arg-type]
    )
    return tree, labels


def _globally(positions: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ids at some positions; -1 stays."""
    found: NDArray[np.int64] = np.where(positions < 0, -1, ids[positions])
    return found
