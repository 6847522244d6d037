"""`landscaper-hpc report`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
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
    from landscaper_hpc.store.folder import StudyFolder, SweepFolder
    from landscaper_hpc.store.sweep_record import is_sweep

    swept = is_sweep(folder)
    if swept:
        from landscaper_hpc.report.sweep_page import write_sweep as write
    else:
        from landscaper_hpc.report.page import write_report as write
    made_of: object = None
    while made_of != (found := _state(SweepFolder(folder).results() if swept else [StudyFolder(folder).results])):
        # again where a run that ended meanwhile has written its own, of more, which this one took the place of
        made_of, file = found, write(folder)
    print(file)


def _state(files: Iterable[Path]) -> list[tuple[str, int]]:
    """Which files those are that are there: none is changed but by another in its place."""
    found = []
    for file in files:
        with suppress(OSError):
            found.append((str(file), file.stat().st_ino))
    return found
