"""Whatever serves a Dask scheduler or client that is gone ends within a minute: somebody pays for its node.

A worker that has joined its scheduler notices the loss itself, and its nanny ends with it. One that is still starting
tries again until Dask's death time-out, which must be long: a slow file system or a thousand workers at once make a
start slow and no scheduler dead. So until it has joined, this looks whether the scheduler's port is there. Dask loads
this module as a preload.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time

import psutil
from distributed import Nanny, Scheduler, Worker
from distributed.comm import get_address_host_port
from distributed.core import Status

log = logging.getLogger("distributed.landscaper_hpc")

GONE_SECONDS = 30.0
"""How long a scheduler is not seen by a worker, or a client by its scheduler, before it is taken to be gone."""

LOOK_SECONDS = 5.0
_START_SECONDS = 60.0


def patience() -> float:
    """How many seconds the other tasks of a step may need to come: they began with this one, and load the same."""
    own = time.time() - float(psutil.Process().create_time())
    return max(_START_SECONDS, 4 * own)


def dask_setup(server: Nanny | Worker) -> None:
    threading.Thread(target=_end_without_scheduler, args=(server,), daemon=True).start()


def _end_without_scheduler(server: Nanny | Worker) -> None:
    seen = time.monotonic()
    while server.status not in (Status.closed, Status.failed):
        time.sleep(LOOK_SECONDS)
        if _joined(server) or _is_there(server.scheduler.address):
            seen = time.monotonic()
        elif time.monotonic() - seen > GONE_SECONDS:
            log.error("no scheduler at %s for %.0f s: this process ends", server.scheduler.address, GONE_SECONDS)
            os._exit(1)  # closing waits for the worker, which waits for its scheduler; a nanny's child ends with it


def _joined(server: Nanny | Worker) -> bool:
    if isinstance(server, Nanny):  # a worker that died may be starting again
        return server.process is not None and server.process.status == Status.running
    return bool(server.status == Status.running)


def _is_there(address: str) -> bool:
    """Whether the kernel at the other end accepts connections: also for a process that is too busy to answer."""
    try:
        socket.create_connection(get_address_host_port(address), timeout=LOOK_SECONDS).close()
    except OSError:
        return False
    return True


async def close_without_client(scheduler: Scheduler, start_seconds: float) -> None:
    """Close the scheduler once its client is gone, or has not come within `start_seconds`."""
    deadline = time.monotonic() + start_seconds
    while time.monotonic() < deadline:
        await asyncio.sleep(LOOK_SECONDS)
        if len(scheduler.clients) > 1:  # one is Dask's own
            deadline = time.monotonic() + GONE_SECONDS
    log.error("the client is gone: the scheduler ends, and its workers with it")
    await scheduler.close(reason="the client is gone")
