"""A study on MPI ranks: mpiexec or srun starts them, each takes shards from the store, all build the merge tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal

from landscaper_hpc import orchestrate
from landscaper_hpc.campaign import Campaign, Plan
from landscaper_hpc.errors import Stopped
from landscaper_hpc.executors.local import SerialExecutor
from landscaper_hpc.folder import log_to, only_one
from landscaper_hpc.progress import Bars
from landscaper_hpc.tasks import Landscape, ShardTask
from landscaper_hpc.topology.comm import Comm, agree, world
from landscaper_hpc.worker import Stop, work

Stage = Literal["prepare", "evaluate", "finish"]


def run_on_ranks(campaign: Campaign, retry_failed: bool, stage: Stage | None = None) -> bool:
    """`orchestrate.run_campaign` on all ranks of the launcher; called by every rank, True on rank 0.

    What goes wrong on one rank ends all of them, with that rank's error. With a `stage` only that part is done, and any
    number of evaluating runs may work in the folder at once.
    """
    comm = world()
    stop = Stop()
    stop.install()
    with ExitStack() as stack:
        bars = stack.enter_context(Bars())
        _together(comm, lambda: _enter(stack, campaign, retry_failed, stage) if comm.rank == 0 else None)
        landscapes = campaign.landscapes
        if stage in (None, "prepare"):
            mine = _share(campaign.plans, comm)
            _together(comm, lambda: orchestrate.prepare_all(mine, SerialExecutor(), bars))
        if stage in (None, "evaluate"):
            _evaluate(comm, landscapes, stop, bars)
        if stage in (None, "finish"):
            while not _verified(comm, landscapes):
                _evaluate(comm, landscapes, stop, bars)
            for item in landscapes:
                orchestrate.topology(item, bars, comm)
            _together(comm, lambda: campaign.conclude() if comm.rank == 0 else None)
            return comm.rank == 0
    return False


def _share(plans: Sequence[Plan], comm: Comm) -> list[Plan]:
    """The landscapes that this rank prepares: every `size`-th of all."""
    numbered = enumerate(item for plan in plans for item in plan.landscapes)
    mine = {item for number, item in numbered if number % comm.size == comm.rank}
    shares = (replace(plan, landscapes=tuple(i for i in plan.landscapes if i in mine)) for plan in plans)
    return [share for share in shares if share.landscapes]


def _enter(stack: ExitStack, campaign: Campaign, retry_failed: bool, stage: Stage | None) -> None:
    if stage != "evaluate":
        stack.enter_context(only_one(campaign.folder))
    stack.enter_context(log_to(campaign.folder / "logs"))
    if retry_failed:
        orchestrate.clear_failures(campaign)


def _verified(comm: Comm, landscapes: Sequence[Landscape]) -> bool:
    whole = _together(comm, lambda: comm.rank != 0 or orchestrate.verified(landscapes))
    return all(comm.gather(whole))


def _evaluate(comm: Comm, landscapes: Sequence[Landscape], stop: Stop, bars: Bars) -> None:
    """Take shards until none is left; `Stopped`, on all ranks, where time was up for one of them."""
    total = sum(item.open().grid.size for item in landscapes)
    points = 0

    def on_done(task: ShardTask) -> None:
        nonlocal points
        points += task.shard.size
        # every rank counts its own; an even share is what rank 0 can tell of the others
        bars.update(f"points (1 of {comm.size} ranks)", min(points, total // comm.size), total // comm.size)

    finished = _together(
        comm,
        lambda: work(
            landscapes,
            place=comm.rank,
            places=comm.size,
            stop=stop,
            on_done=on_done if comm.rank == 0 else lambda task: None,
        ),
    )
    if not all(comm.gather(finished)):
        raise Stopped


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
