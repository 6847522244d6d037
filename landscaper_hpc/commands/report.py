"""`landscaper-hpc report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="of a study or of a sweep", show_default=False)],
) -> None:
    """Write the report of a finished study again, or a sweep's table and report from what is finished of it.

    \b
    Example:
      landscaper-hpc report runs/my_study
    """
    from landscaper_hpc.store.sweep_record import is_sweep

    if is_sweep(folder):
        from landscaper_hpc.report.sweep_page import write_sweep as write
    else:
        from landscaper_hpc.report.page import write_report as write
    print(write(folder))
