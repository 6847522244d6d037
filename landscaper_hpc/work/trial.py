"""Everything that a run will do with a landscape, tried before anything is spent: `check` tells of it, `plan` times it.

Only eigenvectors of the Hessian are not sought: one product is proved, and random directions stand for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from landscaper_hpc.comparison.weight_spectra import refuse_without_package
from landscaper_hpc.directions.from_study import make_directions, needs_hessian
from landscaper_hpc.objective.usercode import in_words
from landscaper_hpc.progress import silent
from landscaper_hpc.work import identity
from landscaper_hpc.work.hangs import getting_on, refused_if_it_hangs
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.loaded import load, prove_nothing_kept
from landscaper_hpc.work.memory import refuse_too_large
from landscaper_hpc.work.tasks import chosen_grid, tried

if TYPE_CHECKING:
    from landscaper_hpc.directions.directions import Directions
    from landscaper_hpc.directions.hessian import Hessian
    from landscaper_hpc.grid import Grid
    from landscaper_hpc.objective.objective import Objective


@dataclass(frozen=True)
class Trial:
    """What was found: `data` as `identity` records them, the checkpoint's loss with notices, the Hessian where the
    study needs it; directions, grid and batch shape are those of the run, but for eigenvectors."""

    objective: Objective
    data: dict[str, Any]
    loss: float
    notices: list[str]
    hessian: Hessian | None
    directions: Directions
    grid: Grid
    batch: int


@in_words()
def try_out(landscape: Landscape) -> Trial:
    """`InputError` for what `run` would refuse, in the same words."""
    from landscaper_hpc.directions.directions import random_directions

    study = landscape.study
    if study.power_law:
        refuse_without_package()
    objective = load(landscape)
    refuse_too_large(landscape, objective)
    data = identity.data_identity(landscape, objective)
    with refused_if_it_hangs(landscape, objective):
        loss, notices, _ = identity.prove_objective(landscape, objective)
    prove_nothing_kept(landscape, objective)
    hessian = None
    if needs_hessian(study):
        with refused_if_it_hangs(landscape, objective, "a product with the Hessian"):
            hessian = _proved_hessian(landscape, objective)
    if study.directions.kind == "hessian":
        directions = random_directions(
            objective, study.directions.n, seed=study.directions.seed, normalization=study.directions.normalization
        )
        grid = study.make_grid()
    else:
        with refused_if_it_hangs(landscape, objective, "the search for directions") as gets_on:
            directions = make_directions(study, objective, getting_on(gets_on, silent))
        grid = chosen_grid(landscape, objective, directions)
    batch, _ = tried(landscape, objective, directions, grid)
    return Trial(objective, data, loss, notices, hessian, directions, grid, batch)


def _proved_hessian(landscape: Landscape, objective: Objective) -> Hessian:
    from landscaper_hpc.directions.hessian import Hessian
    from landscaper_hpc.objective.precision import arithmetic, one_thread

    with one_thread(objective.device), arithmetic("float32", objective.device):
        hessian = Hessian(objective)
        hessian @ hessian.start(landscape.study.directions.seed)
    return hessian
