"""A study's folder while something works in it: one run at a time, and a log."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from landscaper_hpc.errors import InputError, Stopped
from landscaper_hpc.store.folder import RunFolder

log = logging.getLogger(__name__)


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


def restarts() -> int:
    """How often Slurm has started this job again. Where it has, the job's former self may be still at work, on a node
    that Slurm has lost."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


@contextmanager
def log_to(inside: RunFolder) -> Iterator[None]:
    """Times and events go to `logs/run.log`, so that results hold none."""
    folder = inside.logs
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(inside.log)
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk must not add to the error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
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
        raise
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        with suppress(OSError):  # a full disk was reported already
            handler.close()
