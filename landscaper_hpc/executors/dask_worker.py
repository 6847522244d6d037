"""What Dask's workers do for `DaskMapper`: a task is a few items, one after the other."""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import socket
import sys
import threading
import time

from distributed import get_worker

from landscaper_hpc.executors.local import _call
from landscaper_hpc.objective.device import LOCAL_RANK
from landscaper_hpc.progress import Progress, silent
from landscaper_hpc.store.heartbeat import end_heartbeats

_REPORT_SECONDS = 0.2
LONGEST_TASK_SECONDS = 1.0

_one_task = threading.Lock()  # a worker may have several threads; models and data are one process's
_running: str | None = None
_stopped: set[str] = set()
_local_rank: socket.socket | None = None


class Rest(Exception):
    """A task that took long gives back what it has not begun; its argument: how many items are done."""


def work(key: str, task: bytes, run: str, tell: bool) -> None:
    # pickled by the client and not by Dask: the scheduler passes it on and needs none of the modules
    global _running
    with _one_task:
        _running = run
        try:
            if run in _stopped:
                return
            claim_local_rank()
            function, items = pickle.loads(task)
            began = time.monotonic()
            for number, item in enumerate(items):
                if number and (run in _stopped or time.monotonic() - began > LONGEST_TASK_SECONDS):
                    raise Rest(number)
                _call(function, item, _reporter(run, key, number) if tell else silent)
        finally:
            _running = None


def stop(run: str) -> bool:
    """Start no task of this run any more; whether one is running. Others' runs are no matter."""
    _stopped.add(run)
    if not _one_task.locked():
        end_heartbeats()
    return _running == run


def _reporter(run: str, key: str, number: int) -> Progress:
    worker = get_worker()
    last = -float("inf")

    def progress(done: int, total: int) -> None:
        nonlocal last
        if done >= total or time.monotonic() - last > _REPORT_SECONDS:
            last = time.monotonic()
            worker.log_event(run, (key, number, int(done), int(total)))

    return progress


def claim_local_rank() -> None:
    """The lowest number that no other worker of this scheduler and job has on this node, for one process per GPU.

    Claimed by a name that the kernel frees with the process: what starts workers gives them no such number.
    """
    global _local_rank
    if _local_rank is not None or sys.platform != "linux":
        return
    job = [os.environ.get(name, "") for name in ("SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES")]
    whose = hashlib.sha256(repr((os.getuid(), get_worker().scheduler.address, job)).encode()).hexdigest()
    for rank in itertools.count():
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0landscaper-hpc {whose} {rank}")
        except OSError:
            claim.close()
            continue
        os.environ[LOCAL_RANK], _local_rank = str(rank), claim
        return
