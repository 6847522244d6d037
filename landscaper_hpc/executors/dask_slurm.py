"""Dask's workers on Slurm: jobs that dask-jobqueue submits, or the tasks of one srun (SLURMRunner).

All of them talk TLS, with a certificate that is made for one run, in a folder that only its owner can read. Both
ways stand in one module since the import of dask_jobqueue has to be undone for one of them, and in one place.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

from distributed import Client, Scheduler
from distributed.core import Status
from distributed.security import Security
from distributed.utils import json_load_robust

from landscaper_hpc.errors import InputError
from landscaper_hpc.executors import dask_gone
from landscaper_hpc.executors.dask import LOOPBACK, LOST, DaskMapper, Given, regardless_of_loss, sentence
from landscaper_hpc.executors.scripts import python, setup
from landscaper_hpc.store.folder import RunFolder
from landscaper_hpc.study.site import Site, Slurm
from landscaper_hpc.work.campaign import Campaign

# Dask looks for the way to the internet; where there is none, the host's name is as good
warnings.filterwarnings("ignore", "Couldn't detect a suitable IP address", RuntimeWarning)

_sigint = signal.getsignal(signal.SIGINT)

from dask_jobqueue.slurm import SLURMCluster, SLURMJob, SLURMRunner  # noqa: E402

signal.signal(signal.SIGINT, _sigint)  # the import replaced it by one that exits with code 0

log = logging.getLogger(__name__)

_LOOK_SECONDS = 20.0
_IDLE_SECONDS = 60.0
_UNJOINED = 3
_START_SECONDS = 300
_SCRATCH = "scratch"


class Jobs:
    """Jobs of one node each, submitted as there is work for them and replaced when they end before it does."""

    def __init__(self, site: Site, campaign: Campaign) -> None:
        self._site = site
        self._inside = campaign.inside
        self._python = python(campaign, site)
        self._keys = self._inside.dask
        self._refused: list[str] = []
        self._joined: set[str] = set()
        self._busy: dict[str, float] = {}
        self._unjoined: list[str] = []
        self._looked = 0.0

    def connect(self) -> Client:
        if shutil.which("sbatch") is None:
            raise InputError(
                "executor dask: there is no sbatch here; run this on a login node, under srun, or give dask.scheduler"
            )
        self._inside.logs.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._keys, ignore_errors=True)
        security = Security.temporary()
        certificate, key = (shlex.quote(str(file)) for file in _write_keys(self._keys, security))
        refused = self._refused

        class Job(SLURMJob):  # type: ignore[misc]
            async def start(self) -> None:
                try:
                    await super().start()
                except RuntimeError as error:
                    refused.append(str(error))
                    self.status = Status.failed

        class Cluster(SLURMCluster):  # type: ignore[misc]
            job_cls = Job

            def _get_worker_security(self, security: Security) -> Security:
                # goes to a command line: as files, and quoted
                return Security(
                    require_encryption=True, tls_ca_file=certificate, tls_worker_cert=certificate, tls_worker_key=key
                )

        slurm = self._site.slurm
        self._cluster = Cluster(
            cores=slurm.tasks,
            processes=slurm.tasks,
            memory="1 GB",  # neither asked of Slurm nor a limit: see below
            job_directives_skip=["#SBATCH"],  # all of its own; ours follow
            job_extra_directives=_directives(self._site, self._inside),
            job_script_prologue=list(setup(self._site)),
            python=self._python,
            worker_extra_args=[
                *("--memory-limit", "0", "--dashboard-address", LOOPBACK, "--preload-nanny", dask_gone.__name__),
                *lifetime(slurm),
            ],
            local_directory=shlex.quote(str(self._keys / _SCRATCH)),
            death_timeout=_START_SECONDS,
            interface=self._site.dask.interface,
            protocol="tls://",
            security=security,
            scheduler_options={"dashboard_address": LOOPBACK, "local_directory": str(self._keys / _SCRATCH)},
        )
        return Client(self._cluster, set_as_default=False)

    def tend(self, present: int, unfinished: float) -> None:
        if self._refused:
            raise InputError(f"slurm: sbatch refused a job of Dask's workers: {sentence(self._refused[0])}")
        cluster, slurm = self._cluster, self._site.slurm
        groups = list(cluster.worker_spec)
        processes = [state.name for state in cluster.scheduler.workers.values()]
        self._joined.update(name for name in groups if any(_is_of(process, name) for process in processes))
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._remove_ended(present)
        wanted = slurm.nodes
        if self._site.dask.adaptive and unfinished < slurm.nodes * slurm.tasks:
            wanted = math.ceil(unfinished / slurm.tasks)
        busy = {state.name for state in cluster.scheduler.workers.values() if state.processing}
        for name in groups:
            if name not in self._busy or any(_is_of(process, name) for process in busy):
                self._busy[name] = time.monotonic()
        surplus = len(groups) - wanted
        if surplus > 0:
            idle = [name for name in groups if time.monotonic() - self._busy[name] > _IDLE_SECONDS]
            if idle:
                cluster.sync(cluster.scale_down, idle[:surplus])
        elif surplus < 0:
            cluster.scale(jobs=wanted)

    def _remove_ended(self, present: int) -> None:
        """Forget jobs that are no longer in the queue, so that others take their place."""
        queue = subprocess.run(
            ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%i"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if queue.returncode:
            log.warning("squeue: %s", sentence(queue.stderr))
            return
        queued = set(queue.stdout.split())
        log.info("%d jobs of Dask's workers, %d processes at work", len(self._cluster.workers), present)
        jobs = {name: job.job_id for name, job in self._cluster.workers.items() if job.job_id}
        ended = {name: job for name, job in jobs.items() if job not in queued}
        for name, job in ended.items():
            log.warning("job %s of Dask's workers has ended", job)
            self._unjoined = [] if name in self._joined else [*self._unjoined, job]
        if len(self._unjoined) >= _UNJOINED:
            raise InputError(
                f"slurm: {len(self._unjoined)} jobs in a row ended before their workers joined Dask's scheduler; "
                f"see {self._inside.dask_log(self._unjoined[-1])}"
            )
        if ended:
            self._cluster.sync(self._cluster.scale_down, list(ended))

    def close(self, client: Client) -> None:
        with regardless_of_loss():
            client.close(timeout=5)
        self._cluster.close()
        shutil.rmtree(self._keys, ignore_errors=True)


class Step:
    """The tasks of one srun: the first is the scheduler, the second this program, the others workers.

    The constructor returns in the second only; the others serve until that one closes, and exit.
    """

    def __init__(self, site: Site, inside: RunFolder) -> None:
        tasks, rank = int(os.environ["SLURM_STEP_NUM_TASKS"]), int(os.environ["SLURM_PROCID"])
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
        common["local_directory"] = str(self._keys / _SCRATCH)
        if rank != 1:
            signal.signal(signal.SIGINT, _sigint_while_serving)
            logging.getLogger("distributed").setLevel(logging.WARNING)
            logging.getLogger("distributed.diskutils").setLevel(logging.CRITICAL)  # its folder goes with the program
        runner = _Runner(
            scheduler_file=str(self._scheduler),
            scheduler_options={**common, "protocol": "tls://"},
            worker_options={
                **common,
                "nthreads": 1,
                "memory_limit": 0,
                "death_timeout": _START_SECONDS,
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


def _is_of(process: str, job: str) -> bool:
    """Whether a worker's name is that of the job, or of one of several processes of the job."""
    return process == job or process.rpartition("-")[0] == job


