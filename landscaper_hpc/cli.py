"""The command `landscaper-hpc`: one module per command in `commands/`, each importing what is heavy only when it runs.

Exit codes: 0 done, 2 bad input (one line that says what to do), 130 Ctrl-C with everything finished kept, 75 ended by
the scheduler and to be started again, 1 anything else.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperOption

from landscaper_hpc import streams
from landscaper_hpc.commands.check import check
from landscaper_hpc.commands.connect import connect
from landscaper_hpc.commands.doctor import doctor
from landscaper_hpc.commands.export import export
from landscaper_hpc.commands.import_ import import_
from landscaper_hpc.commands.init import init
from landscaper_hpc.commands.outcomes import outcomes
from landscaper_hpc.commands.plan import plan
from landscaper_hpc.commands.report import report
from landscaper_hpc.commands.run import run
from landscaper_hpc.commands.sensitivity import sensitivity
from landscaper_hpc.commands.similarity import similarity
from landscaper_hpc.commands.status import status
from landscaper_hpc.commands.sweep import sweep
from landscaper_hpc.commands.topology import topology
from landscaper_hpc.exit_codes import guarded

_HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="landscaper-hpc",
    help="Loss landscapes in 2 to 5 dimensions and more: directions, sharded evaluation, exact merge trees, SMAD.",
    epilog="Start with: landscaper-hpc init my_study, then landscaper-hpc run my_study/study.yaml",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
)


_MAKE_FILES = (init, run, sweep, report, sensitivity, export, import_)  # the others are for what they print

_COMMANDS = (
    init,
    check,
    plan,
    run,
    sweep,
    status,
    topology,
    report,
    sensitivity,
    connect,
    similarity,
    outcomes,
    import_,
    export,
    doctor,
)


def _name(text: str) -> Path:
    """Python takes the empty name for this folder, and it comes of variables that are not set. `~` is the home folder
    after a `=` too, where shells leave it as it is."""
    if not text:
        raise typer.BadParameter("it is empty; give a name, or . for this folder")
    return Path(text) if os.path.lexists(text) else Path(os.path.expanduser(text))  # noqa: PTH111


def _refuse_empty_names(command: Callable[..., None]) -> None:
    command.__annotations__ = get_type_hints(command, include_extras=True)
    for hint in command.__annotations__.values():
        if get_args(hint) and Path in (get_args(hint)[0], *get_args(get_args(hint)[0])):
            get_args(hint)[1].parser = _name


class _Once(TyperCommand):
    """Refuses an option that has one value and is given twice: all but the last would be left out without a word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(args=[*args])
        for option in given:
            if isinstance(option, TyperOption) and not (option.multiple or option.is_flag) and given.count(option) > 1:
                raise typer.BadParameter("it is given more than once, and has one value; keep one", ctx, option)
        return super().parse_args(ctx, args)


for _command in _COMMANDS:
    _refuse_empty_names(_command)
    app.command(_command.__name__.strip("_"), cls=_Once, context_settings=_HELP)(
        guarded(_command, output=_command not in _MAKE_FILES)
    )


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"landscaper-hpc {version('landscaper_hpc')}")
        raise typer.Exit


@app.callback()
def _all(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_say_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script."""
    streams.steady()
    # or Python looks through all that was imported for garbage: 0.3 s with matplotlib, 0.6 with torch
    atexit.register(gc.freeze)
    app(prog_name="landscaper-hpc")


if __name__ == "__main__":
    main()
