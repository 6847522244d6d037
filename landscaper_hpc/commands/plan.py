"""`landscaper-hpc plan`."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landscaper_hpc import strict_json
from landscaper_hpc.commands.options import (
    Device,
    Json,
    Out,
    Set,
    SetSite,
    SiteFile,
    StudyFile,
    Traceback,
    Workers,
    load_site,
    load_study,
    planned_folder,
)
from landscaper_hpc.commands.sweep import plan_sweep

if TYPE_CHECKING:
    from landscaper_hpc.executors.job_plan import JobPlan
    from landscaper_hpc.study.site import Site
    from landscaper_hpc.study.study import Study
    from landscaper_hpc.work.estimate import Estimate


def plan(
    study: StudyFile,
    set_: Set = None,
    site: SiteFile = None,
    set_site: SetSite = None,
    out: Out = None,
    workers: Workers = None,
    device: Device = None,
    rate: Annotated[
        float | None,
        typer.Option(min=1e-9, help="points per second of one process, where it was measured on the site's own nodes"),
    ] = None,
    as_json: Json = False,
    traceback: Traceback = False,
) -> None:
    """Say what a study will cost before anything is spent: points, shards, files, bytes, time.

    Measures the rate of evaluation on this machine for a second or two; of a checkpoint that has still to be trained,
    and whose loss is slow, on a piece of its data. For a Slurm site also job arrays, walltimes,
    memory, node-hours and what limits it; that works on a laptop, too, where --rate tells what a GPU of the site does.

    \b
    Examples:
      landscaper-hpc plan study.yaml
      landscaper-hpc plan study.yaml --set grid.count=41 --device cuda
      landscaper-hpc plan study.yaml --site perlmutter --set-site slurm.nodes=8 --json
      landscaper-hpc plan study.yaml --site perlmutter --rate 20000
    """
    from landscaper_hpc.study.schema import read_yaml
    from landscaper_hpc.study.sweep_file import SweepConfig

    where = load_site(site, workers, device, overrides=set_site)
    if "study" in read_yaml(study):
        plan_sweep(SweepConfig.load(study, set_ or ()), where, out, as_json)
        return
    loaded = load_study(study, set_)
    folder, missing = planned_folder(loaded.name, where, out)
    tell(loaded, where, folder, missing, rate, as_json)


def tell(
    loaded: Study, where: Site, folder: Path, missing: str = "", rate: float | None = None, as_json: bool = False
) -> None:
    """Print what a study will cost; `missing`: its folder in words, where that is on another machine."""
    from landscaper_hpc.status import duration
    from landscaper_hpc.work.estimate import estimate
    from landscaper_hpc.work.memory import bytes_in_words

    here = _here(where)
    found = estimate(loaded, here, folder)
    if rate is not None:
        found = replace(found, points_per_second=rate)
    jobs = _jobs(loaded, where, found, folder) if where.executor == "slurm" else None
    existing = next(p for p in [folder.absolute(), *folder.absolute().parents] if p.exists())
    free = None if missing else shutil.disk_usage(existing).free
    if as_json:
        derived = {
            name: getattr(found, name) for name in ("seconds", "device_hours", "confirm_seconds", "error_bars_seconds")
        }
        where_to = {"folder": missing or str(folder), "free_bytes": free}
        on = {"device": where.device, "measured_on": None if rate else here.device}
        slurm = {} if jobs is None else {"slurm": asdict(jobs)}
        print(strict_json.dumps({**asdict(found), **derived, **where_to, **on, **slurm}))
        return
    shape = " × ".join(map(str, found.shape))
    if loaded.sampling is not None:
        print(f"points      {found.points:,}, {found.assumed}")
    elif loaded.scope is None:
        print(f"points      {found.points:,} ({found.landscapes} × {shape})")
    else:
        whole = loaded.make_grid().size * found.landscapes
        print(f"points      about {found.points:,} of {whole:,} ({found.landscapes} × {shape})")
        print(f"            {found.assumed}")
    print(f"parameters  {found.parameters:,}, {loaded.directions.n} {loaded.directions.kind} directions")
    if found.shards:
        print(f"shards      {found.shards:,} of at most {found.points_per_shard:,} points")
    print(f"files       about {found.files:,}, {bytes_in_words(found.store_bytes)} in all")
    print(
        f"rate        {found.points_per_second:,.3g} points/s in one process "
        f"({loaded.precision}, batches of {found.batch}, {'as given' if rate else here.device})"
    )
    few, whole = found.examples
    if rate is None and few < whole:
        print(f"            told from {few:,} of {whole:,} examples: the loss is slow; a run may find a faster way")
    if rate is None and here.device != where.device:
        print(f"            there is no {where.device} here: measured on the CPU; give what a GPU does by --rate")
    for stage in found.memory:
        host = f", and {bytes_in_words(stage.host)} of the host's" if where.device.startswith("cuda") else ""
        print(f"memory      {stage.name}: {bytes_in_words(stage.device)} in one process{host}")
    if where.gpus_per_model > 1:
        print(f"            of {where.gpus_per_model} that hold the model together, as gpus_per_model says")
    print("            what the loss holds between its operations comes on top")
    unit = "GPU-hours" if where.device.startswith("cuda") else "core-hours"
    print(
        f"evaluation  about {duration(found.seconds)} with {found.workers} workers, {found.device_hours:.3g} {unit}; "
        "directions and training come before it"
    )
    if loaded.scope is not None and loaded.scope.climb is not None:
        print(f"climb       {loaded.scope.climb:,} random points, their descents and floods come on top")
    most, fewer = ("", "") if found.counted else ("up to ", "; fewer where there are fewer minima")
    followed = "confirm     " if loaded.sampling is None else "network     "
    ends = "minima" if loaded.sampling is None else "minima and random starts"
    ends = "minima in the scope" if loaded.scope is not None else ends
    few, whole = found.batches_of_data
    if found.confirmed:
        of = f" of the loss over {few:,} of {whole:,} batches" if few < whole else ""
        said = f"{found.confirmed:,} {ends}, about {found.gradients:,} gradients{of} (a tenth to twice as many)"
        print(f"{followed}{most}{said}, about {duration(found.confirm_seconds)}{fewer}")
    if found.checked:
        of = f" of {whole:,} batches, and on the {few:,}" if few < whole else ""
        said = f"{found.checked:,} minima and saddles on all data{of}"
        print(f"error bars  {most}{said}, about {duration(found.error_bars_seconds)}{fewer}")
    if jobs is not None:
        _print_jobs(jobs)
    if free is None:
        print(f"folder      {missing}: of another machine, not looked at")
        return
    print(f"folder      {folder}, {bytes_in_words(free)} free" + (": NOT ENOUGH" if free < found.store_bytes else ""))


def _here(site: Site) -> Site:
    """The site as far as it can be measured here: its nodes may have GPUs where this machine has none."""
    if site.executor != "slurm" or not site.device.startswith("cuda"):
        return site
    import torch

    return site if torch.cuda.device_count() else site.model_copy(update={"device": "cpu"})


def _jobs(study: Study, site: Site, found: Estimate, folder: Path) -> JobPlan:
    from landscaper_hpc.executors.job_plan import job_plan
    from landscaper_hpc.objective.device import peak_resident
    from landscaper_hpc.work.campaign import Campaign

    campaign = Campaign.of(study, site, folder)
    return job_plan(campaign, site, found.shards, found.points_per_shard, found.points_per_second, peak_resident())


def _print_jobs(plan: JobPlan) -> None:
    from landscaper_hpc.status import duration
    from landscaper_hpc.work.memory import bytes_in_words

    for job in plan.jobs:
        sizes = f"job arrays of {', '.join(map(str, job.arrays))} × " if job.stage == "evaluate" else ""
        nodes = f"{job.nodes} node{'s' if job.nodes > 1 else ''}"
        gpus = f", {job.gpus_per_node} GPUs" if job.gpus_per_node else ""
        kind = f" ({job.constraint})" if job.constraint else ""
        memory = f", {job.memory}" if job.memory else ""
        print(
            f"{job.stage:<11} {sizes}{nodes}{kind} of {job.tasks_per_node} processes{gpus}{memory}, walltime "
            f"{duration(60 * job.minutes)}"
        )
    print(f"memory      about {bytes_in_words(plan.memory)} in one process, as measured here")
    if not plan.processes:
        return
    again = f", each job started {plan.runs} times" if plan.runs > 1 else ""
    print(f"on Slurm    evaluation about {duration(plan.seconds)} with {plan.processes:,} processes{again}")
    print(
        f"node-hours  {plan.node_hours:.3g} of evaluation, at most {plan.most_other_node_hours:.3g} of the other jobs"
    )
    for limit in plan.limits:
        print(f"limited by  {limit}")
