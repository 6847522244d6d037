"""The stages of a campaign: what is missing, how to do it, and in which order.

Every stage asks the files what is missing and plans only that; so the same command, run again after anything, goes on
from there and ends with the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Literal

from landscaper_hpc.errors import InputError, TaskFailed
from landscaper_hpc.progress import Bars, Progress, silent
from landscaper_hpc.store.failures import ATTEMPTS
from landscaper_hpc.work import identity
from landscaper_hpc.work.campaign import Campaign, Plan
from landscaper_hpc.work.deal import Pool, WorkItem
from landscaper_hpc.work.executor import Function, Item, Mapper, WorkerLost
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.shared_directions import SharedDirections
from landscaper_hpc.work.tasks import evaluate_shard, prepare, prepare_or_quarantine, train_checkpoint

if TYPE_CHECKING:
    from landscaper_hpc.parallel.comm import Comm

log = logging.getLogger(__name__)


Stage = Literal["prepare", "evaluate", "topology", "finish"]
"""`finish` is `topology` and the report; both evaluate what is left."""


_ROUNDS_WITHOUT_PROGRESS = 3


def clear_failures(campaign: Campaign) -> None:
    for plan in campaign.plans:
        plan.landscapes[0].failures.clear()


def prepare_all(plans: Sequence[Plan], executor: Mapper, bars: Bars, apart: bool = False) -> None:
    """Train missing checkpoints, and make every store that is not there. Refuses before anything is spent.

    With `apart` a landscape that cannot be prepared is quarantined with its error, and the others go on.
    """
    for plan in plans[:1] if apart else plans:  # the studies of a sweep have all but their checkpoints in common
        plan.study.check_files()
    landscapes = [item for plan in plans for item in plan.landscapes]
    trained = {item.file: item for item in landscapes if item.study.train is not None}
    _per_landscape(
        executor, "training", train_checkpoint, list(trained.values()), lambda item: item.file.exists(), bars, False
    )
    for item in landscapes:
        if item.prepared():
            _refuse_other(item, trust_old_files=apart)
    function = prepare_or_quarantine if apart else prepare
    _per_landscape(executor, "directions", function, landscapes, Landscape.prepared, bars, apart)


def share_directions(shared: SharedDirections, executor: Mapper, bars: Bars) -> None:
    """Make a file of directions that is not there, and the checkpoint they come from."""
    item = shared.landscape
    item.study.check_files()
    if item.study.train is not None:
        _per_landscape(executor, "training", train_checkpoint, [item], lambda item: item.file.exists(), bars, False)
    shared.refuse_other()
    _per_landscape(
        executor, "shared directions of", shared.make, [item], lambda item: shared.file.exists(), bars, False
    )


def refuse_impossible(campaign: Campaign) -> None:
    """`InputError` for files that cannot be read and for stores of another study, before jobs are submitted."""
    for plan in campaign.plans[:1] if campaign.apart else campaign.plans:
        plan.study.check_files()
    for item in campaign.landscapes:
        if item.prepared() and item.file.exists():
            _refuse_other(item, trust_old_files=campaign.apart)


def _refuse_other(item: Landscape, trust_old_files: bool) -> None:
    """`InputError` where the landscape is of other science. Thousands of checkpoints are not read again where they are
    older than their landscape."""
    store = item.open()
    known = None
    if trust_old_files and item.file.is_file():
        found = item.file.stat()
        if max(found.st_mtime, found.st_ctime) < (store.folder / "zarr.json").stat().st_mtime:
            known = store.attributes["science"]["checkpoint_sha256"]
    identity.refuse_other(item, store, known)


def _per_landscape(
    executor: Mapper,
    verb: str,
    function: Function[Landscape],
    landscapes: Sequence[Landscape],
    finished: Callable[[Landscape], bool],
    bars: Bars,
    together: bool,
) -> None:
    """One task for each landscape that has not finished this stage, each with a bar of its own or all `together`."""
    done = 0

    def missing() -> list[Landscape] | None:
        nonlocal done
        left = [item for item in landscapes if not finished(item)]
        done = len(landscapes) - len(left)
        return [item for item in left if item.key not in item.failures.quarantined()] or None

    def on_done(item: Landscape) -> None:
        nonlocal done
        done += 1
        if together:
            bars.update(verb, min(done, len(landscapes)), len(landscapes))
        else:
            bars.finish(f"{verb} {item.name}")
        log.info("%s %s: done", verb, item)

    def on_progress(item: Landscape, done: int, total: int) -> None:
        bars.update(f"{verb} {item.name}", done, total)

    _until_done(executor, function, missing, None if together else on_progress, on_done)


def evaluate(executor: Mapper, campaign: Campaign, bars: Bars) -> None:
    """Evaluate until no shard is pending and every hash is right."""
    plans = [plan for plan in campaign.plans if plan.prepared()]

    def on_points(done: int, total: int) -> None:
        bars.update("points", done, total)

    pool = Pool(plans, campaign.apart, on_points)
    while True:
        _until_done(executor, perform, pool.missing, on_progress=None, on_done=pool.on_done)
        if campaign.apart or verified(campaign.landscapes):
            return


def perform(item: WorkItem, progress: Progress) -> None:
    """Do a task of the pool."""
    if isinstance(item, Plan):
        finish(item, item.landscapes[0].site.worker_count())
    else:
        evaluate_shard(item, progress)


def finish(plan: Plan, processes: int) -> bool:
    """Verify, merge trees, results, report, by one of so many processes of a node.

    False where shards were damaged: they are pending again.
    """
    if not verified(plan.landscapes):
        return False
    for item in plan.landscapes:
        topology(item, None, processes=processes)
    plan.write_results()
    log.info("%s: finished", plan)
    return True


def verified(landscapes: Sequence[Landscape]) -> bool:
    """Whether every shard's hash is right; those that are not are pending again."""
    refuse_quarantined(landscapes)
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


