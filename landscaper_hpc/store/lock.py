"""A study's folder while something works in it: one run at a time, and a log."""

from __future__ import annotations

import fcntl
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from landscaper_hpc.errors import InputError, Stopped, is_fault
from landscaper_hpc.store.folder import RunFolder
from landscaper_hpc.store.heartbeat import end_heartbeats
from landscaper_hpc.variables import number

log = logging.getLogger(__name__)

_PROGRAM = ("landscaper-hpc", "cli.py", "__main__.py")


@contextmanager
def only_one(folder: Path, stop: Callable[[], bool] | None = None) -> Iterator[None]:
    """Two runs in one folder would do everything twice. The lock dies with its process, however that ends.

    A second run is refused. With `stop` it waits instead for the end of the first, until that returns True (`Stopped`).
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = RunFolder(folder).lock.open("a")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another folder with --out") from None
    with stream:
        while not _lock(stream):
            if stop is None and _lock_soon(stream):
                break
            if stop is None:
                raise InputError(
                    f"{folder}: another run is at work there; wait for it, or choose another folder with --out"
                )
            if stop():
                raise Stopped
            time.sleep(1)
        yield


def _lock(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # a second run would do no harm, and everything twice
        log.warning("%s: the file system has no locks (%s); going on without", stream.name, error.strerror)
    return True


def _lock_soon(stream: IO[str]) -> bool:
    """Whoever looks whether there is a run has the lock for a moment."""
    time.sleep(0.2)
    return _lock(stream)


def is_locked(folder: Path) -> bool:
    """Whether a run is at work in the folder, as far as its file system tells."""
    try:
        with RunFolder(folder).lock.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def restarts() -> int:
    """How often Slurm has started this job again. Where it has, the job's former self may be still at work, on a node
    that Slurm has lost."""
    return number("SLURM_RESTART_COUNT")


@contextmanager
def log_to(inside: RunFolder, first: bool = True, launcher: Sequence[str] = ()) -> Iterator[None]:
    """Times and events go to `logs/run.log`, so that results hold none; and how to go on to a file beside it. Of ranks
    the first does so, and the others tell of nothing but faults of the program. `launcher`: the words that started it.
    """
    inside.logs.mkdir(parents=True, exist_ok=True)
    if first and Path(sys.argv[0]).name in _PROGRAM:
        with suppress(OSError):
            words = [*launcher, "landscaper-hpc", *sys.argv[1:]]
            inside.command.write_text(json.dumps({"folder": str(Path.cwd()), "words": words}) + "\n")
    handler = logging.FileHandler(inside.log)
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk must not add to the error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    if not first:
        handler.setLevel(logging.CRITICAL)
    logger = logging.getLogger("landscaper_hpc")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    except BaseException as error:
        log.error("stopped: %s: %s", type(error).__name__, error)
        if way := getattr(error, "traceback", ""):
            log.error("the way to it:\n%s", way)
        if is_fault(error):
            log.critical("the way to it:", exc_info=error)
        raise
    finally:
        end_heartbeats()
        logger.removeHandler(handler)
        logger.setLevel(before)
        with suppress(OSError):  # a full disk was reported already
            handler.close()
