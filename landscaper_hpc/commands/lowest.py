"""`landscaper-hpc lowest`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landscaper_hpc.commands.options import (
    AcceptVersions,
    Device,
    Executor,
    Out,
    Set,
    SetSite,
    SiteFile,
    StudyFile,
    Traceback,
    Workers,
    load_site,
    load_study,
)

if TYPE_CHECKING:
    from landscaper_hpc.work.landscape import Landscape


def lowest(
    study: StudyFile,
    share: Annotated[float | None, typer.Option(help="up to the level below which this share of the grid lies")] = None,
    below: Annotated[float | None, typer.Option(help="up to this loss")] = None,
    points: Annotated[int | None, typer.Option(help="as far up as so many evaluations lead")] = None,
    descents: Annotated[
        int | None,
        typer.Option(help="random descents that bound what was not met; default: 300, or 1 % of the grid"),
    ] = None,
    climb: Annotated[
        int | None, typer.Option(help="also estimate the mean climb of the whole grid, from so many random points")
    ] = None,
    set_: Set = None,
    site: SiteFile = None,
    set_site: SetSite = None,
    out: Out = None,
    workers: Workers = None,
    device: Device = None,
    executor: Executor = None,
    accept_versions: AcceptVersions = False,
    traceback: Traceback = False,
) -> None:
    """Find the lowest part of a study's landscapes from a few percent of their points, without the rest of the grid.

    Minima, basins and pairs below the level are exact in all that is met; random descents say how much was not. Ctrl-C
    or kill at any moment: every point that was evaluated is kept, also for a higher level.

    \b
    Examples:
      landscaper-hpc lowest study.yaml --share 0.01
      landscaper-hpc lowest study.yaml --share 0.01 --set grid.count=41 --out runs/fine
      landscaper-hpc lowest study.yaml --points 200000 --executor dask
      landscaper-hpc lowest study.yaml --share 0.01 --climb 1000
    """
    from contextlib import closing

    from landscaper_hpc.errors import InputError
    from landscaper_hpc.progress import Bars
    from landscaper_hpc.registry import EXECUTORS
    from landscaper_hpc.sampling.climb import refuse_bad_starts
    from landscaper_hpc.sampling.lowest import refuse_bad_scope
    from landscaper_hpc.store.lock import log_to, only_one
    from landscaper_hpc.work import stages
    from landscaper_hpc.work.campaign import Campaign
    from landscaper_hpc.work.executor import Launcher
    from landscaper_hpc.work.lowest import lowest_of
    from landscaper_hpc.work.mapped import Mapped

    loaded = load_study(study, set_)
    where = load_site(site, workers, device, executor, set_site, accept_versions)
    scope = {"share": share, "below": below, "points": points, "descents": descents}
    refuse_bad_scope(loaded.make_grid().shape, **scope)  # type: ignore[arg-type]
    if climb is not None:
        refuse_bad_starts(climb)
    made = EXECUTORS.load(where.executor)
    if isinstance(made, Launcher):
        raise InputError(
            f"site.executor: {where.executor} does not deal out single points; use --executor local, or dask, whose "
            "workers may be jobs of Slurm"
        )
    campaign = Campaign.of(loaded, where, where.folder(loaded.name, out))
    mapper = made(where, campaign)
    with closing(mapper), only_one(campaign.folder), log_to(campaign.inside), Bars() as bars:
        stages.perform(campaign, Mapped(mapper, bars), "prepare")
        told = [lowest_of(item, mapper, bars, climb, **scope) for item in campaign.landscapes]
    for item, numbers in zip(campaign.landscapes, told, strict=True):
        _tell(item, numbers)


def _tell(item: Landscape, found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from landscaper_hpc.report import text

    table = Table("below the level", "", title=item.name)
    rows = {
        "points evaluated": f"{sum(found['evaluated'].values()):,}, {found['share_evaluated']:.2%} of the grid's",
        "level": text.number(found["level"]),
        "points below it": f"{found['points_below']:,}",
        "lowest loss": text.number(found["lowest"]),
        "minima": text.number(found["minima"]),
        "pairs": text.number(found["pairs"]),
        "mean climb": text.number(found["mean_climb"]),
        "SMAD": text.number(found["smad"]),
    }
    for label, value in rows.items():
        table.add_row(label, value)
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    print(
        f"{found['ended_elsewhere']} of {found['random_descents']} random descents ended in a minimum below the level "
        f"that had not been met: before them at most {found['unmet_at_most']:.1%} of the grid descended to such (95 %)"
    )
    if "whole_grid" in found:
        whole = found["whole_grid"]
        said = f"{text.number(whole['mean'])}, {text.bounds(whole['interval'])} (95 %)"
        drawn = f"{whole['starts']:,} random points, which descend to {whole['minima']:,} minima"
        print(f"mean climb of the whole grid: {said}, from {drawn}")
    print(f"\nnumbers: {item.inside.lowest_numbers(item.name)}\ntree:    {item.inside.lowest_tree(item.name)}")
