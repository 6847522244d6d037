"""A study on MPI ranks: mpiexec or srun starts them, each takes shards from the store, all build the merge tree."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from landscaper_hpc.errors import InputError, Stopped
from landscaper_hpc.executors.local import SerialMapper
from landscaper_hpc.parallel.comm import Comm, agree, world
from landscaper_hpc.progress import Bars
from landscaper_hpc.store.leases import Leases
from landscaper_hpc.store.lock import log_to, only_one, restarts
from landscaper_hpc.work import stages
from landscaper_hpc.work.campaign import Campaign, Plan
from landscaper_hpc.work.landscape import Landscape, ShardItem
from landscaper_hpc.work.stages import Stage
from landscaper_hpc.work.worker import Stop, work

log = logging.getLogger(__name__)

Made = TypeVar("Made")

_RESTARTS_IN_VAIN = 3


def run_on_ranks(
    campaign: Campaign,
    retry_failed: bool,
    stage: Stage | None = None,
    *,
    comm: Comm | None = None,
    stop: Stop | None = None,
    locked: bool = False,
) -> bool:
    """`orchestrate.run_campaign` on all ranks of the launcher; called by every rank, True on rank 0.

    What goes wrong on one rank ends all of them, with that rank's error. With a `stage` only that part is done, and any
    number of evaluating runs may work in the folder at once. Jobs say who they are (`comm`), when their time is up
    (`stop`), and that the run they belong to has the folder's lock already (`locked`).
    """
    comm = comm or world()
    stop = stop or Stop()
    stop.install()
    with ExitStack() as stack:
        bars = stack.enter_context(Bars())
        _together(
            comm,
            lambda: (
                _enter(stack, campaign, retry_failed, stop, locked or stage == "evaluate") if comm.rank == 0 else None
            ),
        )
        if stage in (None, "prepare"):
            _together(comm, lambda: _prepare_shared(campaign, comm, bars))
            mine = _share(campaign.plans, comm)
            _together(comm, lambda: stages.prepare_all(mine, SerialMapper(), bars, campaign.apart))
        if stage != "prepare":
            _evaluate(comm, campaign, stop, bars)
        if stage in (None, "topology", "finish"):
            while not _complete(comm, campaign):
                _evaluate(comm, campaign, stop, bars)
            if not campaign.apart:
                for item in campaign.landscapes:
                    if any(comm.gather(stop.requested)):
                        raise Stopped
                    stages.topology(item, bars, comm)
        if stage in (None, "finish"):
            _together(comm, lambda: campaign.conclude() if comm.rank == 0 else None)
            return comm.rank == 0
    return False


def _prepare_shared(campaign: Campaign, comm: Comm, bars: Bars) -> None:
    for shared in campaign.shared[comm.rank :: comm.size]:
        stages.share_directions(shared, SerialMapper(), bars)


def _share(plans: Sequence[Plan], comm: Comm) -> list[Plan]:
    """The landscapes that this rank prepares: every `size`-th of all."""
    numbered = enumerate(item for plan in plans for item in plan.landscapes)
    mine = {item for number, item in numbered if number % comm.size == comm.rank}
    shares = (replace(plan, landscapes=tuple(i for i in plan.landscapes if i in mine)) for plan in plans)
    return [share for share in shares if share.landscapes]


def _enter(stack: ExitStack, campaign: Campaign, retry_failed: bool, stop: Stop, locked: bool) -> None:
    if not locked:
        stack.enter_context(only_one(campaign.folder, (lambda: stop.requested) if restarts() else None))
    stack.enter_context(log_to(campaign.folder / "logs"))
    if retry_failed:
        stages.clear_failures(campaign)


def _complete(comm: Comm, campaign: Campaign) -> bool:
    """Whether every hash is right; of studies that are finished apart, whether all are that can be."""

    def complete() -> bool:
        if comm.rank:
            return True
        if not campaign.apart:
            return stages.verified(campaign.landscapes)
        # of a rank that died while it finished one, or found it damaged
        left = (plan for plan in campaign.plans if plan.prepared() and not plan.finished())
        return all(stages.finish(plan, 1) if plan.evaluated() else not any(plan.pending()) for plan in left)

    return all(comm.gather(_together(comm, complete)))


def _evaluate(comm: Comm, campaign: Campaign, stop: Stop, bars: Bars) -> None:
    """Take shards until none is left; `Stopped`, on all ranks, where time was up for one of them."""
    place, places = _place(comm)
    plans = {plan.folder: plan for plan in campaign.plans if plan.prepared()}
    landscapes = [item for plan in plans.values() for item in plan.landscapes]
    total = sum(item.open().grid.size for item in landscapes) if comm.rank == 0 else 0
    points = 0
    last_chance = restarts() >= _RESTARTS_IN_VAIN
    before = _shards_done(landscapes) if last_chance else 0

    def on_done(task: ShardItem) -> None:
        nonlocal points
        log.info("%s: done", task)
        if comm.rank:
            return
        points += task.shard.size
        # every rank counts its own; an even share is what rank 0 can tell of the others
        bars.update(f"points (1 of {places} ranks)", min(points, total // places), total // places)

    def on_evaluated(item: Landscape) -> None:
        plan = plans[item.store.parent]
        if plan.finished() or not plan.evaluated():
            return
        with Leases(campaign.folder / "leases").hold(f"finish.{plan.study.name}") as mine:
            if mine and not plan.finished():
                stages.finish(plan, comm.ranks_on_node())

    finished = _together(
        comm,
        lambda: work(
            landscapes,
            place=place,
            places=places,
            stop=stop,
            on_done=on_done,
            on_evaluated=on_evaluated if campaign.apart else lambda item: None,
            finished_already=lambda item: campaign.apart and plans[item.store.parent].finished(),
        ),
    )
    if not all(comm.gather(finished)):
        taken_away = any(comm.gather(stop.taken_away))  # preempted, which is nobody's fault
        if last_chance and not taken_away and not any(comm.gather(_shards_done(landscapes) - before)):
            raise InputError(
                f"{restarts()} restarts of this job, and in the last no shard was finished before its time was up; "
                "give it more walltime, or the study smaller shards (shard_points) in a new folder"
            )
        raise Stopped


def _shards_done(landscapes: Sequence[Landscape]) -> int:
    return sum(item.open().n_done() for item in landscapes)


def _place(comm: Comm) -> tuple[int, int]:
    """Which of how many this rank is, among the ranks of all tasks of a job array."""
    task, first, tasks = (
        int(os.environ.get(f"SLURM_ARRAY_TASK_{name}", default))
        for name, default in (("ID", 0), ("MIN", 0), ("COUNT", 1))
    )
    return (task - first) * comm.size + comm.rank, tasks * comm.size


def broadcast(make: Callable[[], Made]) -> Made:
    """What rank 0 makes, on every rank of the launcher; called by all, outside of a run."""
    comm = world()
    made: Made = comm.gather(_together(comm, lambda: make() if comm.rank == 0 else None))[0]
    return made


def _together(comm: Comm, stage: Callable[[], Any]) -> Any:
    """Run a stage on every rank and let all fail where one does."""
    error: BaseException | None = None
    result = None
    try:
        result = stage()
    except BaseException as caught:
        error = caught
    agree(comm, error)
    return result