def refuse_quarantined(landscapes: Sequence[Landscape]) -> None:
    """`TaskFailed` where shards were quarantined: without them there is no landscape."""
    quarantined = {key: error for item in landscapes for key, error in item.failures.quarantined().items()}
    if quarantined:
        key, error = next(iter(quarantined.items()))
        raise TaskFailed(
            f"{len(quarantined)} shards failed {ATTEMPTS} times and are quarantined "
            f"({', '.join(list(quarantined)[:5])}); `landscaper-hpc run --retry-failed` gives them new "
            f"attempts. The last error of {key}:\n{error}"
        )


def _until_done(
    executor: Mapper,
    function: Function[Item],
    missing: Callable[[], Iterable[Item] | None],
    on_progress: Callable[[Item, int, int], None] | None,
    on_done: Callable[[Item], None],
) -> None:
    """Run tasks and ask again what is missing, until nothing is; a worker that dies takes nothing else with it."""
    without_progress = 0
    while (items := missing()) is not None:
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


def topology(item: Landscape, bars: Bars | None, comm: Comm | None = None, processes: int = 1) -> None:
    """The merge tree of a finished landscape, into its store.

    All ranks of `comm` call this; without one, it is called by one of so many processes that share a node.
    """
    import psutil

    from landscaper_hpc.topology.blocks.distributed import merge_tree_blocks
    from landscaper_hpc.topology.readers import ZarrReader

    store = item.open()
    if store.has_tree():
        return
    sharing = processes if comm is None else comm.ranks_on_node()
    if comm is not None and comm.rank > 0:
        bars = None
    found = merge_tree_blocks(
        ZarrReader(store.folder / "loss"),
        item.study.connectivity,
        max_memory=psutil.virtual_memory().available // (2 * sharing),
        comm=comm,
        progress=partial(bars.update, f"topology {item.name}") if bars is not None else silent,
    )
    if found.tree is not None:
        log.info("topology %s: %d minima", item, found.tree.n_minima)
        store.write_tree(found.tree)
