"""What a command raises, as one message and an exit code.

0 done, 2 bad input (one line that says what to do), 130 Ctrl-C with everything finished kept, 75 ended by the scheduler
and to be started again, 1 anything else.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from landscaper_hpc import streams, variables
from landscaper_hpc.errors import (
    TIME_IS_UP,
    InputError,
    Stopped,
    TaskFailed,
    comes_of_ctrl_c,
    ctrl_c_is_certain,
    is_fault,
    lacking,
    said_of_fault,
    user_frames,
    user_traceback,
)
from landscaper_hpc.progress import heard

_STOPPED = "stopped; everything finished so far is kept, the same command goes on from there"
_LOOP = "Symlink loop from "
"""What Python before 3.13 says of a link that leads to itself."""


def guarded(command: Callable[..., None], output: bool = False) -> Callable[..., None]:
    """Turn what a command raises into one message and the exit code that belongs to it.

    A mistake in the user's code is one line too; with the command's option `traceback` the way to it comes before.
    Where the command is for its `output`, and not for files, it has failed if that could not be written.
    """

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        try:
            variables.settle()
            with ctrl_c_is_certain(), heard(bool(options.get("quiet")), bool(options.get("verbose"))):
                command(*arguments, **options)
            if output and (why := streams.lost_output()):
                _fail(f"standard output could not be written: {why}", 1)
        except InputError as error:
            hint = _show(error.traceback, options)
            _fail(" ".join(str(error).split()) + hint, 2, error)
        except KeyboardInterrupt as error:
            _fail(_STOPPED, 130, error)
        except Stopped as error:
            _fail(TIME_IS_UP, 75, error)
        except TaskFailed as error:
            hint = _show(f"{error}\n", options)
            kept = "everything finished so far is kept; mend the cause and run the same command again"
            _fail(f"{error.sentence}; {kept}{hint}", 1, error)
        except (Exception, SystemExit) as error:
            if comes_of_ctrl_c(error):
                _fail(_STOPPED, 130, error)
            if why := variables.refused(error):
                _fail(why, 2, error)
            frames = user_frames(error)
            if loop := _link_to_itself(error):
                _fail(f"{loop}: is a link that leads to itself; remove it", 2, error)
            if (why := lacking(error)) and not (frames and isinstance(error, MemoryError)):
                _fail(why, 2, error)
            if not frames and isinstance(error, OSError) and error.filename is not None and error.strerror:
                # a name that is too long, a folder that may not be entered, a file where a folder should be
                _fail(
                    f"{os.fsdecode(error.filename)}: {error.strerror.lower()}; correct the name, or what is there",
                    2,
                    error,
                )
            if is_fault(error) and options.get("traceback") is False:
                _fail(f"{said_of_fault(error)}; please report it with what --traceback shows", 1, error)
            if not frames:
                raise
            hint = _show(user_traceback(error), options)
            # what the user's code ends in its midst would pass for done
            said = f"sys.exit({error.code!r})" if isinstance(error, SystemExit) else " ".join(str(error).split())[:300]
            _fail(f"{frames[-1].filename}, line {frames[-1].lineno}: {type(error).__name__}: {said}{hint}", 2, error)

    return wrapped


def _link_to_itself(error: BaseException) -> str:
    """The link, where the error is of one that leads to itself."""
    if isinstance(error, RuntimeError) and str(error).startswith(_LOOP):
        return str(error).removeprefix(_LOOP)
    if isinstance(error, OSError) and error.errno == errno.ELOOP and error.filename is not None:
        return os.fsdecode(error.filename)
    return ""


def _show(traceback: str, options: Mapping[str, Any]) -> str:
    """Print the way to a mistake where it is asked for; what to say where it could be."""
    if options.get("traceback"):
        print(traceback, end="", file=sys.stderr)
    return " (--traceback shows the way to it)" if traceback and options.get("traceback") is False else ""


def _fail(message: str, code: int, error: BaseException | None = None) -> None:
    """End with a message, unless another rank tells it."""
    if not getattr(error, "told", False):
        print(f"landscaper-hpc: {message}", file=sys.stderr)
    sys.exit(code)
