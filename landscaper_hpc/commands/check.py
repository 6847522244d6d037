"""`landscaper-hpc check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from landscaper_hpc import strict_json
from landscaper_hpc.commands.options import (
    Device,
    Json,
    Set,
    SetSite,
    SiteFile,
    StudyFile,
    Traceback,
    load_site,
    load_study,
)

if TYPE_CHECKING:
    from types import ModuleType

    from landscaper_hpc.objective.objective import Objective
    from landscaper_hpc.work.landscape import Landscape

_NOISE_POINTS = 16
_BATCH = 16


def check(
    study: StudyFile,
    set_: Set = None,
    site: SiteFile = None,
    set_site: SetSite = None,
    device: Device = None,
    as_json: Json = False,
    traceback: Traceback = False,
) -> None:
    """Try everything that `run` will do: load what a study names, prove that the loss is deterministic and its Hessian
    right, and evaluate some points.

    \b
    Examples:
      landscaper-hpc check study.yaml
      landscaper-hpc check study.yaml --set precision=float64 --json
    """
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.objective.checkpoints import list_some
    from landscaper_hpc.work import identity, tasks
    from landscaper_hpc.work.campaign import Plan

    loaded = load_study(study, set_)
    grid = loaded.make_grid()
    say = _silent if as_json else print
    found: dict[str, dict[str, Any]] = {}
    say(f"study     {loaded.name}: {' × '.join(map(str, grid.shape))} = {grid.size:,} points for each checkpoint")
    missing = []
    where = load_site(site, device=device, overrides=set_site)
    for landscape in Plan.of(loaded, where, where.runs() / loaded.name).landscapes:
        if loaded.train is not None and not landscape.file.exists():
            missing.append(landscape.name)
            say(f"{landscape.name:<9} checkpoint not there yet: `landscaper-hpc run` trains it with {loaded.train}")
            continue
        objective = tasks.load(landscape)
        not_covered = identity.data_identity(landscape, objective)["not_covered"]
        loss, notices = identity.prove_objective(landscape, objective)
        moving = sum(p.numel() for p in objective.parameters.values())
        found[landscape.name] = {
            "loss": loss,
            "parameters": moving,
            "tensors": len(objective.parameters),
            "examples": sum(objective.examples),
            "batches": len(objective.batches),
            "notices": notices,
        }
        say(
            f"{landscape.name:<9} loss {loss:.6g}, the same twice; {moving:,} parameters in "
            f"{len(objective.parameters)} tensors move; {sum(objective.examples):,} examples in "
            f"{len(objective.batches)} batches; {loaded.precision} on {landscape.site.device}"
        )
        if not_covered:
            notices.append(f"no hash covers {', '.join(not_covered)}: changes there are noticed by losses alone")
        if elsewhere := list(map(str, objective.files_elsewhere)):
            notices.append(
                f"read from outside the task's and the study's folders: {list_some(elsewhere)}; of these, what is in "
                "the data is covered by a hash, and changes of all else are noticed by losses alone"
            )
        for notice in notices:
            say(f"{'':<9} notice: {notice}")
        found[landscape.name]["hessian"], words = _hessian(landscape, objective)
        if words:
            say(f"{'':<9} {words}")
        found[landscape.name]["rounding"], words = _noise(tasks, landscape, objective)
        say(f"{'':<9} {words}")
    if len(missing) == len(loaded.checkpoints):
        raise InputError(f"checkpoints: none is there yet ({', '.join(missing)}); `landscaper-hpc run` trains them")
    say("ok")
    if as_json:
        about = {"study": loaded.name, "shape": list(grid.shape), "points": grid.size, "precision": loaded.precision}
        print(strict_json.dumps({**about, "device": where.device, "checkpoints": found, "not_there_yet": missing}))


def _silent(words: str) -> None:
    """Says nothing."""


def _hessian(landscape: Landscape, objective: Objective) -> tuple[dict[str, Any] | None, str]:
    """Prove the derivatives that the study needs, one Hessian-vector product included: what was found, and in words."""
    from landscaper_hpc.directions.from_study import make_directions, needs_hessian
    from landscaper_hpc.directions.hessian import Hessian
    from landscaper_hpc.objective.precision import arithmetic, one_thread
    from landscaper_hpc.progress import silent

    study = landscape.study
    facts, words = None, ""
    if needs_hessian(study):
        with one_thread(objective.device), arithmetic("float32", objective.device):
            hessian = Hessian(objective)
            hessian @ hessian.start(study.directions.seed)
        agreement = "cannot be told here" if hessian.agreement is None else f"{hessian.agreement:.1g}"
        words = f"Hessian-vector products by {hessian.described}; against differences of losses: {agreement}"
        facts = {"products": hessian.described, "agreement": hessian.agreement}
    if study.directions.kind in ("gradient", "trajectory", "file"):
        make_directions(study, objective, silent)
    return facts, words


def _noise(tasks: ModuleType, landscape: Landscape, objective: Objective) -> tuple[dict[str, Any], str]:
    """What rounding does to the losses, along random directions of the study's range: as numbers, and in words."""
    from dataclasses import replace

    import numpy as np

    from landscaper_hpc.directions.directions import random_directions
    from landscaper_hpc.losses.evaluate import prove_for
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
    batch = _BATCH if study.batch == "auto" else study.batch
    prove_for(objective, directions, grid.corners())
    found = precision_report(objective, wide, directions, points, batch)
    words = (
        f"rounding in {study.precision} moves losses by up to {found.error:.2g} ({found.relative:.1g} of the "
        f"loss; {found.points} random points): pairs that persist less than {found.noise_persistence:.2g} are noise"
    )
    return {"error": found.error, "relative": found.relative, "noise_persistence": found.noise_persistence}, words
