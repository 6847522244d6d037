"""`landscaper-hpc init`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="a new folder", show_default=False)],
) -> None:
    """Write a small commented study that runs as it is, to be filled in with your own model.

    \b
    Example:
      landscaper-hpc init my_study && landscaper-hpc run my_study/study.yaml
    """
    from landscaper_hpc.errors import InputError

    # pip compiles the templates, Python files that they are: leave that out
    templates = [t for t in (files("landscaper_hpc") / "templates" / "init").iterdir() if t.is_file()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = [t.name for t in templates if (folder / t.name).exists()]
        if taken:
            raise InputError(f"{folder}: {', '.join(sorted(taken))} is there already; choose another folder")
        for template in sorted(templates, key=lambda t: t.name):
            (folder / template.name).write_text(template.read_text())
            print(folder / template.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None
    print(f"next: landscaper-hpc run {folder / 'study.yaml'}")
