"""`landscaper-hpc status`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from landscaper_hpc import strict_json

_BETWEEN_LOOKS = 5.0


def status(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="a study's folder, or a sweep's", show_default=False)
    ],
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="with --failed: only this one", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="look again every few seconds, until all is done")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="print the errors of what failed, and their logs")] = False,
) -> None:
    """Say what is done, running, pending and failed, how fast it goes and what it waits for. Safe beside a run.

    \b
    Examples:
      landscaper-hpc status runs/my_study
      landscaper-hpc status runs/my_sweep --watch
      landscaper-hpc status runs/my_study --failed epoch_90.3.0
      landscaper-hpc status runs/my_study --json
    """
    from landscaper_hpc import status as states
    from landscaper_hpc.errors import InputError

    if key is not None and not failed:
        raise InputError(f"{key}: a key goes with --failed, as in status {folder} --failed {key}")
    found = states.status(folder)
    if failed:
        _print_failed(folder, key)
    elif as_json:
        print(strict_json.dumps(found))
    elif watch:
        _watch(folder)
    else:
        print("\n".join(states.lines(found, folder)))


def _print_failed(folder: Path, key: str | None) -> None:
    from landscaper_hpc import status as states

    errors = states.failures(folder, key)
    for name, error in errors.items():
        print(f"{name}\n{error.rstrip()}")
        print("".join(f"log: {log}\n" for log in states.logs_of(folder, error)))
    if not errors:
        print("nothing has failed")


def _watch(folder: Path) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from landscaper_hpc import status as states

    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            found = states.status(folder)
            live.update(Text("\n".join(states.lines(found, folder))), refresh=True)
            if found["report"] and found["points_done"] == found["points"]:
                return
            time.sleep(_BETWEEN_LOOKS)
