"""What decides the value of SMAD: whether one pair, minima on the edge of the grid, or how many minima there are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from landscaper_hpc.topology.heights import unit_of
from landscaper_hpc.topology.metrics import heights, on_edge, smad
from landscaper_hpc.topology.tree import MergeTree

HALF = 0.5
SHALLOW = 0.01
"""The share of the range of losses below which the persistence of a minimum is called shallow."""

DECIDED = (
    "what beside the landscape it hangs on: one pair, or edge minima, that carry more than half of it; or 1/m, where "
    "most minima are shallow"
)
"""What the names of causes mean, in words."""


class Decided(NamedTuple):
    """Shares of SMAD's sum over the minima, each from 0 to 1.

    one         what the one pair (minimum, first saddle) with the most carries
    minimum     index of its minimum
    edge        what minima on the edge of the grid carry together
    """

    one: float
    minimum: int
    edge: float


def decided(tree: MergeTree) -> Decided | None:
    """By what SMAD is decided: the terms of its sum are height · basin size, one for each minimum.

    None where SMAD is 0, or there is none.
    """
    height, meets = heights(tree.scaled()[0], normalize=False)
    terms = np.zeros(tree.n_minima)
    terms[meets] = height * tree.basin_size[meets]
    total = float(terms.sum())
    if not total > 0:
        return None
    shares = terms / total
    largest = int(np.argmax(shares))
    return Decided(float(shares[largest]), largest, float(shares[on_edge(tree)].sum()))


def without_shallow(tree: MergeTree) -> MergeTree:
    """The tree without minima shallower than SHALLOW of the range of losses."""
    (low, high), unit = tree.value_range, unit_of(tree.value_range)
    if not low < high:  # NaN where no value is finite
        return tree
    return tree.simplify(SHALLOW * (high / unit - low / unit) * unit)


class Cause(NamedTuple):
    """What decides SMAD beside the landscape: its name, for tables, and what it does, in words."""

    name: str
    said: str


def causes(tree: MergeTree) -> list[Cause]:
    """What decides SMAD beside the landscape.

    One pair, or minima on the edge of the grid, that carry more than half of it; or 1/m, where more than half of the m
    minima are shallow and SMAD without them is another by more than a factor of two.
    """
    found = decided(tree)
    if found is None:
        return []
    said = []
    if found.one > HALF:
        where = ", ".join(str(int(i)) for i in np.unravel_index(tree.minima[found.minimum], tree.shape))
        said.append(
            Cause("one pair", f"one pair, that of the minimum at index ({where}), carries {_percent(found.one)} of it")
        )
    if found.edge > HALF:
        said.append(Cause("edge minima", f"minima on the edge of the grid carry {_percent(found.edge)} of it"))
    deep, own = without_shallow(tree), smad(tree)
    shallow = tree.n_minima - deep.n_minima
    if shallow > HALF * tree.n_minima and not own / 2 <= smad(deep) <= 2 * own:
        many = (
            f"{shallow:,} of the {tree.n_minima:,} minima are shallower than {_percent(SHALLOW)} of the range and "
            f"count in its 1/m: without them it is {smad(deep):.3g}"
        )
        said.append(Cause("1/m", many))
    return said


def warning(tree: MergeTree) -> str | None:
    """In words, what decides SMAD beside the landscape; None where nothing does."""
    return "; ".join(cause.said for cause in causes(tree)) or None


def decided_by(tree: MergeTree) -> str | None:
    """The same in a few words, such as "one pair, edge minima", for the cell of a table."""
    return ", ".join(cause.name for cause in causes(tree)) or None


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
