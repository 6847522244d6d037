"""How the numbers of a landscape depend on the region and the grid: on parts of one grid, without a new evaluation,
and on grids of larger regions, which have the points of its inner half in common with it.

A part has the first d axes (the others at the checkpoint), the middle 1, 1/2 or 1/4 of the range, every point of it or
every second or fourth; its values are the whole grid's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.registry import CONNECTIVITIES
from landscaper_hpc.topology.decided import decided_by
from landscaper_hpc.topology.merge import merge_tree
from landscaper_hpc.topology.metrics import mean_climb, smad
from landscaper_hpc.topology.tree import MergeTree

HALVINGS = (0, 1, 2)
STEPS = (1, 2, 4)
FEWEST = 5


@dataclass(frozen=True)
class GridPart:
    """Of a grid: how many directions, the share of each one's range, its shape, and where it is."""

    directions: int
    share: float
    shape: tuple[int, ...]
    region: tuple[slice | int, ...]


@dataclass(frozen=True)
class Row:
    """What a part shows with a connectivity; `smad_decided_by`: by what beside the landscape, if by anything
    (`topology.decided`); `confirmed_minima`: to how many minima of the loss its own lead, where they were followed."""

    directions: int
    share: float
    shape: tuple[int, ...]
    connectivity: str
    mean_climb: float
    smad: float
    smad_decided_by: str | None
    n_minima: int
    confirmed_minima: int | None = None


def parts(shape: Sequence[int], checkpoint: Sequence[int]) -> Iterator[GridPart]:
    """All parts of a grid of this shape that have FEWEST or more points along each axis and lie about its middle,
    slices through `checkpoint`, an index."""
    for directions in range(1, len(shape) + 1):
        for halving in HALVINGS:
            for step in STEPS:
                unit = step * 2**halving
                used = shape[:directions]
                if any((k - 1) % (2 * unit) or (k - 1) // unit + 1 < FEWEST for k in used):
                    continue
                halves = [(k - 1) // 2 // 2**halving for k in used]
                inside = [slice(k // 2 - h, k // 2 + h + 1, step) for k, h in zip(used, halves, strict=True)]
                yield GridPart(
                    directions,
                    1 / 2**halving,
                    tuple(2 * h // step + 1 for h in halves),
                    (*inside, *checkpoint[directions:]),
                )


def widened(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    """As many coordinates (k,), k odd, over twice the range: what of them lies within it is every second one of it."""
    middle = len(coordinates) // 2
    places = 2 * (np.arange(len(coordinates)) - middle)
    step = (coordinates[-1] - coordinates[0]) / (len(coordinates) - 1)
    inside = np.abs(places) <= middle
    found: NDArray[np.float64] = coordinates[middle] + places * step
    found[inside] = coordinates[middle + places[inside]]
    return found


def shared(shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where in the grid of twice the range the points are that it shares with one of this shape, and where in that."""
    halves = [k // 4 for k in shape]  # on either side of the middle
    there = tuple(slice(k // 2 - h, k // 2 + h + 1) for k, h in zip(shape, halves, strict=True))
    here = tuple(slice(k // 2 - 2 * h, k // 2 + 2 * h + 1, 2) for k, h in zip(shape, halves, strict=True))
    return there, here


def sensitivity(
    values: NDArray[Any],
    checkpoint: Sequence[int],
    confirm: Callable[[GridPart, MergeTree], int] | None = None,
    share: float = 1.0,
) -> list[Row]:
    """The numbers of every part of a field with every connectivity; `checkpoint` is the index of its place. `confirm`
    counts the minima of the loss that those of a part lead to; it is asked part by part. Of a field that has `share`
    times the range, more than 1, only parts with all of that: the others are parts of what it is larger than.

    Returns
    -------
    list of Row
        By directions, share of the range, points (most first), connectivity.
    """
    rows = []
    for part in parts(values.shape, checkpoint):
        if share > 1 > part.share:
            continue
        field = np.ascontiguousarray(values[part.region])
        for connectivity in CONNECTIVITIES.own:
            tree = merge_tree(field, connectivity)
            numbers = mean_climb(tree), smad(tree), decided_by(tree), tree.n_minima
            confirmed = None if confirm is None else confirm(part, tree)
            rows.append(Row(part.directions, share * part.share, part.shape, connectivity, *numbers, confirmed))
    return rows
