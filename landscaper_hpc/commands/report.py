"""`landscaper-hpc report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="a study's folder", show_default=False)],
) -> None:
    """Write the report of a finished study again, from its store and results.

    \b
    Example:
      landscaper-hpc report runs/my_study
    """
    from landscaper_hpc.report import write_report

    print(write_report(folder))
