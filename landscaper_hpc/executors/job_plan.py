"""What a study will ask of Slurm, and be billed for, before anything is submitted: for `landscaper-hpc plan`.

Works without Slurm and without a GPU: what a site's profile does not say of its limits is Slurm's default then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from landscaper_hpc.executors.scripts import parameters, room
from landscaper_hpc.study.site import Site
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.stages import JOBS

_OTHER_JOBS = 3
_MEMORY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Jobs:
    """The jobs of one stage: job arrays of these sizes, each task of them `nodes` nodes with so many processes each."""

    stage: str
    arrays: list[int]
    nodes: int
    tasks_per_node: int
    gpus_per_node: int
    minutes: int
    """The walltime."""
    memory: str | None
    """Of a node; None: Slurm's default."""
    constraint: str | None

    @property
    def most_node_hours(self) -> float:
        """What it costs if all of the walltime is used, once."""
        return sum(self.arrays) * self.nodes * self.minutes / 60


@dataclass(frozen=True)
class JobPlan:
    """All jobs of a study, how long evaluation takes on them, and what it is billed."""

    jobs: list[Jobs]
    processes: int
    """That evaluate at the same time."""
    seconds: float
    """Of evaluation."""
    runs: int
    """How often the jobs that evaluate are started until that is done; they requeue themselves."""
    node_hours: float
    """Of evaluation: nodes times hours, whether their GPUs are busy or not."""
    most_other_node_hours: float
    """Of the other jobs, at most."""
    memory: int
    """Bytes of one process."""
    limits: list[str]
    """What keeps it from being quicker, or from running at all."""


def job_plan(campaign: Campaign, site: Site, shards: int, points_per_shard: int, rate: float, memory: int) -> JobPlan:
    """The jobs of a campaign of so many shards, from the points per second and the bytes of one process."""
    slurm, allowed = site.slurm, room(site)
    arrays = allowed.arrays(shards, others=_OTHER_JOBS) if shards else []
    jobs = [_of(campaign, site, part, arrays if part == "evaluate" else [1]) for part in JOBS if _has(part, shards)]
    nodes = sum(arrays)
    processes = min(shards, nodes * allowed.tasks)
    seconds = math.ceil(shards / processes) * points_per_shard / rate if shards else 0.0
    usable = slurm.seconds - slurm.warning_s
    limits = []
    if slurm.memory is not None and memory * allowed.tasks > _bytes(slurm.memory):
        limits.append(
            f"memory: {allowed.tasks} processes need about {memory * allowed.tasks / 1e9:.3g} GB and a node gives "
            f"{slurm.memory}; fewer slurm.tasks_per_node"
        )
    if allowed.max_jobs is not None and nodes < min(slurm.nodes, -(-shards // allowed.tasks)):
        limits.append(f"slurm.limits.max_jobs: {allowed.max_jobs} lets in {nodes} of {slurm.nodes} nodes")
    if shards and (shards < nodes * allowed.tasks or nodes < slurm.nodes):
        limits.append(
            f"shards: {shards:,} keep {processes:,} of {slurm.nodes * allowed.tasks:,} processes busy; a smaller "
            "shard_points, or fewer slurm.nodes"
        )
    if seconds > usable:
        limits.append(f"walltime: each job is started {math.ceil(seconds / usable)} times, and requeues itself")
    if not limits:
        limits.append("slurm.nodes: with more of them it takes less time, and costs the same")
    return JobPlan(
        jobs=jobs,
        processes=processes,
        seconds=seconds,
        runs=max(1, math.ceil(seconds / usable)),
        node_hours=nodes * seconds / 3600,
        most_other_node_hours=sum(job.most_node_hours for job in jobs if job.stage != "evaluate"),
        memory=memory,
        limits=limits,
    )


def _has(part: str, shards: int) -> bool:
    """Of scattered points, which are evaluated with what else is asked for, there are no shards."""
    return part != "evaluate" or shards > 0


def _of(campaign: Campaign, site: Site, stage: str, arrays: list[int]) -> Jobs:
    asked = parameters(campaign, site, stage)
    return Jobs(
        stage=stage,
        arrays=arrays,
        nodes=asked["nodes"],
        tasks_per_node=asked["ntasks_per_node"],
        gpus_per_node=asked.get("gpus_per_node") or 0,
        minutes=asked["time"],
        memory=asked.get("mem"),
        constraint=asked.get("constraint"),
    )


def _bytes(memory: str) -> int:
    return int(memory[:-1]) * _MEMORY[memory[-1]]
