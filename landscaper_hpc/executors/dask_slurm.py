"""Dask's workers on Slurm as jobs that dask-jobqueue submits, and the way to all of Dask's workers."""

from __future__ import annotations

import logging
import math
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed import Client
from distributed.core import Status
from distributed.security import Security

from landscaper_hpc.errors import InputError
from landscaper_hpc.executors import dask_gone
from landscaper_hpc.executors.dask import LOOPBACK, DaskMapper, Given, regardless_of_loss, sentence
from landscaper_hpc.executors.dask_common import SCRATCH, START_SECONDS, SLURMCluster, SLURMJob, write_keys
from landscaper_hpc.executors.dask_step import Step
from landscaper_hpc.executors.scripts import python, setup
from landscaper_hpc.store.folder import RunFolder
from landscaper_hpc.study.site import Site, Slurm
from landscaper_hpc.variables import number
from landscaper_hpc.work.campaign import Campaign

log = logging.getLogger(__name__)

_LOOK_SECONDS = 20.0
_IDLE_SECONDS = 60.0
_UNJOINED = 3


def queued_jobs() -> set[str] | None:
    """Our jobs that Slurm has in its queue; None where it does not say."""
    queue = subprocess.run(
        ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%i"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if queue.returncode:
        log.warning("squeue: %s", sentence(queue.stderr))
        return None
    return set(queue.stdout.split())


class Jobs:
    """Jobs of one node each, submitted as there is work for them and replaced when they end before it does."""

    def __init__(
        self,
        site: Site,
        campaign: Campaign,
        queued: Callable[[], set[str] | None] = queued_jobs,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cluster: Any = None
        self._queued, self._clock = queued, clock
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
        certificate, key = (shlex.quote(str(file)) for file in write_keys(self._keys, security))
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
        self.cluster = Cluster(
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
            local_directory=shlex.quote(str(self._keys / SCRATCH)),
            death_timeout=START_SECONDS,
            interface=self._site.dask.interface,
            protocol="tls://",
            security=security,
            scheduler_options={"dashboard_address": LOOPBACK, "local_directory": str(self._keys / SCRATCH)},
        )
        return Client(self.cluster, set_as_default=False)

    def tend(self, present: int, unfinished: float) -> None:
        if self._refused:
            raise InputError(f"slurm: sbatch refused a job of Dask's workers: {sentence(self._refused[0])}")
        cluster, slurm = self.cluster, self._site.slurm
        groups = list(cluster.worker_spec)
        processes = [state.name for state in cluster.scheduler.workers.values()]
        self._joined.update(name for name in groups if any(_is_of(process, name) for process in processes))
        if self._clock() - self._looked > _LOOK_SECONDS:
            self._looked = self._clock()
            self._remove_ended(present)
        wanted = slurm.nodes
        if self._site.dask.adaptive and unfinished < slurm.nodes * slurm.tasks:
            wanted = math.ceil(unfinished / slurm.tasks)
        busy = {state.name for state in cluster.scheduler.workers.values() if state.processing}
        for name in groups:
            if name not in self._busy or any(_is_of(process, name) for process in busy):
                self._busy[name] = self._clock()
        surplus = len(groups) - wanted
        if surplus > 0:
            idle = [name for name in groups if self._clock() - self._busy[name] > _IDLE_SECONDS]
            if idle:
                cluster.sync(cluster.scale_down, idle[:surplus])
        elif surplus < 0:
            cluster.scale(jobs=wanted)

    def _remove_ended(self, present: int) -> None:
        """Forget jobs that are no longer in the queue, so that others take their place."""
        queued = self._queued()
        if queued is None:
            return
        log.info("%d jobs of Dask's workers, %d processes at work", len(self.cluster.workers), present)
        jobs = {name: job.job_id for name, job in self.cluster.workers.items() if job.job_id}
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
            self.cluster.sync(self.cluster.scale_down, list(ended))

    def close(self, client: Client) -> None:
        with regardless_of_loss():
            client.close(timeout=5)
        self.cluster.close()
        shutil.rmtree(self._keys, ignore_errors=True)


def _is_of(process: str, job: str) -> bool:
    """Whether a worker's name is that of the job, or of one of several processes of the job."""
    return process == job or process.rpartition("-")[0] == job


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
    tasks = number("SLURM_STEP_NUM_TASKS", 1)
    return DaskMapper(Step(site, campaign.inside) if tasks > 1 else Jobs(site, campaign))
