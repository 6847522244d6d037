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

_BY_SEVERAL = ["torch.distributed.fsdp", "torch._dynamo"]
"""What those need, too, who hold a model together: two seconds of processor time in each of them."""

_SAFE = "PYTHONSAFEPATH"


def start_loading(together: bool = False) -> None:
    """Let it begin, where it has not; `together`: for processes that hold a model together.

    Like the command itself it looks for no module in the current folder, where a `random.py` may lie beside the task.
    """
    mp.set_forkserver_preload([*_LOADED, *_BY_SEVERAL] if together else _LOADED)
    before = os.environ.get(_SAFE)
    os.environ[_SAFE] = "1"
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop(_SAFE)
        if before is not None:
            os.environ[_SAFE] = before


def start_loading_early(together: bool = False) -> None:
    """Let it begin before it is known to be needed, in a process that is a command of ours: whoever needs it waits for
    less, and where nobody does, what it loads does not outlive the command, whose output it would hold open."""
    start_loading(together)
    atexit.register(_end, forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
