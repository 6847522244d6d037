"""The exceptions that the command line turns into messages and exit codes."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sysconfig
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn


def list_some(names: Sequence[str], limit: int = 8) -> str:
    """The first few of a list of names, for an error message; in quotes where one would not be seen as it is."""
    plain = [name if name.isprintable() and name == name.strip() != "" else repr(name) for name in names[:limit]]
    return ", ".join(plain) + (f" and {len(names) - limit} more" if len(names) > limit else "")


class InputError(Exception):
    """Something the user gave cannot be used; exit code 2.

    The message is one sentence that names the key or file, says what was found, and says what to do. Where the user's
    code failed, `traceback` is the way to it, through that code alone.
    """

    def __init__(self, said: str, traceback: str = "") -> None:
        super().__init__(said)
        self.traceback = traceback


class TaskFailed(Exception):
    """A task raised something that is not bad input; exit code 1.

    The message's first line says what is lost; then comes the failure, as `failures` keeps it: where, and a sentence or
    the task's own traceback.
    """

    @property
    def sentence(self) -> str:
        """What is lost and why, without the way to it."""
        first, *lines = str(self).splitlines() or [""]
        begins = [i for i, line in enumerate(lines) if line.startswith("Traceback ")]
        if begins and begins[0] <= 1:
            lines = [line for line in lines[begins[-1] + 1 :] if not line.startswith(" ")]
            why = lines[0] if lines else ""
        else:
            why = lines[min(1, len(lines) - 1)] if lines else ""
        return f"{first.removesuffix(':')}: {why.removesuffix(':')}" if why else first


class Ending(BaseException):
    """What of ours ends work in the midst of the user's code, and may not be caught there."""


TIME_IS_UP = "time is up; everything finished so far is kept, start me again to go on"


class Stopped(Ending):
    """A worker has to end before the work does (walltime, preemption) and wants to be started again; exit code 75.

    No `Exception`: what is dropped for it is no failure.
    """


class OutOfStep(Ending):
    """Of ranks that hold a model together one raised something, its cause, where others wait for it: none can go on."""


class RankRaised(RuntimeError):
    """What the user's code raised on one of the ranks that hold a model together: all of them raise this at once, and
    may go on. `traceback` is the way through the user's code there."""

    def __init__(self, said: str, traceback: str = "") -> None:  # as it is made again of another process's
        super().__init__(said)
        self.traceback = traceback


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, for certain: the user's code may raise KeyboardInterrupt too, which is a mistake like any other."""


REPLACEABLE: list[Any] = [signal.default_int_handler]
"""What Ctrl-C does where nobody else has said anything."""


@contextmanager
def ctrl_c_is_certain() -> Iterator[None]:
    """Inside, Ctrl-C raises `Interrupted`, unless somebody else has said what it does."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not main or before not in REPLACEABLE:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted


def pressed(error: BaseException) -> bool:
    """Whether an error may be Ctrl-C, and not what the user's code made of its own."""
    if isinstance(error, Interrupted):
        return True
    main = threading.current_thread() is threading.main_thread()
    python = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, KeyboardInterrupt) and python


def comes_of_ctrl_c(error: BaseException) -> bool:
    """Whether an error is what others have made of `Interrupted`: Python itself does, where a class is being made."""
    links = [error]
    for link in links:
        links += [o for o in (link.__cause__, link.__context__) if o is not None and o not in links]
    return any(isinstance(link, Interrupted) for link in links)


def ends_work(error: BaseException) -> bool:
    """Whether an error ends work from outside the user's code, and is to be let through."""
    return isinstance(error, Ending) or pressed(error)


def leaves(error: BaseException) -> bool:
    """Whether an error is what the user's code raised to get out of its process: `SystemExit` or another one that is no
    `Exception`."""
    return not isinstance(error, Exception) and not ends_work(error)


_PACKAGE = f"{Path(__file__).resolve().parent}{os.sep}"
_INSTALLED = tuple(
    f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
)


def user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of an error's traceback that are in the user's own files."""
    return [frame for frame in traceback.extract_tb(error.__traceback__) if is_users(frame.filename)]


def is_fault(error: BaseException) -> bool:
    """Whether an error is one of the program: not what it says in words, nor the user's code or machine."""
    said_in_words = isinstance(error, InputError | TaskFailed | RankRaised | OSError | MemoryError)
    told = said_in_words or bool(lacking(error))
    return isinstance(error, Exception) and not told and not user_frames(error) and not comes_of_ctrl_c(error)


