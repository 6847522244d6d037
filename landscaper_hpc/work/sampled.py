"""A landscape in this process alone, without a store: its loss, directions and box, for scattered points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.objective.usercode import in_words
from landscaper_hpc.progress import silent
from landscaper_hpc.work import identity
from landscaper_hpc.work.hangs import getting_on, refused_if_it_hangs
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.loaded import load
from landscaper_hpc.work.tasks import chosen_grid, tried

if TYPE_CHECKING:
    from landscaper_hpc.confirm.of_objective import ObjectiveSurface
    from landscaper_hpc.directions.directions import Directions
    from landscaper_hpc.grid import Grid
    from landscaper_hpc.objective.objective import Objective


@dataclass(frozen=True)
class Prepared:
    """What a landscape is of, and its box, the `grid`'s; `batch`: points that are evaluated side by side."""

    landscape: Landscape
    objective: Objective
    directions: Directions
    grid: Grid
    batch: int

    def surface(self) -> ObjectiveSurface:
        """Its loss with gradients. `InputError` where it has none."""
        from landscaper_hpc.confirm.of_objective import ObjectiveSurface
        from landscaper_hpc.confirm.surface import Box

        with refused_if_it_hangs(self.landscape, self.objective, "gradients"):
            made = ObjectiveSurface(self.objective, self.directions, Box.of(self.grid).step)
            made.ways  # noqa: B018 (proved now)
        return made


@in_words()
def prepared(landscape: Landscape) -> Prepared:
    """Load a landscape's loss, prove it, and make its directions. `InputError` for what `run` would refuse."""
    from landscaper_hpc.directions.from_study import make_directions

    study = landscape.study
    study.check_files()
    objective = load(landscape)
    with refused_if_it_hangs(landscape, objective):
        identity.prove_objective(landscape, objective)
    with refused_if_it_hangs(landscape, objective, "the search for directions") as gets_on:
        directions = make_directions(study, objective, getting_on(gets_on, silent))
    grid = chosen_grid(landscape, objective, directions)
    batch, _ = tried(landscape, objective, directions, grid)
    return Prepared(landscape, objective, directions, grid, batch)


def losses_at(ready: Prepared, unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """The losses at points (m, n) of the unit cube that the box is mapped from."""
    from landscaper_hpc.confirm.surface import Box
    from landscaper_hpc.losses.evaluate import losses

    box = Box.of(ready.grid)
    return losses(ready.objective, ready.directions, box.alpha(unit * box.far), ready.batch)
