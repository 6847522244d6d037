"""Persistence diagrams as others have them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.tree import MergeTree


def diagram(tree: MergeTree) -> NDArray[np.float64]:
    """Births and deaths, (m, 2), in the order of the minima; inf where a minimum never dies, or at NaN, which has no
    place in a diagram."""
    death = np.where(np.isnan(tree.death_value), np.inf, tree.death_value)
    return np.stack([tree.values, death], axis=1)
