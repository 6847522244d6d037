"""`landscaper-hpc sensitivity`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from landscaper_hpc.commands.options import (
    AcceptVersions,
    Out,
    Set,
    SetSite,
    SiteFile,
    StudyFile,
    Workers,
    load_site,
    load_study,
)
from landscaper_hpc.commands.tables import show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from landscaper_hpc.store.landscape import LandscapeStore
    from landscaper_hpc.study.site import Site
    from landscaper_hpc.study.study import Study
    from landscaper_hpc.topology.sensitivity import Row
    from landscaper_hpc.work.answering import Arrays, Batch, Deal
    from landscaper_hpc.work.campaign import Campaign
    from landscaper_hpc.work.landscape import Landscape

_MOST_DOUBLINGS = 6


def sensitivity(
    study: StudyFile,
    set_: Set = None,
    larger: Annotated[
        int,
        typer.Option(
            "--larger",
            metavar="N",
            min=0,
            max=_MOST_DOUBLINGS,
            help="also over twice the range, four times, … with N doublings: their points are evaluated",
        ),
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say how many points that is, and about how long it takes")
    ] = False,
    site: SiteFile = None,
    set_site: SetSite = None,
    workers: Workers = None,
    out: Out = None,
    accept_versions: AcceptVersions = False,
) -> None:
    """Say how a finished study's numbers depend on range, resolution, connectivity and number of directions.

    Parts of its one grid are compared, so no point is evaluated; with --larger, grids of larger ranges, too, and of
    those the points that they do not share. With `confirm` in the study minima are followed by gradients. Leaves a
    table (CSV) and a figure beside the report.

    \b
    Examples:
      landscaper-hpc sensitivity study.yaml
      landscaper-hpc sensitivity study.yaml --larger 2 --dry-run
      landscaper-hpc sensitivity study.yaml --larger 2
    """
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.work.campaign import Campaign

    loaded = load_study(study, set_)
    where = load_site(site, workers, overrides=set_site, accept_versions=accept_versions)
    campaign = Campaign.of(loaded, where, where.folder(loaded.name, out))
    for item in campaign.landscapes:
        store = item.open()
        store.refuse_other(loaded.science(item.checkpoint))
        store.refuse_lowest()
        if store.n_done() < store.n_shards():
            raise InputError(f"{store.folder}: not all of it is evaluated; `landscaper-hpc run {study}` does it")
        _refuse_large(store)
    if dry_run:
        _plan(loaded, where, campaign.landscapes, larger)
        return
    with ExitStack() as stack:
        deal = _dealing(stack, campaign, where) if larger else _nothing
        for item in campaign.landscapes:
            _tell(item, item.open(), larger, deal)


def _refuse_large(store: LandscapeStore) -> None:
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.topology.drawing import PROFILE_POINTS
    from landscaper_hpc.topology.sensitivity import parts

    grid = store.grid
    if grid.size > PROFILE_POINTS:
        raise InputError(f"{store.folder}: {grid.size:,} points are more than are compared ({PROFILE_POINTS:,})")
    if not list(parts(grid.shape, [0] * grid.ndim)):
        raise InputError(f"{store.folder}: no part of the grid has 5 points about its middle; give a count such as 17")


def _plan(study: Study, site: Site, landscapes: Sequence[Landscape], larger: int) -> None:
    """Print what larger ranges cost, by a short measurement of the rate."""
    from landscaper_hpc.status import duration
    from landscaper_hpc.work.estimate import estimate
    from landscaper_hpc.work.larger_ranges import to_evaluate

    points = sum(to_evaluate(item.open().grid.shape, larger) for item in landscapes)
    print(f"points      {points:,} to evaluate, of larger ranges")
    if points:
        found = estimate(study, site, landscapes[0].inside.path)
        seconds = points / (found.points_per_second * found.workers)
        print(f"evaluation  about {duration(seconds)} with {found.workers} workers")
    if study.confirm is not None:
        print("confirm     the minima of every part are followed on top, in this process")


def _dealing(stack: ExitStack, campaign: Campaign, site: Site) -> Deal:
    """Has batches done by the site's executor, while no run works in the folder."""
    from contextlib import closing

    from landscaper_hpc.errors import InputError
    from landscaper_hpc.progress import Bars
    from landscaper_hpc.registry import EXECUTORS
    from landscaper_hpc.store.lock import only_one
    from landscaper_hpc.work.answering import dealt_by
    from landscaper_hpc.work.executor import Launcher, Mapper

    executor = EXECUTORS.load(site.executor)
    if isinstance(executor, Launcher):
        raise InputError(
            f"--larger evaluates points from this command, which executor {site.executor} does not; "
            "give --set-site executor=local (or serial, or dask)"
        )
    stack.enter_context(only_one(campaign.folder))
    mapper: Mapper = stack.enter_context(closing(executor(site, campaign)))
    return dealt_by(mapper, stack.enter_context(Bars()))


def _nothing(batches: Sequence[Batch]) -> list[Arrays]:
    """Where nothing is evaluated."""
    return []


def _tell(item: Landscape, store: LandscapeStore, larger: int, deal: Deal) -> None:
    import csv
    import io

    from rich.table import Table

    from landscaper_hpc.files import publish
    from landscaper_hpc.report import figures, text
    from landscaper_hpc.topology.decided import DECIDED
    from landscaper_hpc.topology.sensitivity import sensitivity as compared
    from landscaper_hpc.work.larger_ranges import regions

    inside, confirm = item.inside, None
    rows: list[Row] = []
    for region in regions(item, larger, deal):
        if item.study.confirm is not None:
            from landscaper_hpc.work.confirmed_parts import ConfirmedParts  # torch

            confirm = ConfirmedParts(item, region.coordinates, region.values)
        rows += compared(region.values, region.checkpoint, confirm, region.share)
    rows.sort(key=lambda row: (row.directions, -row.share))
    table = Table(title=store.name)
    names = ("mean_climb", "smad", "smad_decided_by", "n_minima", *(("confirmed_minima",) if confirm else ()))
    heads = ("mean climb", "SMAD", "SMAD decided by", "minima", *(("confirmed minima",) if confirm else ()))
    for head in ("directions", "range", "points", "connectivity", *heads):
        table.add_column(head, justify="right")
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(("directions", "share_of_range", "shape", "connectivity", *names))
    for row in rows:
        numbers = [getattr(row, name) for name in names]
        said = str(row.directions), text.percent(row.share), text.shape(row.shape), row.connectivity
        table.add_row(*said, *(n if isinstance(n, str) else text.number(n) for n in numbers))
        writer.writerow((row.directions, row.share, "x".join(map(str, row.shape)), row.connectivity, *numbers))
    show(table, 110)
    if any(row.smad_decided_by for row in rows):
        print(f"SMAD decided by: {DECIDED}")
    sheet, figure = inside.sensitivity(store.name), inside.sensitivity_figure(store.name)
    publish(sheet, written.getvalue().encode())
    with figures.style():
        publish(figure, figures.png(figures.draw_sensitivity(rows)))
    print(f"table:  {sheet}\nfigure: {figure}\n")
