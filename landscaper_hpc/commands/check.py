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
    from landscaper_hpc.work.landscape import Landscape
    from landscaper_hpc.work.trial import Trial

_NOISE_POINTS = 16


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
    from landscaper_hpc.errors import InputError, list_some
    from landscaper_hpc.work.campaign import Plan
    from landscaper_hpc.work.trial import try_out

    loaded = load_study(study, set_)
    grid = loaded.make_grid()
    points = grid.size if loaded.sampling is None else loaded.sampling.points
    say = _silent if as_json else print
    found: dict[str, dict[str, Any]] = {}
    if loaded.sampling is None:
        say(f"study     {loaded.name}: {' × '.join(map(str, grid.shape))} = {points:,} points for each checkpoint")
    else:
        say(f"study     {loaded.name}: {points:,} scattered points for each checkpoint")
    if loaded.scope is not None:
        say("scope     only the lowest part is evaluated; `landscaper-hpc plan` predicts of how many points")
    missing = []
    where = load_site(site, device=device, overrides=set_site)
    for landscape in Plan.of(loaded, where, where.runs() / loaded.name).landscapes:
        if loaded.train is not None and not landscape.file.exists():
            missing.append(landscape.name)
            say(f"{landscape.name:<9} checkpoint not there yet: `landscaper-hpc run` trains it with {loaded.train}")
            continue
        trial = try_out(landscape)
        objective, notices = trial.objective, [*trial.notices]
        moving = sum(p.numel() for p in objective.parameters.values())
        found[landscape.name] = {
            "loss": trial.loss,
            "parameters": moving,
            "tensors": len(objective.parameters),
            "examples": sum(objective.examples),
            "batches": len(objective.batches),
            "notices": notices,
        }
        say(
            f"{landscape.name:<9} loss {trial.loss:.6g}, the same twice; {moving:,} parameters in "
            f"{len(objective.parameters)} tensors move; {sum(objective.examples):,} examples in "
            f"{len(objective.batches)} batches; {loaded.precision} on {landscape.site.device}"
        )
        if not_covered := trial.data["not_covered"]:
            notices.append(f"no hash covers {', '.join(not_covered)}: changes there are noticed by losses alone")
        if elsewhere := list(map(str, objective.files_elsewhere)):
            notices.append(
                f"read from outside the task's and the study's folders: {list_some(elsewhere)}; of these, what is in "
                "the data is covered by a hash, and changes of all else are noticed by losses alone"
            )
        for notice in notices:
            say(f"{'':<9} notice: {notice}")
        found[landscape.name]["hessian"], words = _hessian(trial)
        if words:
            say(f"{'':<9} {words}")
        found[landscape.name]["rounding"], words = _noise(landscape, trial)
        say(f"{'':<9} {words}")
    if len(missing) == len(loaded.checkpoints):
        raise InputError(f"checkpoints: none is there yet ({', '.join(missing)}); `landscaper-hpc run` trains them")
    say("ok")
    if as_json:
        about = {"study": loaded.name, "shape": list(grid.shape), "points": points, "precision": loaded.precision}
        print(strict_json.dumps({**about, "device": where.device, "checkpoints": found, "not_there_yet": missing}))


def _silent(words: str) -> None:
    """Says nothing."""


def _hessian(trial: Trial) -> tuple[dict[str, Any] | None, str]:
    """How Hessian-vector products are made, where the study needs them: as facts, and in words."""
    if trial.hessian is None:
        return None, ""
    described, off = trial.hessian.described, trial.hessian.agreement
    agreement = "cannot be told here" if off is None else f"{off:.1g}"
    words = f"Hessian-vector products by {described}; against differences of losses: {agreement}"
    return {"products": described, "agreement": off}, words


def _noise(landscape: Landscape, trial: Trial) -> tuple[dict[str, Any], str]:
    """What rounding does to the losses, at random points of the study's range: as numbers, and in words."""
    from dataclasses import replace

    import numpy as np

    from landscaper_hpc.losses.noise import precision_report
    from landscaper_hpc.work.hangs import refused_if_it_hangs
    from landscaper_hpc.work.loaded import load

    study = landscape.study
    generator = np.random.default_rng(study.directions.seed)
    points = np.stack([generator.choice(c, _NOISE_POINTS) for c in trial.grid.coordinates()], axis=1)
    wide = trial.objective
    if study.precision != "float64":
        wide = load(replace(landscape, study=study.model_copy(update={"precision": "float64"})))
    with refused_if_it_hangs(landscape, trial.objective):
        found = precision_report(trial.objective, wide, trial.directions, points, trial.batch)
    words = (
        f"rounding in {study.precision} moves losses by up to {found.error:.2g} ({found.relative:.1g} of the "
        f"loss; {found.points} random points): pairs that persist less than {found.noise_persistence:.2g} are noise"
    )
    return {"error": found.error, "relative": found.relative, "noise_persistence": found.noise_persistence}, words
