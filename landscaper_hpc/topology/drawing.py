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


class Basins(NamedTuple):
    """The most persistent basins, in the order of bars, all (k,): `minimum` is where it lies, a flat id; `birth`,
    `death` and `life` as of bars; `size` the points that descend to it."""

    minimum: NDArray[np.int64]
    birth: NDArray[np.float64]
    death: NDArray[np.float64]
    life: NDArray[np.float64]
    size: NDArray[np.int64]


@dataclass(frozen=True)
class Marks:
    """Which basin is which: `basins`, and the minima, as flat ids, of "bars", "leaves" and "basins" (of the profile) in
    their order."""

    basins: Basins
    minima: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Drawing:
    """`bars` of the LEAVES most persistent basins; `branches` of as many at most; the `profile` of the PROFILE_BASINS
    most persistent at most, None for a grid of more than PROFILE_POINTS; and `marks`, None of what was stored before
    there were any."""

    bars: Bars
    branches: Branches
    profile: Profile | None
    marks: Marks | None = None

    @classmethod
    def of(cls, tree: MergeTree, values: NDArray[Any] | None) -> Drawing:
        """The drawing of a tree; with a profile where `values` of the grid are given and the tree has labels."""
        outlined = most_persistent(tree, PROFILE_BASINS)
        profile = None if values is None else landscape_profile(values, outlined)
        leaves, known = most_persistent(tree, LEAVES), basins(tree)
        minima = {"bars": known.minimum[:LEAVES], "leaves": leaves.minima, "basins": outlined.minima}
        return cls(bars(tree), branches(leaves), profile, Marks(known, minima))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as a few arrays, as stored in a Zarr group; `from_arrays` reads it back."""
        arrays: dict[str, NDArray[Any]] = {"bars": np.stack(self.bars), "branches": np.stack(self.branches)}
        if self.profile is not None:
            p = self.profile
            arrays["outlines"] = np.stack([p.height, p.left, p.right])
            arrays["outlines_of"] = np.stack([p.start[:-1], p.depth, p.dies.astype(np.int64)])
        if self.marks is not None:
            known = self.marks.basins
            arrays["basins"] = np.stack([known.birth, known.death, known.life])
            arrays["basins_of"] = np.stack([known.minimum, known.size])
            arrays |= {f"minima_of_{name}": minima for name, minima in self.marks.minima.items()}
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
        marks = None
        if "basins_of" in arrays:
            minimum, size = arrays["basins_of"]
            birth_, death_, life = arrays["basins"]
            minima = {name: arrays[f"minima_of_{name}"] for name in ("bars", "leaves", "basins")}
            marks = Marks(Basins(minimum, birth_, death_, life, size), minima)
        return cls(Bars(*arrays["bars"]), Branches(birth, death, parent.astype(np.int64)), profile, marks)


def bars(tree: MergeTree, most: int = LEAVES) -> Bars:
    """The `most` longest bars of a tree's persistence; of several that are equally long, those of the lower minima."""
    life, order = tree.lifetimes, longest(tree, most)
    return Bars(tree.values[order], tree.death_value[order], life[order], (tree.parent[order] < 0).astype(np.float64))


def basins(tree: MergeTree, most: int = PROFILE_BASINS) -> Basins:
    """The `most` most persistent basins of a tree."""
    life, order = tree.lifetimes, longest(tree, most)
    return Basins(tree.minima[order], tree.values[order], tree.death_value[order], life[order], tree.basin_size[order])


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
