"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from landscaper_hpc.study.site import Site
    from landscaper_hpc.study.study import Study
    from landscaper_hpc.work.landscape import Landscape

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="the study's YAML file", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="override a key of the study, e.g. --set grid.count=11; repeatable"
    ),
]
SiteFile = Annotated[
    str | None,
    typer.Option("--site", metavar="SITE", help="where it runs: a profile (YAML), or the name of a shipped one"),
]
SetSite = Annotated[
    list[str] | None,
    typer.Option(
        "--set-site", metavar="KEY=VALUE", help="override a key of the site, e.g. --set-site slurm.nodes=8; repeatable"
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="the study's folder; default: runs/<study name>")
]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="processes; default: one for each core or GPU")]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda or cuda:<number>")]
AcceptVersions = Annotated[
    bool,
    typer.Option(
        "--accept-versions", help="go on with what other versions of torch, numpy or Python, or another device, began"
    ),
]

Json = Annotated[bool, typer.Option("--json", help="print one JSON object")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress: nothing but results, warnings and errors")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="tell on standard error what goes to the log, too")]
"""`exit_codes.guarded` looks at both."""

Traceback = Annotated[bool, typer.Option("--traceback", help="show the way to a mistake in the task's code, or ours")]
"""`exit_codes.guarded` looks at it."""

Executor = Annotated[
    str | None, typer.Option("--executor", help="serial, local, slurm, dask, or mpi under mpiexec or srun")
]


def load_study(file: Path, overrides: list[str] | None) -> Study:
    from landscaper_hpc.study.study import Study

    return Study.load(file, overrides or ())


def load_site(
    file: str | None,
    workers: int | None = None,
    device: str | None = None,
    executor: str | None = None,
    overrides: list[str] | None = None,
    accept_versions: bool = False,
) -> Site:
    from landscaper_hpc.study.site import Site

    given = {"workers": workers, "device": device, "executor": executor, "accept_versions": accept_versions or None}
    return Site.load(
        file, [*(overrides or ()), *(f"{key}={value}" for key, value in given.items() if value is not None)]
    )


def load_landscapes(file: Path, study: Study, site: Site, names: Sequence[str]) -> list[Landscape]:
    """The landscapes of these checkpoints of a study that is only looked at; of the first, where none is named."""
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.work.campaign import Plan

    landscapes = {item.name: item for item in Plan.of(study, site, Path()).landscapes}
    for name in names:
        if name not in landscapes:
            raise InputError(f"{name!r} is no checkpoint of {file}; choose from {', '.join(landscapes)}")
    return [landscapes[name] for name in names or list(landscapes)[:1]]


def planned_folder(name: str, site: Site, out: Path | None) -> tuple[Path, str]:
    """Where a study or sweep will be; and as the site says it, where that is no place of this machine."""
    from landscaper_hpc.errors import InputError

    try:
        return site.folder(name, out), ""
    except InputError:
        if site.executor != "slurm":
            raise
        return Path("runs") / name, f"{site.scratch}/{name}"
