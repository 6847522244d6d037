"""A network of minima and saddles without a grid: what the minima of a scattered sample lead to, and what joins them.

The sample's merge tree says where to begin and which minima to join over which point, as a grid's would. Random
descents tell how much of the box leads to minima that were not met.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from landscaper_hpc.confirm.confirmed import network_by
from landscaper_hpc.confirm.ends import KINDS
from landscaper_hpc.confirm.result import Confirmed
from landscaper_hpc.confirm.rows import What, searching
from landscaper_hpc.confirm.surface import Array, Box, Cost, Surface, search
from landscaper_hpc.grid import Grid
from landscaper_hpc.sampling.bounds import at_most
from landscaper_hpc.sampling.scattered import unit_points
from landscaper_hpc.topology.graph import merge_tree_points
from landscaper_hpc.topology.tree import MergeTree

BATCHES, BATCHED = 4, 50
"""So many times, at most, so many random descents."""


@dataclass(frozen=True)
class Network:
    """Minima of the loss, the saddles between them, and how much of the box leads elsewhere.

    Attributes
    ----------
    found
        Minima, saddles and their tree; its "grid" is the sample: `grid_minima` are places in that.
    descents, missed
        How many random descents there were, in batches until one finds nothing new, and how many of the last batch
        ended where nothing had led before. What they found is in `found`.
    unmet
        At most this share of the box leads to what had not been met before the last batch, with a probability of 0.95
        (Clopper and Pearson, for each of as many batches as there may be).
    """

    found: Confirmed
    descents: int
    missed: int
    unmet: float

    def told(self) -> dict[str, Any]:
        """The same as plain values: minima and other ends, the lowest first, with the loss at which each is taken in by
        a lower one, and the passes between them."""
        found, tree = self.found, self.found.tree
        death = dict(zip(tree.minima.tolist(), np.where(tree.parent < 0, np.nan, tree.death_value), strict=True))
        ends = zip(found.values.tolist(), found.kinds.tolist(), found.points.tolist(), strict=True)
        passes = zip(found.heights.tolist(), found.joins.tolist(), found.saddles.tolist(), strict=True)
        return {
            "minima": [
                {"loss": value, "death": _or_none(death.get(i)), "kind": KINDS[kind], "alpha": alpha}
                for i, (value, kind, alpha) in enumerate(ends)
            ],
            "passes": [
                {
                    "loss": height,
                    "joins": joins,
                    "saddle": None if saddle < 0 else found.saddle_points[saddle].tolist(),
                }
                for height, joins, saddle in passes
            ],
            "random_descents": self.descents,
            "missed_by_last": self.missed,
            "unmet_at_most": self.unmet,
            "gradients": found.gradients_spent,
            "products": found.products_spent,
        }

    def sentence(self) -> str:
        """What was found, and what is known of the rest, in words."""
        inside, others = int((self.found.kinds == 0).sum()), int((self.found.kinds != 0).sum())
        said = (
            f"{inside:,} {'minimum' if inside == 1 else 'minima'} of the loss and {others:,} other ends, at the edge "
            f"of the box most of them, joined by {len(self.found.joins):,} passes, {self.found.n_saddles:,} of which "
            "have a confirmed saddle"
        )
        return (
            f"{said}; of the last {BATCHED} of {self.descents:,} random descents {self.missed:,} ended where nothing "
            f"had led before: at most {self.unmet:.1%} of the box does, with a probability of 0.95"
        )


def _or_none(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def network(surface: Surface, grid: Grid, points: int = 1024, *, most: int | None = None, seed: int = 0) -> Network:
    """Find minima of a loss in a box, and the saddles between them, from the points of a Sobol sequence.

    Parameters
    ----------
    surface
        The loss over alpha, with derivatives, in up to 16 directions.
    grid
        Its box is not left, its steps are the lengths of the method; it is not evaluated.
    points
        How many losses are evaluated to find out where to begin; each with its gradient, as this surface has no other.
    most
        Follow only so many of the most persistent minima of the sample; all by default.
    seed
        Of the sequence, and of the descents.

    Returns
    -------
    Network
    """
    box = Box.of(grid)
    unit = unit_points("sobol", points, grid.ndim, seed)
    values = surface.gradients(box.alpha(unit * box.far))[0]
    return network_of_sample(surface, grid, unit, merge_tree_points(unit, values), most, seed)


def network_of_sample(
    surface: Surface, grid: Grid, unit: Array, tree: MergeTree, most: int | None = None, seed: int = 0
) -> Network:
    """`network` of a sample (m, n) in the unit cube whose merge tree is known."""
    box = Box.of(grid)

    def run(what: What, starts: Array) -> tuple[Array, Cost]:
        cost = Cost()
        found = search(surface, box, [searching(what, start, box, surface.rounding) for start in starts], cost)
        return np.array(found), cost

    drawn = np.random.default_rng(seed).random((BATCHES, BATCHED, grid.ndim))
    found, new = network_by(run, surface.rounding, grid, unit * box.far, tree, list(drawn * box.far), most)
    missed = int(np.count_nonzero(new[-1]))
    return Network(found, BATCHED * len(new), missed, at_most(missed, BATCHED, BATCHES))