# ---- TLS ------------------------------------------------------------------------------------------------------------


def _write_keys(folder: Path, security: Security) -> tuple[Path, Path]:
    """The certificate and its key, in a new folder that only its owner can read; the key comes last, and whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    (folder / _SCRATCH).mkdir(mode=0o700)  # a node's own may be another user's, and Python looks for modules in it
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    for file, text in (certificate, security.tls_worker_cert), (key.with_suffix(".new"), security.tls_worker_key):
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text)
    key.with_suffix(".new").rename(key)
    return certificate, key


def _step_security(folder: Path, make: bool) -> Security:
    """The same certificate for all tasks of a step: one makes it, the others wait for it."""
    if make:
        shutil.rmtree(folder, ignore_errors=True)
        _write_keys(folder, Security.temporary())
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


# ---- the job's script -----------------------------------------------------------------------------------------------


def lifetime(slurm: Slurm) -> list[str]:
    """Workers end before their job does, and not all at once: Dask varies each one's time by the stagger, both ways."""
    seconds = slurm.seconds - slurm.warning_s
    stagger = min(300, seconds // 20)
    return ["--lifetime", f"{seconds - stagger}s", "--lifetime-stagger", f"{stagger}s"]


def _directives(site: Site, inside: RunFolder) -> list[str]:
    slurm = site.slurm
    given: dict[str, object] = {
        "job-name": "landscape-dask",
        "nodes": 1,
        "ntasks": 1,
        "time": slurm.walltime,
        "account": slurm.account,
        "partition": slurm.partition,
        "qos": slurm.qos,
        "constraint": slurm.constraint,
        "reservation": slurm.reservation,
        "gpus-per-node": slurm.gpus_per_node or None,
        # one task of Slurm's holds all processes
        "cpus-per-task": slurm.tasks * (slurm.cpus_per_task or 1),
        "mem": slurm.memory,
        "output": RunFolder(Path(str(inside.path).replace("%", "%%"))).dask_log("%j"),
        "open-mode": "append",
        **slurm.options,
    }
    lines = ["--no-requeue"]  # Dask's jobs are replaced, not repeated
    for name, value in given.items():
        if value is not None:
            lines.append(f"--{name}" if value is True else f"--{name}={shlex.quote(str(value))}")
    return lines


def dask_mapper(site: Site, campaign: Campaign) -> DaskMapper:
    """For a site with `executor: dask`. Under srun it is made in one task only; the others serve."""
    if site.dask.scheduler is not None:
        return DaskMapper(Given(site.dask.scheduler))
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    return DaskMapper(Step(site, campaign.inside) if tasks > 1 else Jobs(site, campaign))
