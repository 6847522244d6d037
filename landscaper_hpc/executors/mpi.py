"""A study on MPI ranks: mpiexec or srun starts them, each takes shards from the store, all build the merge tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from landscaper_hpc import orchestrate
from landscaper_hpc.config import Study
from landscaper_hpc.errors import Stopped
from landscaper_hpc.executors.local import SerialExecutor
from landscaper_hpc.folder import log_to, only_one
from landscaper_hpc.progress import Bars
from landscaper_hpc.tasks import Landscape, ShardTask
from landscaper_hpc.topology.comm import Comm, agree, world
from landscaper_hpc.worker import Stop, work

Stage = Literal["prepare", "evaluate", "finish"]


def run_on_ranks(
    study: Study, landscapes: Sequence[Landscape], folder: Path, retry_failed: bool, stage: Stage | None = None
) -> dict[str, Any] | None:
    """`orchestrate.run` on all ranks of the launcher; called by every rank, returns the results on rank 0.

    What goes wrong on one rank ends all of them, with that rank's error. With a `stage` only that part is done, and any
    number of evaluating runs may work in the folder at once.
    """
    comm = world()
    stop = Stop()
    stop.install()
    with ExitStack() as stack:
        bars = stack.enter_context(Bars())
        _together(comm, lambda: _enter(stack, landscapes, folder, retry_failed, stage) if comm.rank == 0 else None)
        if stage in (None, "prepare"):
            mine = landscapes[comm.rank :: comm.size]
            _together(comm, lambda: orchestrate.prepare_all(mine, SerialExecutor(), bars) if mine else None)
        if stage in (None, "evaluate"):
            _evaluate(comm, landscapes, stop, bars)
        if stage in (None, "finish"):
            while not _verified(comm, landscapes):
                _evaluate(comm, landscapes, stop, bars)
            for item in landscapes:
                orchestrate.topology(item, bars, comm)
            return _together(  # type: ignore[no-any-return]
                comm, lambda: orchestrate.write_results(study, landscapes, folder) if comm.rank == 0 else None
            )
    return None


def _enter(
    stack: ExitStack, landscapes: Sequence[Landscape], folder: Path, retry_failed: bool, stage: Stage | None
) -> None:
    if stage != "evaluate":
        stack.enter_context(only_one(folder))
    stack.enter_context(log_to(folder / "logs"))
    if retry_failed:
        landscapes[0].failures.clear()


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
            landscapes[0].leases,
            landscapes[0].failures,
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
