"""What pictures of a merge tree show, as small arrays: outlines of basins, the longest bars, the tree of what lasts.

Made once, where the tree is, so that drawing needs neither the grid nor the tree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.profile import Profile, landscape_profile
from landscaper_hpc.topology.tree import MergeTree

PROFILE_POINTS = 50_000_000
"""The largest grid that outlines are made of: they need all of it in one process, about 100 bytes per point."""
PROFILE_BASINS = 300
LEAVES = 200


class Bars(NamedTuple):
    """Basins, the most persistent first, all (b,): `birth` is the minimum, `death` where a deeper basin takes it in
    (NaN: never, or at NaN), `life` the height between them (infinite then), `essential` 1 where nothing ever does."""

    birth: NDArray[np.float64]
    death: NDArray[np.float64]
    life: NDArray[np.float64]
    essential: NDArray[np.float64]


class Branches(NamedTuple):
    """A merge tree, all (m,): `birth` and `death` as of bars, `parent` the branch that takes it in; -1 for none."""

    birth: NDArray[np.float64]
    death: NDArray[np.float64]
    parent: NDArray[np.int64]


@dataclass(frozen=True)
class Drawing:
    """`bars` of the LEAVES most persistent basins; `branches` of as many at most; and the `profile` of the
    PROFILE_BASINS most persistent at most, None for a grid of more than PROFILE_POINTS."""

    bars: Bars
    branches: Branches
    profile: Profile | None

    @classmethod
    def of(cls, tree: MergeTree, values: NDArray[Any] | None) -> Drawing:
        """The drawing of a tree; with a profile where `values` of the grid are given and the tree has labels."""
        profile = None if values is None else landscape_profile(values, most_persistent(tree, PROFILE_BASINS))
        return cls(bars(tree), branches(most_persistent(tree, LEAVES)), profile)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as a few arrays, as stored in a Zarr group; `from_arrays` reads it back."""
        arrays: dict[str, NDArray[Any]] = {"bars": np.stack(self.bars), "branches": np.stack(self.branches)}
        if self.profile is not None:
            p = self.profile
            arrays["outlines"] = np.stack([p.height, p.left, p.right])
            arrays["outlines_of"] = np.stack([p.start[:-1], p.depth, p.dies.astype(np.int64)])
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Drawing:
        """The drawing that `to_arrays` was made of."""
        birth, death, parent = arrays["branches"]
        profile = None
        if "outlines" in arrays:
            height, left, right = arrays["outlines"]
            start, depth, dies = arrays["outlines_of"]
            profile = Profile(np.append(start, len(height)), height, left, right, depth, dies.astype(bool))
        return cls(Bars(*arrays["bars"]), Branches(birth, death, parent.astype(np.int64)), profile)


def bars(tree: MergeTree, most: int = LEAVES) -> Bars:
    """The `most` longest bars of a tree's persistence; of several that are equally long, those of the lower minima."""
    life, order = tree.lifetimes, longest(tree, most)
    return Bars(tree.values[order], tree.death_value[order], life[order], (tree.parent[order] < 0).astype(np.float64))


def longest(tree: MergeTree, most: int) -> NDArray[np.int64]:
    """The minima of the `most` longest bars, by index, the longest first."""
    life = tree.lifetimes
    return np.lexsort((np.arange(len(life)), -life))[:most]


def branches(tree: MergeTree) -> Branches:
    """All branches of a tree."""
    return Branches(tree.values, tree.death_value, tree.parent)


def most_persistent(tree: MergeTree, most: int) -> MergeTree:
    """The tree of at most the `most` most persistent minima; of several that are equally persistent all or none."""
    if tree.n_minima <= most:
        return tree
    threshold = float(np.sort(tree.lifetimes)[-most])
    if np.count_nonzero(tree.lifetimes >= threshold) > most:
        threshold = math.nextafter(threshold, math.inf)
    return tree.simplify(threshold)
