"""`landscaper-hpc plan`."""

from __future__ import annotations

import shutil
from dataclasses import asdict

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
)
from landscaper_hpc.commands.sweep import plan_sweep


def plan(
    study: StudyFile,
    set_: Set = None,
    site: SiteFile = None,
    set_site: SetSite = None,
    out: Out = None,
    workers: Workers = None,
    device: Device = None,
    as_json: Json = False,
    traceback: Traceback = False,
) -> None:
    """Say what a study will cost before anything is spent: points, shards, files, bytes, time.

    Measures the rate of evaluation on this machine for about two seconds.

    \b
    Examples:
      landscaper-hpc plan study.yaml
      landscaper-hpc plan study.yaml --set grid.count=41 --device cuda
      landscaper-hpc plan study.yaml --site perlmutter --set-site slurm.nodes=8 --json
    """
    from landscaper_hpc.status import duration
    from landscaper_hpc.study.schema import read_yaml
    from landscaper_hpc.study.sweep_file import SweepConfig
    from landscaper_hpc.work.estimate import estimate

    where = load_site(site, workers, device, overrides=set_site)
    if "study" in read_yaml(study):
        plan_sweep(SweepConfig.load(study, set_ or ()), where, out, as_json)
        return
    loaded = load_study(study, set_)
    folder = where.folder(loaded.name, out)
    found = estimate(loaded, where, folder)
    existing = next(p for p in [folder.absolute(), *folder.absolute().parents] if p.exists())
    free = shutil.disk_usage(existing).free
    if as_json:
        derived = {
            name: getattr(found, name) for name in ("seconds", "device_hours", "confirm_seconds", "error_bars_seconds")
        }
        where_to = {"folder": str(folder), "free_bytes": free}
        print(strict_json.dumps({**asdict(found), **derived, **where_to, "device": where.device}))
        return
    shape = " × ".join(map(str, found.shape))
    if loaded.scope is None:
        print(f"points      {found.points:,} ({found.landscapes} × {shape})")
    else:
        whole = loaded.make_grid().size * found.landscapes
        print(f"points      about {found.points:,} of {whole:,} ({found.landscapes} × {shape})")
        print(f"            {found.assumed}")
    print(f"parameters  {found.parameters:,}, {loaded.directions.n} {loaded.directions.kind} directions")
    print(f"shards      {found.shards:,} of at most {found.points_per_shard:,} points")
    print(f"files       about {found.files:,}, {_bytes(found.store_bytes)} in all")
    print(
        f"rate        {found.points_per_second:,.3g} points/s in one process "
        f"({loaded.precision}, batches of {found.batch}, {where.device})"
    )
    unit = "GPU-hours" if where.device.startswith("cuda") else "core-hours"
    print(
        f"evaluation  about {duration(found.seconds)} with {found.workers} workers, {found.device_hours:.3g} {unit}; "
        "directions and training come before it"
    )
    if loaded.scope is not None and loaded.scope.climb is not None:
        print(f"climb       {loaded.scope.climb:,} random points, their descents and floods come on top")
    most, fewer = ("", "") if found.counted else ("up to ", "; fewer where there are fewer minima")
    few, whole = found.batches_of_data
    if found.confirmed:
        of = f" of the loss over {few:,} of {whole:,} batches" if few < whole else ""
        said = f"{found.confirmed:,} minima, about {found.gradients:,} gradients{of}"
        print(f"confirm     {most}{said}, about {duration(found.confirm_seconds)}{fewer}")
    if found.checked:
        of = f" of {whole:,} batches, and on the {few:,}" if few < whole else ""
        said = f"{found.checked:,} minima and saddles on all data{of}"
        print(f"error bars  {most}{said}, about {duration(found.error_bars_seconds)}{fewer}")
    print(f"folder      {folder}, {_bytes(free)} free" + (": NOT ENOUGH" if free < found.store_bytes else ""))


def _bytes(n: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"
