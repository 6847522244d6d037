"""run(study, site): train -> prepare -> evaluate -> verify -> topology -> report.

Every stage asks the files what is missing and plans only that; so the same command, run again after anything, goes on
from there and ends with the same bytes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscaper_hpc.campaign import Campaign, Plan
from landscaper_hpc.config import Study
from landscaper_hpc.errors import InputError, TaskFailed
from landscaper_hpc.executors import Executor, LocalExecutor, SerialExecutor, WorkerLost
from landscaper_hpc.executors.base import Function, Item
from landscaper_hpc.failures import ATTEMPTS
from landscaper_hpc.folder import log_to, only_one
from landscaper_hpc.progress import Bars, silent
from landscaper_hpc.site import Site
from landscaper_hpc.tasks import Landscape, ShardTask, evaluate_shard, prepare, train_checkpoint, without_failed

if TYPE_CHECKING:
    from landscaper_hpc.executors.mpi import Stage
    from landscaper_hpc.topology.comm import Comm

log = logging.getLogger(__name__)

_ROUNDS_WITHOUT_PROGRESS = 3


def run(
    study: Study,
    site: Site | None = None,
    folder: Path | None = None,
    retry_failed: bool = False,
    stage: Stage | None = None,
) -> dict[str, Any] | None:
    """Run a study to its report and return its results (what `results.json` holds; with `executor: mpi` on rank 0).

    Everything goes to `folder` (default `runs/<study name>`): `study.zarr`, `results.json`, `report.html`, `logs/`.
    May be stopped at any moment, also by `kill -9`, and called again. Raises `InputError` for what the user can mend
    and `TaskFailed` for what the user's task raised. `retry_failed` gives shards that were set aside new attempts;
    `stage` does one part only, for jobs of a scheduler (with `executor: mpi`).
    """
    site = site or Site()
    campaign = Campaign.of(study, site, folder or default_folder(study))
    if not run_campaign(campaign, site, retry_failed, stage):
        return None
    found: dict[str, Any] = json.loads((campaign.folder / "results.json").read_text())
    return found


def run_campaign(campaign: Campaign, site: Site, retry_failed: bool = False, stage: Stage | None = None) -> bool:
    """Run a campaign to its end, as `run` does; whether that was reached, and this process is the one to tell."""
    if site.executor == "mpi":
        from landscaper_hpc.executors.mpi import run_on_ranks

        return run_on_ranks(campaign, retry_failed, stage)
    if stage is not None:
        raise InputError("--stage needs --executor mpi (one rank is enough)")
    with (
        closing(make_executor(site, campaign.folder)) as executor,
        only_one(campaign.folder),
        log_to(campaign.folder / "logs"),
        Bars() as bars,
    ):
        log.info("%s", campaign.folder)
        if retry_failed:
            clear_failures(campaign)
        prepare_all(campaign.plans, executor, bars)
        _evaluate(executor, campaign.landscapes, bars)
        executor.close()  # merge trees need none of its processes and jobs
        for item in campaign.landscapes:
            topology(item, bars)
        campaign.conclude()
        log.info("done")
    return True


def clear_failures(campaign: Campaign) -> None:
    for plan in campaign.plans:
        plan.landscapes[0].failures.clear()


def default_folder(study: Study) -> Path:
    return Path("runs") / study.name


def make_executor(site: Site, folder: Path) -> Executor:
    """The executor of a site, for the study in `folder`."""
    if site.executor == "dask":
        try:
            from landscaper_hpc.executors.dask import dask_executor
        except ModuleNotFoundError as missing:
            raise InputError(
                f"executor dask needs {missing.name}, which is not installed; pip install 'landscaper-hpc[dask]'"
            ) from None
        return dask_executor(site, folder)
    return SerialExecutor() if site.executor == "serial" else LocalExecutor(site.worker_count())


def prepare_all(plans: Sequence[Plan], executor: Executor, bars: Bars) -> None:
    """Train missing checkpoints, and make every store that is not there. Refuses before anything is spent."""
    for plan in plans:
        plan.study.check_files()
    landscapes = [item for plan in plans for item in plan.landscapes]
    trained = [item for item in landscapes if item.study.train is not None]
    _per_landscape(executor, "training", train_checkpoint, trained, lambda item: item.file.exists(), bars)
    for item in landscapes:
        if _prepared(item):
            item.open().refuse_other(item.study.science(item.checkpoint))
    _per_landscape(executor, "directions", prepare, landscapes, _prepared, bars)


def _per_landscape(
    executor: Executor,
    verb: str,
    function: Function[Landscape],
    landscapes: Sequence[Landscape],
    finished: Callable[[Landscape], bool],
    bars: Bars,
) -> None:
    """One task for each landscape that has not finished this stage, each with a bar of its own."""

    def on_done(item: Landscape) -> None:
        bars.finish(f"{verb} {item.name}")
        log.info("%s %s: done", verb, item.name)

    _until_done(
        executor,
        function,
        lambda: [item for item in landscapes if not finished(item)],
        on_progress=lambda item, done, total: bars.update(f"{verb} {item.name}", done, total),
        on_done=on_done,
    )


def _evaluate(executor: Executor, landscapes: Sequence[Landscape], bars: Bars) -> None:
    """Evaluate until no shard is pending and every hash is right."""
    stores = [item.open() for item in landscapes]
    total = sum(store.grid.size for store in stores)
    points = 0

    def pending() -> list[ShardTask]:
        nonlocal points
        tasks = [
            ShardTask(item, shard) for item, store in zip(landscapes, stores, strict=True) for shard in store.pending()
        ]
        points = total - sum(task.shard.size for task in tasks)
        bars.update("points", points, total)
        log.info("%d shards pending, %d of %d points done", len(tasks), points, total)
        return without_failed(tasks)

    def on_done(task: ShardTask) -> None:
        nonlocal points
        points += task.shard.size
        bars.update("points", points, total)
        log.debug("%s: done", task)

    while True:
        _until_done(executor, evaluate_shard, pending, on_progress=None, on_done=on_done)
        if verified(landscapes):
            return


def verified(landscapes: Sequence[Landscape]) -> bool:
    """Whether every shard's hash is right; those that are not are pending again. `TaskFailed` where shards were set
    aside: without them there is no landscape."""
    aside = {key: error for item in landscapes for key, error in item.failures.set_aside().items()}
    if aside:
        key, error = next(iter(aside.items()))
        raise TaskFailed(
            f"{len(aside)} shards failed {ATTEMPTS} times and are set aside ({', '.join(list(aside)[:5])}); "
            f"`landscaper-hpc run --retry-failed` gives them new attempts. The last error of {key}:\n{error}"
        )
    stores = [item.open() for item in landscapes]
    damaged = sum(len(store.verify()) for store in stores)
    if damaged:
        log.warning("%d shards were torn or altered and are evaluated again", damaged)
        return False
    for store in stores:
        store.tidy()
    for item in landscapes:
        item.leases.remove()
    return True


def _until_done(
    executor: Executor,
    function: Function[Item],
    missing: Callable[[], list[Item]],
    on_progress: Callable[[Item, int, int], None] | None,
    on_done: Callable[[Item], None],
) -> None:
    """Run tasks and ask again what is missing, until nothing is; a worker that dies takes nothing else with it."""
    without_progress = 0
    while items := missing():
        finished = 0
        try:
            with closing(executor.map_unordered(function, items, on_progress)) as results:
                for item in results:
                    finished += 1
                    on_done(item)
        except WorkerLost as lost:
            log.warning("%s; going on with what is missing", lost)
            without_progress = 0 if finished else without_progress + 1
            if without_progress == _ROUNDS_WITHOUT_PROGRESS:
                raise InputError(
                    f"workers died {without_progress} times in a row before finishing a task (out of memory?); "
                    "use fewer workers (--workers), a smaller batch, or smaller shards (shard_points)"
                ) from None


def _prepared(item: Landscape) -> bool:
    return (item.store / item.name).exists()


def topology(item: Landscape, bars: Bars, comm: Comm | None = None) -> None:
    """The merge tree of a finished landscape, into its store. All ranks of `comm` call this."""
    import psutil

    from landscaper_hpc.topology.distributed import merge_tree_blocks
    from landscaper_hpc.topology.readers import ZarrReader

    store = item.open()
    if store.has_tree():
        return
    first = comm is None or comm.rank == 0
    found = merge_tree_blocks(
        ZarrReader(store.folder / "loss"),
        item.study.connectivity,
        max_memory=psutil.virtual_memory().available // (2 * (1 if comm is None else comm.ranks_on_node())),
        comm=comm,
        progress=(lambda done, total: bars.update(f"topology {item.name}", done, total)) if first else silent,
    )
    if found.tree is not None:
        log.info("topology %s: %d minima", item.name, found.tree.n_minima)
        store.write_tree(found.tree)
