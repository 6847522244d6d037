"""`landscaper-hpc sweep`."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landscaper_hpc import strict_json
from landscaper_hpc.commands.options import (
    AcceptVersions,
    Device,
    Executor,
    Json,
    Quiet,
    SetSite,
    SiteFile,
    Traceback,
    Verbose,
    Workers,
    load_site,
    planned_folder,
)

if TYPE_CHECKING:
    from landscaper_hpc.study.site import Site
    from landscaper_hpc.study.sweep_file import SweepConfig


def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a sweep's YAML file, or a study's", show_default=False)],
    checkpoint: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="one study for each file that matches (quote it)")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE,…", help="values of a key, e.g. --set grid.count=21,41; repeatable"),
    ] = None,
    directions_from: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="use this checkpoint's directions (a name, or a file) for all"),
    ] = None,
    each_layer: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="move one layer at a time: modules by name, e.g. 'transformer.h.*'"),
    ] = None,
    site: SiteFile = None,
    set_site: SetSite = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="the sweep's folder; default: runs/<sweep's name>")
    ] = None,
    workers: Workers = None,
    device: Device = None,
    executor: Executor = None,
    retry_failed: Annotated[bool, typer.Option(help="give what is quarantined new attempts")] = False,
    accept_versions: AcceptVersions = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="with a Slurm site: submit the jobs and end; run again to look or go on")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="list the studies, points and files, and run nothing")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    traceback: Traceback = False,
) -> None:
    """Run a study for many values and checkpoints, from one pool of shards.

    Run it again to resume, or when there are new checkpoints.
    Each combination is a study of its own, in FOLDER/studies. The table (sweep.parquet, sweep.csv) and the report
    (sweep.html) are made at the end, and at any time by `landscaper-hpc report FOLDER`.

    \b
    Examples:
      landscaper-hpc sweep study.yaml --checkpoint 'runs/*/step_*.pt' --set grid.count=21,41
      landscaper-hpc sweep study.yaml --checkpoint 'runs/*/step_*.pt' --directions-from runs/a/step_9000.pt
      landscaper-hpc sweep study.yaml --each-layer 'transformer.h.*'
      landscaper-hpc sweep sweep.yaml --dry-run
      landscaper-hpc sweep sweep.yaml --site perlmutter --detach
      srun landscaper-hpc sweep sweep.yaml --executor mpi
    """
    from landscaper_hpc.orchestrate import open_sweep, run_campaign
    from landscaper_hpc.store.folder import SweepFolder
    from landscaper_hpc.study.sweep_file import SweepConfig

    start = time.monotonic()
    config = SweepConfig.load(file, set_ or (), checkpoint, directions_from)
    if each_layer is not None:
        config = _of_each_layer(config, each_layer)
    where = load_site(site, workers, device, executor, set_site, accept_versions)
    if dry_run:
        plan_sweep(config, where, out, as_json)
        return
    folder = where.folder(config.name, out)
    campaign = open_sweep(config, where, folder)
    if run_campaign(campaign, where, retry_failed, detach=detach):
        inside = SweepFolder(folder)
        if as_json:
            files = {"report": inside.page, "table": inside.csv, "parquet": inside.parquet, "studies": inside.studies}
            counts = {"count": len(campaign.entries), "worked_on": len(campaign.plans)}
            print(strict_json.dumps({key: str(file) for key, file in files.items()} | counts))
            return
        print(f"{len(campaign.entries)} studies, {len(campaign.plans)} of them worked on now")
        print(f"report:  {inside.page}\ntable:   {inside.csv}, {inside.parquet}")
        print(f"studies: {inside.studies}\ntook {time.monotonic() - start:.0f} s")


def _of_each_layer(config: SweepConfig, pattern: str) -> SweepConfig:
    """The sweep whose studies move one layer each, of the model that the study's first checkpoint has."""
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.objective.layers import each_layer
    from landscaper_hpc.study.study import Study
    from landscaper_hpc.study.sweep_file import combinations

    if "only" in (*config.product, *config.zip):
        raise InputError("--each-layer and values of only exclude each other; keep one of them")
    study = Study.of(config.data, config.file, combinations(config)[0][1])
    layers = each_layer(study.path(study.task), study.checkpoints[0].options, pattern)
    return replace(config, product={**config.product, "only": layers})


def plan_sweep(config: SweepConfig, site: Site, out: Path | None, as_json: bool) -> None:
    """Print what a sweep consists of, before anything is written."""
    from landscaper_hpc.store.place import refuse_inside
    from landscaper_hpc.work.estimate import files_of
    from landscaper_hpc.work.sweep import Studies

    folder, elsewhere = planned_folder(config.name, site, out)
    refuse_inside(folder.resolve())
    made = Studies(config, site, folder.resolve())
    shards = files = 0
    for study in made.studies:
        grid, landscapes = study.make_grid(), len(study.checkpoints)
        count = grid.n_shards(grid.shard_shape(site.points_per_shard(grid)))
        shards += landscapes * count
        files += files_of(landscapes, count)
    points = sum(entry.points for entry in made.entries)
    names = [entry.name for entry in made.entries]
    if as_json:
        counts = {"points": points, "shards": shards, "files": files, "shared_directions": len(made.shared)}
        print(strict_json.dumps({"studies": names, **counts, "folder": elsewhere or str(folder)}))
        return
    print(f"studies     {len(names):,}: {', '.join(names[:3])}{', …, ' + names[-1] if len(names) > 3 else ''}")
    print(f"points      {points:,}")
    print(f"shards      {shards:,}")
    print(f"files       about {files:,}: 2 for each shard; fewer with a larger shard_points in the site")
    shared = "" if not made.shared else f", {len(made.shared)} shared"
    print(f"directions  {'each study its own' if not made.shared else config.directions_from}{shared}")
    print(f"folder      {elsewhere or folder}")
