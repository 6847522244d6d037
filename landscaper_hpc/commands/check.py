"""`landscaper-hpc check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from landscaper_hpc.commands.options import Device, Set, SiteFile, StudyFile, Traceback, load_site, load_study

if TYPE_CHECKING:
    from types import ModuleType

    from landscaper_hpc.objective.objective import Objective
    from landscaper_hpc.work.landscape import Landscape

_NOISE_POINTS = 16


def check(
    study: StudyFile, set_: Set = None, site: SiteFile = None, device: Device = None, traceback: Traceback = False
) -> None:
    """Load everything a study names, evaluate the checkpoints and prove that the loss is deterministic.

    \b
    Example:
      landscaper-hpc check study.yaml
    """
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.work import identity, tasks
    from landscaper_hpc.work.campaign import Plan

    loaded = load_study(study, set_)
    grid = loaded.make_grid()
    print(f"study     {loaded.name}: {' × '.join(map(str, grid.shape))} = {grid.size:,} points for each checkpoint")
    missing = []
    where = load_site(site, device=device)
    for landscape in Plan.of(loaded, where, where.runs() / loaded.name).landscapes:
        if loaded.train is not None and not landscape.file.exists():
            missing.append(landscape.name)
            print(f"{landscape.name:<9} checkpoint not there yet: `landscaper-hpc run` trains it with {loaded.train}")
            continue
        objective = tasks.load(landscape)
        not_covered = identity.data_identity(landscape, objective)["not_covered"]
        loss, notices = identity.prove_objective(landscape, objective)
        moving = sum(p.numel() for p in objective.parameters.values())
        print(
            f"{landscape.name:<9} loss {loss:.6g}, the same twice; {moving:,} parameters in "
            f"{len(objective.parameters)} tensors move; {sum(objective.examples):,} examples in "
            f"{len(objective.batches)} batches; {loaded.precision} on {landscape.site.device}"
        )
        if not_covered:
            notices.append(f"no hash covers {', '.join(not_covered)}: changes there are noticed by losses alone")
        for notice in notices:
            print(f"{'':<9} notice: {notice}")
        _say_noise(tasks, landscape, objective)
    if len(missing) < len(loaded.checkpoints):
        print("ok")
    else:
        raise InputError(f"checkpoints: none is there yet ({', '.join(missing)}); `landscaper-hpc run` trains them")


def _say_noise(tasks: ModuleType, landscape: Landscape, objective: Objective) -> None:
    """What rounding does to the losses, along random directions of the study's range."""
    from dataclasses import replace

    import numpy as np

    from landscaper_hpc.directions.directions import random_directions
    from landscaper_hpc.losses.noise import precision_report

    study = landscape.study
    grid, n = study.make_grid(), study.directions.n
    directions = random_directions(
        objective, n, seed=study.directions.seed, normalization=study.directions.normalization
    )
    generator = np.random.default_rng(study.directions.seed)
    points = np.stack([generator.choice(c, _NOISE_POINTS) for c in grid.coordinates()], axis=1)
    wide = objective
    if study.precision != "float64":
        wide = tasks.load(replace(landscape, study=study.model_copy(update={"precision": "float64"})))
    batch = 1 if study.batch == "auto" else study.batch
    found = precision_report(objective, wide, directions, points, batch)
    print(
        f"{'':<9} rounding in {study.precision} moves losses by up to {found.error:.2g} ({found.relative:.1g} of the "
        f"loss; {found.points} random points): pairs that persist less than {found.noise_persistence:.2g} are noise"
    )
