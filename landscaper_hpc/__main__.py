"""The console script `landscaper-hpc`, also as `python -m landscaper_hpc`: Ctrl-C is one line from the first moment.

What is imported here is done with before anything else is: later it would come too late.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn


def main() -> None:
    """Run the command line. Where somebody else has said what Ctrl-C does, that stays."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from landscaper_hpc import errors

    errors.REPLACEABLE.append(_leave)
    from landscaper_hpc import cli

    cli.main()


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Outside of commands nothing is under way, and an exception might be taken for a fault of what it interrupts."""
    with suppress(Exception):
        sys.stdout.flush()
        print("landscaper-hpc: stopped", file=sys.stderr, flush=True)
    os._exit(130)


if __name__ == "__main__":
    main()