_KEPT = "everything finished so far is kept, the same command goes on"


def lacking(error: BaseException) -> str:
    """What this process was refused by the machine, and what to do, where an error tells of that; "" otherwise. Whoever
    reads a file and takes any error for damage looks here first."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EMFILE, errno.ENFILE):
        return f"too many files are open; raise the limit (ulimit -n), or use fewer processes (--workers); {_KEPT}"
    if number == errno.EFBIG:
        return f"a file would be larger than it may be here; raise the limit (ulimit -f); {_KEPT}"
    if "can't start new thread" in str(error) or (number == errno.EAGAIN and isinstance(error, BlockingIOError)):
        return (
            "no more threads or processes can be started here; raise the limits (ulimit -u, ulimit -v), or use fewer "
            f"(--workers, NUMBA_NUM_THREADS, OMP_NUM_THREADS); {_KEPT}"
        )
    memory = isinstance(error, MemoryError) or number == errno.ENOMEM or "can't allocate memory" in str(error)
    if memory or _has_no_room_for_a_library(error):
        fewer = "raise the limit (ulimit -v), or use fewer processes (--workers)"
        return f"memory ran out here; ask for more, {fewer}; {_KEPT}"
    if "No usable temporary directory" in str(error):
        return "there is no folder for temporary files that can be written; set TMPDIR to one with some room"
    if str(error) == "AF_UNIX path too long":
        return "the folder for temporary files has too long a name for sockets in it; set TMPDIR to a shorter one"
    return ""


def _has_no_room_for_a_library(error: BaseException) -> bool:
    """Whether a library could not be loaded where the memory of a process is limited: the first as the loader says it,
    the second as llvmlite does."""
    limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    said = any(words in str(error) for words in ("failed to map segment", "Could not find/load shared object file"))
    return limited and said and isinstance(error, ImportError | OSError)


def refuse_lacking(error: BaseException) -> None:
    """`InputError` for what is `lacking`, where it is."""
    if why := lacking(error):
        raise InputError(why) from error


def said_of_fault(error: BaseException) -> str:
    """A fault of the program in a part of a sentence: what, and where."""
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300].removesuffix(": ")
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(_PACKAGE)]
    if not own:
        return what
    return f"{what} (a fault of landscaper-hpc, in {Path(own[-1].filename).name}, line {own[-1].lineno})"


def user_traceback(error: BaseException) -> str:
    """An error's traceback, with what led to it, through the user's own frames; through all where there are none."""
    shown = traceback.TracebackException.from_exception(error)
    links = [shown]
    for link in links:
        links += [other for other in (link.__cause__, link.__context__) if other is not None]
    kept = [[frame for frame in link.stack if is_users(frame.filename)] for link in links]
    if any(kept) or isinstance(error, SyntaxError):  # which says itself where it is
        for link, frames in zip(links, kept, strict=True):
            link.stack = traceback.StackSummary.from_list(frames)
    return "".join(shown.format())


def is_users(file: str) -> bool:
    """Whether code in a file of this name is the user's own."""
    installed = "site-packages" in file or "dist-packages" in file
    return not file.startswith(("<", _PACKAGE, *_INSTALLED)) and not installed


def user_stack(frame: FrameType | None) -> str:
    """Where a thread is, through the user's own frames; through all where there are none."""
    frames = traceback.extract_stack(frame) if frame is not None else []
    return "".join(traceback.format_list([kept for kept in frames if is_users(kept.filename)] or list(frames)))


class WorkerLost(Exception):
    """A worker died (killed, out of memory) and took unfinished items with it; the others may have finished."""

    def again_and_again(self, times: int) -> str:
        """The sentence where that has come so many times in a row."""
        return (
            f"workers died {times} times in a row before finishing a task (out of memory?); "
            "use fewer workers (--workers), a smaller batch, or smaller shards (shard_points)"
        )


class RankLost(WorkerLost):
    """Of the processes that hold a model together one died, and the others have ended."""

    def again_and_again(self, times: int) -> str:
        return (
            f"{self}, {times} times in a row before finishing a task; divide it among more processes "
            "(gpus_per_model), move fewer parameters (only), or ask for fewer directions"
        )
