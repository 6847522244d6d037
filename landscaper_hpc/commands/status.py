"""`landscaper-hpc status`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from landscaper_hpc import streams, strict_json
from landscaper_hpc.commands.options import Json

_BETWEEN_LOOKS = 5.0
_LOOKS_AT_NOBODY = 2
"""A run that has just been started takes a moment to come."""


def status(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="a study's folder, or a sweep's", show_default=False)
    ],
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="with --failed: only this one", show_default=False)
    ] = None,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="look every few seconds, while somebody works on it")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="print the errors of what failed, and their logs")] = False,
) -> None:
    """Say what is done, running, pending and failed, how fast it goes and what it waits for. Safe beside a run.

    It lists and reads no loss: what proves that all is as it was written is the same `run` again.

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
    for keys, error in states.same_errors(errors):
        print(f"{', '.join(keys)}" + (f" ({len(keys)} with the same error)" if len(keys) > 1 else ""))
        print(error.rstrip())
        print("".join(f"log: {log}\n" for log in states.logs_of(folder, error)))
    if not errors:
        print("nothing has failed")


def _watch(folder: Path) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from landscaper_hpc import status as states

    left, said = 0, ""
    try:
        with Live(console=Console(), auto_refresh=False, transient=True) as live:
            while True:
                found = states.status(folder)
                said = "\n".join(states.lines(found, folder))
                live.update(Text(said), refresh=True)
                left = left + 1 if states.abandoned(found) else 0
                if states.finished(found) or left == _LOOKS_AT_NOBODY or streams.lost_output():
                    break
                time.sleep(_BETWEEN_LOOKS)
    finally:  # Ctrl-C is how most people end it
        print(said)  # unbroken: it may end in a command to be given again
