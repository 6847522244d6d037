"""`landscaper-hpc doctor`."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landscaper_hpc import strict_json
from landscaper_hpc.commands.options import Json, SetSite, SiteFile, load_site

if TYPE_CHECKING:
    from landscaper_hpc.study.site import Site


Finding = tuple[str, bool | None, str]
"""What was looked at; whether it works (None: optional, and not there); what was found."""


def doctor(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="where studies will be written; default: as the site says")
    ] = None,
    site: SiteFile = None,
    set_site: SetSite = None,
    as_json: Json = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="with a Slurm site: print the sbatch scripts that its jobs get, no more")
    ] = False,
) -> None:
    """Check what can be checked about this machine: packages, cores, memory, GPUs, MPI, Slurm, the file system.

    With a Slurm site also its commands, limits, account, partition and qos, whether sbatch would take a job, and, by
    really starting two ranks, whether launcher and MPI library fit. Exits with 1 where something that is needed does
    not work.

    \b
    Examples:
      landscaper-hpc doctor
      landscaper-hpc doctor /scratch/me
      landscaper-hpc doctor --site perlmutter --set-site slurm.account=m1234
    """
    where = load_site(site, overrides=set_site)
    if dry_run:
        _print_scripts(folder, where)
        return
    findings = []
    for name, ok, finding in _findings(folder, where):
        findings.append({"name": name, "ok": ok, "finding": finding})
        if not as_json:
            print(f"{ {True: 'ok', False: 'BAD', None: '–'}[ok]:<4} {name:<12} {finding}", flush=True)
    bad = [item["name"] for item in findings if item["ok"] is False]
    if as_json:
        print(strict_json.dumps({"ok": not bad, "findings": findings}))
    if bad:
        sys.exit(1)


def _print_scripts(folder: Path | None, site: Site) -> None:
    """Those of a study with work for every task."""
    from landscaper_hpc.commands.run import print_scripts
    from landscaper_hpc.executors.slurm_site_checks import folder_of
    from landscaper_hpc.work.campaign import Campaign

    print_scripts(Campaign((folder or folder_of(site)) / "a_study", ()), site, site.slurm.nodes * site.slurm.tasks)


def _findings(folder: Path | None, site: Site) -> Iterator[Finding]:
    """Each look by itself: one that fails is a finding, and the others go on."""
    from landscaper_hpc.executors import slurm_site_checks as site_checks

    slurm = site.executor == "slurm"
    looks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("packages", lambda: _packages(slurm)),
        ("machine", lambda: [_memory()]),
        ("gpu", lambda: [_gpus()]),
        ("commands", _commands),
        ("file system", lambda: [_file_system(folder or site_checks.folder_of(site))]),
        ("merge tree", lambda: [_compiler()]),
    ]
    if slurm:
        looks += site_checks.looks(site)
    for name, look in looks:
        try:
            yield from look()
        except Exception as error:
            yield name, False, f"could not be looked at: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _packages(slurm: bool) -> Iterator[Finding]:
    yield "python", sys.version_info >= (3, 11), sys.version.split()[0]
    for package in ("torch", "numpy", "numba", "zarr", "xarray"):
        yield package, _version(package) is not None, _version(package) or "not installed"
    for package, extra in (("mpi4py", "mpi"), ("submitit", "slurm"), ("dask-jobqueue", "dask")):
        found = _version(package)
        needed = slurm and package == "submitit"
        yield (
            package,
            True if found else False if needed else None,
            found or f"not installed: pip install 'landscaper-hpc[{extra}]'",
        )


def _commands() -> Iterator[Finding]:
    for command, purpose in (("mpiexec", "MPI"), ("srun", "Slurm"), ("apptainer", "containers")):
        place = shutil.which(command)
        yield command, True if place else None, place or f"not on the PATH: no {purpose} from here"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0))
    return "machine", True, f"{cores} cores, {memory.total / 1e9:.1f} GB of memory, {memory.available / 1e9:.1f} free"


def _gpus() -> Finding:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return "gpu", True if names else None, ", ".join(names) or "none that torch sees: studies run on the CPU"


def _file_system(folder: Path) -> Finding:
    """The store needs rename to replace a file, and fsync of files and folders."""
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.files import publish

    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor") as scratch:
            for content in (b"old", b"new"):
                publish(Path(scratch) / "file", content)
            works = (Path(scratch) / "file").read_bytes() == b"new"
        space = shutil.disk_usage(folder)
        inodes = os.statvfs(folder).f_favail
    except (OSError, InputError) as error:
        return "file system", False, f"{folder.resolve()}: cannot be written ({error})"
    return (
        "file system",
        works,
        f"{folder.resolve()}: atomic rename and fsync work, {space.free / 1e9:.0f} GB and {inodes:,} files free",
    )


def _compiler() -> Finding:
    import numpy as np

    from landscaper_hpc.topology import merge_tree

    tree = merge_tree(np.array([1.0, 0.0, 2.0, 0.5]))
    return "merge tree", tree.minima.tolist() == [1, 3], "compiled kernels work"
