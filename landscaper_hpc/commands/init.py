"""`landscaper-hpc init`."""

from __future__ import annotations

import shlex
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer


class Kind(StrEnum):
    """A folder of `templates/init` each."""

    CLASSIFIER = "classifier"
    PINN = "pinn"
    LANGUAGE_MODEL = "language-model"
    GRAPH = "graph"
    LIGHTNING = "lightning"


def init(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER", help="a new folder; with --sbatch any, by default this one", show_default=False
        ),
    ] = None,
    kind: Annotated[
        Kind, typer.Option("--kind", help="what the model is: a task file that is near to yours")
    ] = Kind.CLASSIFIER,
    sbatch: Annotated[
        bool, typer.Option("--sbatch", help="write the sbatch scripts for a Slurm cluster instead of a study")
    ] = False,
) -> None:
    """Write a small commented study that runs as it is, to be filled in with your own model.

    \b
    Examples:
      landscaper-hpc init my_study && landscaper-hpc run my_study/study.yaml
      landscaper-hpc init my_study --kind language-model
      landscaper-hpc init --sbatch my_study && sbatch --nodes=2 my_study/landscape.sbatch my_study/study.yaml
    """
    from landscaper_hpc.errors import InputError

    if folder is None and not sbatch:
        raise InputError("FOLDER is missing; name a new folder: landscaper-hpc init my_study")
    folder = folder or Path()
    # pip compiles the templates, Python files that they are: leave that out
    templates = files("landscaper_hpc") / "templates"
    # a kind has its own instead of what all share
    rooms = [templates / "sbatch"] if sbatch else [templates / "init", templates / "init" / kind.value]
    by_name = {each.name: each for room in rooms for each in room.iterdir() if each.is_file()}
    written = [by_name[name] for name in sorted(by_name)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = [t.name for t in written if (folder / t.name).exists()]
        if taken:
            raise InputError(f"{folder}: {', '.join(taken)} is there already; choose another folder")
        for template in written:
            (folder / template.name).write_bytes(template.read_bytes())
            print(folder / template.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None
    if not sbatch:
        print(f"next: landscaper-hpc run {shlex.quote(str(folder / 'study.yaml'))}")
        return
    script = shlex.quote(str(folder / "landscape.sbatch"))
    print(f"next: sbatch --nodes=2 --ntasks-per-node=4 {script} study.yaml; each script says more")
