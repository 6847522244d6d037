"""`landscaper-hpc run`."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landscaper_hpc import strict_json
from landscaper_hpc.commands.options import (
    AcceptVersions,
    Device,
    Executor,
    Json,
    Out,
    Quiet,
    Set,
    SetSite,
    SiteFile,
    StudyFile,
    Traceback,
    Verbose,
    Workers,
    load_site,
    load_study,
)
from landscaper_hpc.commands.tables import show

if TYPE_CHECKING:
    from landscaper_hpc.study.site import Site
    from landscaper_hpc.study.study import Study
    from landscaper_hpc.work.campaign import Campaign

SIDE_BY_SIDE = 4
"""The most checkpoints that are columns of a table."""


def run(
    study: StudyFile,
    set_: Set = None,
    site: SiteFile = None,
    set_site: SetSite = None,
    out: Out = None,
    workers: Workers = None,
    device: Device = None,
    executor: Executor = None,
    stage: Annotated[
        str | None, typer.Option(help="do one part only, with --executor mpi: prepare, evaluate or finish")
    ] = None,
    retry_failed: Annotated[bool, typer.Option(help="give quarantined shards new attempts")] = False,
    accept_versions: AcceptVersions = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="with a Slurm site: submit the jobs and end; run again to look or go on")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="with a Slurm site: print the sbatch scripts and do nothing")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    traceback: Traceback = False,
) -> None:
    """Run a study: directions, losses, merge tree, report. Run it again to resume.

    Ctrl-C or kill at any moment; the same command goes on with what is missing and gives the same bytes.

    \b
    Examples:
      landscaper-hpc run study.yaml
      landscaper-hpc run study.yaml --set grid.count=41 --out runs/fine
      landscaper-hpc run study.yaml --set scope.share=0.01 --out runs/lowest
      landscaper-hpc run study.yaml --set sampling.points=4096 --out runs/network
      landscaper-hpc run study.yaml --workers 8 --device cuda
      landscaper-hpc run study.yaml --quiet --json > numbers.json
      mpiexec -n 16 landscaper-hpc run study.yaml --executor mpi
      landscaper-hpc run study.yaml --site perlmutter --set-site slurm.account=m1234 --detach
    """
    from landscaper_hpc.store.folder import StudyFolder

    start = time.monotonic()
    loaded = load_study(study, set_)
    where = load_site(site, workers, device, executor, set_site, accept_versions)
    folder = where.folder(loaded.name, out)
    if dry_run:
        _print_scripts(loaded, where, folder)
        return
    finished = os.path.exists(StudyFolder(folder).results)  # noqa: PTH110 (which raises where a name is too long)
    if where.executor == "local" and not finished:
        from landscaper_hpc.work.preloaded import start_loading_early

        start_loading_early(where.gpus_per_model > 1)  # beside all that is loaded here
    from landscaper_hpc import orchestrate

    results = orchestrate.run(loaded, where, folder, retry_failed, stage, detach)
    if results is None:
        return  # another rank tells, or there is nothing to tell yet
    if as_json:
        print(strict_json.dumps(results))
        return
    print_table(results)
    if loaded.whole:
        print_refinement(results)
    for item in results["landscapes"]:
        for answer in answers_of(item):
            if answer["sentence"] is not None:
                print(f"{item['name']}: {answer['sentence']}")
    inside = StudyFolder(folder)
    group = results["landscapes"][0]["name"] + (
        "" if loaded.whole else "/sampling" if loaded.scope is None else "/scope"
    )
    print(f"\nreport:  {inside.report}\nnumbers: {inside.results}")
    print(f"losses:  xarray.open_zarr({str(inside.store)!r}, group={group!r})")
    print(f"took {time.monotonic() - start:.0f} s")
    if not loaded.whole:
        return
    finer = finer_grid(loaded)
    kept = [given for given in set_ or [] if given.partition("=")[0] not in finer]
    changed = [*kept, *(f"{key}={count}" for key, count in finer.items())]
    same = _options(set=changed, site=site, set_site=set_site, workers=workers, device=device, executor=executor)
    landscape = results["landscapes"][0]["name"]
    print(
        f"\nnext: a finer grid   {_command('run', study, *same, '--out', f'{folder}_{max(finer.values())}')}"
        f"\n      other graph    {_command('topology', folder, '--landscape', landscape, '--connectivity', 'full')}"
        f"\n      your own model  {_command('init', 'my_study')}"
    )


def answers_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """What a landscape's entry of the results tells beside or in place of its merge tree."""
    if "scope" in entry:
        return [entry["scope"], *([entry["confirmed"]] if "confirmed" in entry else [])]
    if "sampling" in entry:
        return [entry["sampling"], entry["sampling"]["network"]]
    return [entry["confirmed"], entry["error_bars"], entry["error_bars"]["all_data"]]


