"""The process that the workers of this machine are forked from. It has loaded torch and nothing else, so that torch is
loaded once, and no thread or GPU context is inherited."""

from __future__ import annotations

import multiprocessing as mp
from multiprocessing import forkserver

_LOADED = ["torch", "zarr", "landscaper_hpc.work.tasks"]
"""What every worker needs and takes long to load."""


def start_loading() -> None:
    """Let it begin, where it has not: whoever needs it later waits for less."""
    mp.set_forkserver_preload(_LOADED)
    forkserver.ensure_running()
