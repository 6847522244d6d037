"""Whether the numbers of a landscape settle as its grid is refined: the same numbers on nested grids.

A nested grid is every second, every fourth, … point of the finest along each axis. So it costs no evaluation, and its
values are those of the finest, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.decided import decided_by
from landscaper_hpc.topology.distances import bottleneck
from landscaper_hpc.topology.heights import unit_of
from landscaper_hpc.topology.metrics import mean_climb, smad
from landscaper_hpc.topology.scope import of_logarithm
from landscaper_hpc.topology.tree import MergeTree

TOLERANCE = 0.1
SETTLED, NOT_RESOLVED, NOT_TESTED = "settled", "not resolved", "not tested"


@dataclass(frozen=True)
class Refinement:
    """Numbers of nested grids, the coarsest first, each (l,); `bottleneck` is between one and the next, (l − 1,), as a
    share of the finest one's range of values. Those of the logarithm are None where it is not defined on one of them,
    those of a scope where none was given."""

    shapes: list[tuple[int, ...]]
    n_minima: NDArray[np.int64]
    mean_climb: NDArray[np.float64]
    smad: NDArray[np.float64]
    smad_decided_by: list[str | None]
    mean_climb_log: NDArray[np.float64] | None
    bottleneck: NDArray[np.float64]
    scope_n_minima: NDArray[np.int64] | None
    scope_mean_climb: NDArray[np.float64] | None

    @property
    def verdict(self) -> str:
        """Of the whole grid: "settled" where number of minima and mean climb change by at most TOLERANCE of the larger
        value, and the diagram by at most TOLERANCE of the range, from each of the last three grids to the next; "not
        resolved" otherwise; "not tested" where there are fewer than three grids."""
        changes = np.stack([_changes(self.n_minima), _changes(self.mean_climb), self.bottleneck])
        return _verdict(changes)

    @property
    def scope_verdict(self) -> str | None:
        """The same of the scope, of the number of minima and mean climb in it."""
        if self.scope_n_minima is None or self.scope_mean_climb is None:
            return None
        return _verdict(np.stack([_changes(self.scope_n_minima), _changes(self.scope_mean_climb)]))

    @classmethod
    def of(cls, trees: Sequence[MergeTree], scopes: Sequence[MergeTree] | None = None) -> Refinement:
        """Of the trees of nested grids, and those of the same scope of each; the coarsest first."""
        logs = [log for tree in trees if (log := of_logarithm(tree)) is not None]
        unit = unit_of(trees[-1].value_range)
        low, high = (value / unit for value in trees[-1].value_range)
        apart = np.array([bottleneck(a, b) for a, b in pairwise(trees)]) / unit
        return cls(
            shapes=[tree.shape for tree in trees],
            n_minima=np.array([tree.n_minima for tree in trees]),
            mean_climb=np.array([mean_climb(tree) for tree in trees]),
            smad=np.array([smad(tree) for tree in trees]),
            smad_decided_by=[decided_by(tree) for tree in trees],
            mean_climb_log=np.array([mean_climb(t, normalize=False) for t in logs])
            if len(logs) == len(trees)
            else None,
            bottleneck=apart / (high - low) if low < high else apart,
            scope_n_minima=None if scopes is None else np.array([t.n_minima for t in scopes]),
            scope_mean_climb=None if scopes is None else np.array([mean_climb(t) for t in scopes]),
        )


def _changes(values: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
    """From each value to the next, as shares of the larger one; 0 where both are 0."""
    a, b = values[:-1].astype(np.float64), values[1:].astype(np.float64)
    larger = np.maximum(np.abs(a), np.abs(b))
    return np.abs(a - b) / np.where(larger == 0, 1.0, larger)


def _verdict(changes: NDArray[np.float64]) -> str:
    if changes.shape[1] < 2:
        return NOT_TESTED
    return SETTLED if bool((changes[:, -2:] <= TOLERANCE).all()) else NOT_RESOLVED  # NaN is not settled
