"""A network of minima and saddles without a grid: what the minima of a scattered sample lead to, and what joins them.

The sample's merge tree says where to begin and which minima to join over which point, as a grid's would; walks along
valleys lead from minimum to minimum. Random descents tell how much of the box leads to minima that were not met.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from landscaper_hpc.confirm.confirmed import Spending, network_by
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
MOST_DESCENTS = BATCHES * BATCHED


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

    def sentence(self) -> str:
        """What was found, and what is known of the rest, in words."""
        inside, others = int((self.found.kinds == 0).sum()), int((self.found.kinds != 0).sum())
        minima = f"{inside:,} {'minimum' if inside == 1 else 'minima'} of the loss"
        ends = (
            f" and {others:,} other end{'s' if others > 1 else ''}, on a face of the box most often" if others else ""
        )
        said = (
            f"{minima}{ends}, joined by {len(self.found.joins):,} passes, {self.found.n_saddles:,} of which have a "
            "confirmed saddle"
        )
        return (
            f"{said}; of the last {BATCHED} of {self.descents:,} random descents {self.missed:,} ended where nothing "
            f"had led before: at most {self.unmet:.1%} of the box does, with a probability of 0.95"
        )


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

    def run(what: What, starts: Array) -> tuple[Array, Cost]:
        cost = Cost()
        found = search(surface, box, [searching(what, start, box, surface.rounding) for start in starts], cost)
        return np.array(found), cost

    return network_of_sample(run, surface.rounding, grid, unit, merge_tree_points(unit, values), most, seed)


def network_of_sample(
    run: Spending, rounding: float, grid: Grid, unit: Array, tree: MergeTree, most: int | None = None, seed: int = 0
) -> Network:
    """`network` of a sample (m, n) in the unit cube whose merge tree is known, with searches run by `run`."""
    box = Box.of(grid)
    drawn = np.random.default_rng(seed).random((BATCHES, BATCHED, grid.ndim))
    found, new = network_by(run, rounding, grid, unit * box.far, tree, list(drawn * box.far), most)
    missed = int(np.count_nonzero(new[-1]))
    return Network(found, BATCHED * len(new), missed, at_most(missed, BATCHED, BATCHES))
