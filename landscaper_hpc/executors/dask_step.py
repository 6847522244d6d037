"""Dask's workers as the tasks of one srun (SLURMRunner), beside the scheduler and this program."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from distributed import Client, Scheduler
from distributed.security import Security
from distributed.utils import json_load_robust

from landscaper_hpc.errors import InputError
from landscaper_hpc.executors import dask_gone
from landscaper_hpc.executors.dask import LOOPBACK, LOST, regardless_of_loss, sentence
from landscaper_hpc.executors.dask_common import SCRATCH, START_SECONDS, SLURMRunner, write_keys
from landscaper_hpc.store.folder import RunFolder
from landscaper_hpc.study.site import Site
from landscaper_hpc.variables import number


class Step:
    """The tasks of one srun: the first is the scheduler, the second this program, the others workers.

    The constructor returns in the second only; the others serve until that one closes, and exit.
    """

    def __init__(self, site: Site, inside: RunFolder) -> None:
        tasks, rank = number("SLURM_STEP_NUM_TASKS"), number("SLURM_PROCID")
        if tasks < 3:
            raise InputError(
                f"executor dask: srun started {tasks} tasks, and at least 3 are needed: a scheduler, this program, and "
                "a worker"
            )
        # a step that runs again, or beside another one, must not find what is not its own
        names = (os.environ.get(name, "0") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"))
        self._keys = inside.dask / ".".join(names)
        self._security = _step_security(self._keys, make=rank == 0)
        self._scheduler = self._keys / "scheduler.json"
        if rank != 0:
            _wait_for(self._scheduler)
        common = {"security": self._security, "dashboard_address": LOOPBACK, "interface": site.dask.interface}
        common["local_directory"] = str(self._keys / SCRATCH)
        if rank != 1:
            signal.signal(signal.SIGINT, _sigint_while_serving)
            logging.getLogger("distributed").setLevel(logging.WARNING)
            logging.getLogger("distributed.diskutils").setLevel(logging.CRITICAL)  # its folder goes with the program
            logging.getLogger("distributed.worker").addFilter(briefly)
        runner = _Runner(
            scheduler_file=str(self._scheduler),
            scheduler_options={**common, "protocol": "tls://"},
            worker_options={
                **common,
                "nthreads": 1,
                "memory_limit": 0,
                "death_timeout": START_SECONDS,
                "preload": [dask_gone.__name__],
            },
        )
        runner.scheduler_comm = None  # it knows nothing of TLS: the client ends the scheduler
        self._seen, self._patience = time.monotonic(), dask_gone.patience()
        # at once, whatever is done before there is work: the scheduler sees that this program is there
        self._client: Client | None = self._connected()

    def connect(self) -> Client:
        client, self._client = self._client, None
        return client or self._connected()

    def _connected(self) -> Client:
        try:
            return Client(scheduler_file=str(self._scheduler), security=self._security, set_as_default=False)
        except (*LOST, ValueError) as error:
            raise InputError(
                f"Dask's scheduler, the first task of this srun, does not answer ({sentence(error)}); run the same "
                "command again, everything finished so far is kept"
            ) from None

    def tend(self, present: int, unfinished: float) -> None:
        if present:
            self._seen, self._patience = time.monotonic(), dask_gone.GONE_SECONDS
        elif time.monotonic() - self._seen > self._patience:
            raise InputError(
                f"Dask's scheduler had no worker for {self._patience:.0f} s: the tasks of this srun have ended; run "
                "the same command again, everything finished so far is kept"
            )

    def close(self, client: Client) -> None:
        with regardless_of_loss():
            client.shutdown()
        with regardless_of_loss():  # where nobody was there to be shut down
            client.close(timeout=5)
        # with those of steps that were killed: the folder's lock is ours alone
        shutil.rmtree(self._keys.parent, ignore_errors=True)


def briefly(record: logging.LogRecord) -> bool:
    """What Dask logs of a scheduler that is gone, without the way to it: a heartbeat may be under way as it closes."""
    if record.exc_info and isinstance(record.exc_info[1], OSError):
        record.exc_info = None
    return True


_served = threading.Event()


def _sigint_while_serving(number: int, frame: FrameType | None) -> None:
    """Ctrl-C reaches all tasks: the program decides. At the end the runner sends it to its own process."""
    if _served.is_set():
        sys.exit()


class _Runner(SLURMRunner):  # type: ignore[misc]
    async def start_scheduler(self) -> None:
        await super().start_scheduler()
        _served.set()

    async def start_worker(self) -> None:
        await super().start_worker()
        _served.set()

    async def get_scheduler_address(self) -> str:
        return str(json_load_robust(self.scheduler_file)["address"])  # it may be half written

    async def on_scheduler_start(self, scheduler: Scheduler) -> None:
        # the program may be killed and the other tasks not
        self._watch = asyncio.create_task(dask_gone.close_without_client(scheduler, dask_gone.patience()))


def _step_security(folder: Path, make: bool) -> Security:
    """The same certificate for all tasks of a step: one makes it, the others wait for it."""
    if make:
        shutil.rmtree(folder, ignore_errors=True)
        write_keys(folder, Security.temporary())
    _wait_for(folder / "key.pem")
    roles: dict[str, Any] = {f"tls_{role}_cert": str(folder / "certificate.pem") for role in _ROLES}
    roles |= {f"tls_{role}_key": str(folder / "key.pem") for role in _ROLES}
    return Security(require_encryption=True, tls_ca_file=str(folder / "certificate.pem"), **roles)


def _wait_for(file: Path) -> None:
    """For what the first task of a step makes."""
    began, seconds = time.monotonic(), dask_gone.patience()
    while not file.exists():
        if time.monotonic() - began > seconds:
            raise InputError(
                f"the first task of this srun has not made {file} within {seconds:.0f} s: it has ended, or the folder "
                "is not shared between the nodes; run the same command again, everything finished so far is kept"
            )
        time.sleep(0.2)


_ROLES = ("client", "scheduler", "worker")
