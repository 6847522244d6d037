"""The process that the workers of this machine are forked from. It has loaded torch and nothing else, so that torch is
loaded once, and no thread or GPU context is inherited."""

from __future__ import annotations

import atexit
import multiprocessing as mp
import os
import signal
from contextlib import suppress
from multiprocessing import forkserver

_LOADED = ["torch", "zarr", "landscaper_hpc.work.tasks"]
"""What every worker needs and takes long to load."""


def start_loading() -> None:
    """Let it begin, where it has not."""
    mp.set_forkserver_preload(_LOADED)
    forkserver.ensure_running()


def start_loading_early() -> None:
    """Let it begin before it is known to be needed, in a process that is a command of ours: whoever needs it waits for
    less, and where nobody does, what it loads does not outlive the command, whose output it would hold open."""
    start_loading()
    atexit.register(_end, forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
