"""From minima, basins and a forest that spans them to the merge tree."""

from __future__ import annotations

import logging
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.kernels.elder import elder_rule
from landscaper_hpc.topology.kernels.order import Census
from landscaper_hpc.topology.tree import MergeTree

log = logging.getLogger(__name__)


class Edges(NamedTuple):
    """A spanning forest of minima, by their indices: `child` and `parent` meet at `saddle` (flat id, and its
    `value`); in the order of the saddles."""

    child: NDArray[Any]
    parent: NDArray[Any]
    saddle: NDArray[np.int64]
    value: NDArray[np.float64]


def build_tree(
    minima: NDArray[np.int64],
    values: NDArray[np.float64],
    sizes: NDArray[np.int64],
    edges: Edges,
    census: Census,
    *,
    shape: tuple[int, ...],
    connectivity: str,
    direction: str,
    n_vertices: int,
    labels: NDArray[Any] | None = None,
) -> MergeTree:
    """The merge tree from all minima in order (those that are none last), their basins and a forest that spans them.

    `values`, `edges` and `census` are those of the negated field if `direction` is "superlevel". `labels`: index of
    the minimum of each vertex in the order of `minima`; those of minima that are none become -1, in place.
    """
    proper = int(np.count_nonzero(values < np.inf))
    parent, died, met = np.full((3, proper), -1, np.int64)
    elder_rule(edges.child, edges.parent, edges.saddle, len(minima), parent, died, met)
    # one NaN for all of them, and one more entry at the end for those that never die
    saddle_value = np.append(np.where(np.isnan(edges.value), np.nan, edges.value), np.nan)
    saddle = np.append(edges.saddle, -1)
    death, death_value = saddle[died], saddle_value[died]
    first, first_value = saddle[met], saddle_value[met]
    low, high = (census.low, census.high) if census.low <= census.high else (np.nan, np.nan)
    nonfinite = {"nan": census.nan, "posinf": census.posinf, "neginf": census.neginf}
    values = values[:proper]
    if math.isinf(float(high) - float(low)):
        log.warning(
            "values from %g to %g: their differences are larger than numbers go, so that what is in their unit may be "
            "infinite; what is in parts of their range is right; a power of two that scales them changes no more",
            low,
            high,
        )
    if labels is not None:
        labels[labels >= proper] = -1
    if direction == "superlevel":
        low, high = 0.0 - high, 0.0 - low
        values, death_value, first_value = 0.0 - values, 0.0 - death_value, 0.0 - first_value
        nonfinite["posinf"], nonfinite["neginf"] = census.neginf, census.posinf
    return MergeTree(
        shape=shape,
        connectivity=connectivity,
        direction=direction,
        minima=minima[:proper],
        values=values,
        basin_size=sizes[:proper],
        first_saddle=first,
        first_saddle_value=first_value,
        parent=parent,
        death=death,
        death_value=death_value,
        value_range=(low, high),
        nonfinite=nonfinite,
        n_vertices=n_vertices,
        labels=labels,
    )
