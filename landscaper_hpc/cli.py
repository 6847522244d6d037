"""The command `landscaper-hpc`: one module per command in `commands/`, each importing what is heavy only when it runs.

Exit codes: 0 done, 2 bad input (one line that says what to do), 130 Ctrl-C with everything finished kept, 75 ended by
the scheduler and to be started again, 1 anything else.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from landscaper_hpc.commands.check import check
from landscaper_hpc.commands.connect import connect
from landscaper_hpc.commands.doctor import doctor
from landscaper_hpc.commands.init import init
from landscaper_hpc.commands.plan import plan
from landscaper_hpc.commands.report import report
from landscaper_hpc.commands.run import run
from landscaper_hpc.commands.similarity import similarity
from landscaper_hpc.commands.status import status
from landscaper_hpc.commands.sweep import sweep
from landscaper_hpc.commands.topology import topology
from landscaper_hpc.errors import InputError, Stopped, TaskFailed

app = typer.Typer(
    name="landscaper-hpc",
    help="Loss landscapes in 2 to 5 dimensions and more: directions, sharded evaluation, exact merge trees, SMAD.",
    epilog="Start with: landscaper-hpc init my_study, then landscaper-hpc run my_study/study.yaml",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn what a command raises into one message and the exit code that belongs to it."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except InputError as error:
            _fail(" ".join(str(error).split()), 2)
        except KeyboardInterrupt:
            _fail("stopped; everything finished so far is kept, the same command goes on from there", 130)
        except Stopped:
            _fail("time is up; everything finished so far is kept, start me again to go on", 75)
        except TaskFailed as failure:
            # the traceback of the task says what happened; ours would only say that it did
            _fail(f"{failure}\neverything finished so far is kept; mend the cause and run the same command again", 1)
        except BrokenPipeError:
            # the reader of our output went away (| head); Python would complain once more at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)

    return wrapped


for _command in (init, check, plan, run, sweep, status, topology, report, connect, similarity, doctor):
    app.command()(guarded(_command))


def main() -> None:
    """The console script."""
    app(prog_name="landscaper-hpc")


def _fail(message: str, code: int) -> None:
    print(f"landscaper-hpc: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