def finer_grid(study: Study) -> dict[str, int]:
    """Keys of a study, and their values that halve the distance between its points."""
    if study.grid.axes is None:
        keys = {"grid.count": study.grid.count}
    else:
        keys = {f"grid.axes.{i}.count": axis.count for i, axis in enumerate(study.grid.axes)}
    return {key: 2 * count - 1 for key, count in keys.items()}


def _options(**given: Any) -> list[str]:
    """What was given on the command line, as it has to be given again."""
    words = []
    for name, value in given.items():
        for item in value if isinstance(value, list) else [] if value is None else [value]:
            words += [f"--{name.replace('_', '-')}", str(item)]
    return words


def _command(*words: object) -> str:
    return shlex.join(["landscaper-hpc", *map(str, words)])


def _print_scripts(study: Study, site: Site, folder: Path) -> None:
    from landscaper_hpc.work.campaign import Campaign

    study.check_files()
    campaign = Campaign.of(study, site, folder)
    print_scripts(campaign, site, sum(item.planned_shards() for item in campaign.landscapes))


def print_scripts(campaign: Campaign, site: Site, shards: int) -> None:
    """The sbatch scripts of a campaign of so many shards."""
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.executors import scripts

    if site.executor != "slurm":
        raise InputError(
            "--dry-run needs a site with executor: slurm; `landscaper-hpc plan` tells what others will cost"
        )
    for text in scripts.scripts(campaign, site, scripts.room(site).arrays(shards, others=3)).values():
        print(text)


def print_refinement(results: dict[str, Any]) -> None:
    """The numbers of every checkpoint's nested grids, and what came of them in a sentence."""
    from rich.table import Table

    from landscaper_hpc.report.refined import HEADER, sentence, table

    for item in results["landscapes"]:
        if rows := table(item):
            shown = Table(title=f"{item['name']} on nested grids")
            for name in HEADER:
                shown.add_column(name, justify="right")
            for row in rows:
                shown.add_row(*row)
            show(shown, 120)
    print()
    for item in results["landscapes"]:
        print(sentence(item))


def print_table(results: dict[str, Any]) -> None:
    """The numbers of every checkpoint, side by side; of more than four those that matter most, below each other."""
    from rich.table import Table

    from landscaper_hpc.report.quantities import shown

    landscapes = results["landscapes"]
    table = Table(title=f"{results['study']}, {landscapes[0]['connectivity']} connectivity")
    table.add_column("checkpoint")
    if len(landscapes) <= SIDE_BY_SIDE:
        for item in landscapes:
            table.add_column(item["name"], justify="right")
        for row in shown("run"):
            values = [row.value(item) for item in landscapes]
            if any(value is not None for value in values):
                table.add_row(row.label, *map(row.text, values))
        width = 40 + 24 * len(landscapes)
    else:
        columns = [row for row in shown("sweep") if any(row.value(item) is not None for item in landscapes)]
        for row in columns:
            table.add_column(row.label, justify="right")
        for item in landscapes:
            table.add_row(item["name"], *(row.text(row.value(item)) for row in columns))
        width = 40 + 14 * len(columns)
    show(table, width)
    for name, notices in results["provenance"].get("notices", {}).items():
        for notice in notices:
            print(f"notice: {name}: {notice}")
