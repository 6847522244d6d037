"""What all of the data make of a landscape that was evaluated on a few batches of them.

Its merge tree is held fixed; the losses at its critical points, over all of the data, say which of its pairs that would
change, and by how much the heights that its numbers are made of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.error_bars import CriticalPoints, ErrorBars
from landscaper_hpc.topology.tree import MergeTree


@dataclass(frozen=True)
class Change:
    """What changes where all of the data take the place of a few batches.

    Attributes
    ----------
    batches
        Of how many of them the landscape is, and how many there are.
    pairs
        How many pairs were looked at: minima that die, with their saddles.
    other_pairs
        How many of them all data make others: the saddle is no higher than the minimum, or the minimum lies below the
        one that takes it in.
    stood, stand
        How many minima stand (`ErrorBars.stands`) by the few batches, and by all data.
    other_verdicts
        How many minima stand by the one and not by the other.
    height
        The largest change of a pair's height, in units of the loss; over finite ones.
    smad, mean_climb
        By the few batches, and by all data; pairs, basins and range held fixed.
    """

    batches: tuple[int, int]
    pairs: int
    other_pairs: int
    stood: int
    stand: int
    other_verdicts: int
    height: float
    smad: tuple[float, float]
    mean_climb: tuple[float, float]

    def sentence(self) -> str:
        """The same in words."""
        few, all_of_them = self.batches
        return (
            f"all {all_of_them:,} batches instead of {few:,} change {self.other_pairs:,} of {self.pairs:,} pairs and "
            f"move heights by up to {self.height:.3g}; minima that stand: {self.stand:,} instead of "
            f"{self.stood:,} (other verdicts: {self.other_verdicts:,}), mean climb {self.mean_climb[1]:.4g} instead of "
            f"{self.mean_climb[0]:.4g}, SMAD {self.smad[1]:.4g} instead of {self.smad[0]:.4g}"
        )


def change_of(
    tree: MergeTree,
    points: CriticalPoints,
    few: ErrorBars,
    whole: ErrorBars,
    losses: NDArray[np.float64],
    batches: tuple[int, int],
) -> Change:
    """What all data change in the pairs of a tree.

    Parameters
    ----------
    tree
        The merge tree, sublevel, of losses on few batches.
    points
        Which of its vertices were evaluated again.
    few, whole
        Its error bars from these batches, and from all data.
    losses
        Shape (c,): the losses over all data at `points.ids`.
    batches
        How many the tree is of, and how many there are.

    Returns
    -------
    Change
    """
    dies = points.death >= 0
    low, high = losses[points.minimum[dies]], losses[points.death[dies]]
    older = tree.minima[tree.parent[points.chosen[dies]]]  # at least as persistent, so among the points
    below = losses[np.searchsorted(points.ids, older)]
    changes = np.abs(whole.difference - few.difference)[dies]
    return Change(
        batches=batches,
        pairs=int(dies.sum()),
        other_pairs=int(np.count_nonzero(~((low < high) & (below <= low)))),
        stood=int(few.stands.sum()),
        stand=int(whole.stands.sum()),
        other_verdicts=int(np.count_nonzero(few.stands != whole.stands)),
        height=float(changes[np.isfinite(changes)].max(initial=0.0)),
        smad=(few.smad.value, whole.smad.value),
        mean_climb=(few.mean_climb.value, whole.mean_climb.value),
    )
