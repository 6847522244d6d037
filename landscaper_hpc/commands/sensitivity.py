"""`landscaper-hpc sensitivity`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from landscaper_hpc.commands.options import (
    AcceptVersions,
    Out,
    Set,
    SetSite,
    SiteFile,
    StudyFile,
    load_site,
    load_study,
)

if TYPE_CHECKING:
    from landscaper_hpc.store.landscape import LandscapeStore
    from landscaper_hpc.work.landscape import Landscape


def sensitivity(
    study: StudyFile,
    set_: Set = None,
    site: SiteFile = None,
    set_site: SetSite = None,
    out: Out = None,
    accept_versions: AcceptVersions = False,
) -> None:
    """Say how a finished study's numbers depend on range, resolution, connectivity and number of directions.

    Parts of its one grid are compared, so no point is evaluated; with `confirm` in the study their minima are followed
    by gradients. Leaves a table (CSV) and a figure beside the report.

    \b
    Example:
      landscaper-hpc sensitivity study.yaml
    """
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.work.campaign import Plan

    loaded, where = load_study(study, set_), load_site(site, overrides=set_site, accept_versions=accept_versions)
    for item in Plan.of(loaded, where, where.folder(loaded.name, out)).landscapes:
        store = item.open()
        store.refuse_other(loaded.science(item.checkpoint))
        store.refuse_lowest()
        if store.n_done() < store.n_shards():
            raise InputError(f"{store.folder}: not all of it is evaluated; `landscaper-hpc run {study}` does it")
        _tell(item, store)


def _tell(item: Landscape, store: LandscapeStore) -> None:
    import csv
    import io

    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from landscaper_hpc.errors import InputError
    from landscaper_hpc.files import publish
    from landscaper_hpc.report import figures, text
    from landscaper_hpc.topology.decided import DECIDED
    from landscaper_hpc.topology.drawing import PROFILE_POINTS
    from landscaper_hpc.topology.sensitivity import sensitivity as compared

    inside, confirm = item.inside, None
    if store.grid.size > PROFILE_POINTS:
        raise InputError(f"{store.folder}: {store.grid.size:,} points are more than are compared ({PROFILE_POINTS:,})")
    values = store.loss()
    place = [int(np.argmin(np.abs(c))) for c in store.grid.coordinates()]
    if item.study.confirm is not None:
        from landscaper_hpc.work.confirmed_parts import ConfirmedParts  # torch

        confirm = ConfirmedParts(item, values)
    rows = compared(values, place, confirm)
    if not rows:
        raise InputError(f"{store.folder}: no part of the grid has 5 points about its middle; give a count such as 17")
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
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    if any(row.smad_decided_by for row in rows):
        print(f"SMAD decided by: {DECIDED}")
    sheet, figure = inside.sensitivity(store.name), inside.sensitivity_figure(store.name)
    publish(sheet, written.getvalue().encode())
    with figures.style():
        publish(figure, figures.png(figures.draw_sensitivity(rows)))
    print(f"table:  {sheet}\nfigure: {figure}\n")
