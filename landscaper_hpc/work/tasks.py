"""What is done with the items of a study, each a function that returns nothing: train, prepare, evaluate a shard.

Each can be pickled, is idempotent, and publishes its result as something that appears whole.

(Longer than most modules: each task is a function of its own.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.directions.from_study import make_directions, spectrum
from landscaper_hpc.errors import InputError, RankRaised, WorkerLost, leaves, user_traceback
from landscaper_hpc.objective.usercode import ended, in_words, mistake, user_module
from landscaper_hpc.progress import Progress, silent
from landscaper_hpc.store.heartbeat import whereabouts
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import METRICS, StoredDirections
from landscaper_hpc.work import group, identity, unchanged
from landscaper_hpc.work.group import in_time, together
from landscaper_hpc.work.hangs import getting_on, refused_if_it_hangs
from landscaper_hpc.work.landscape import Landscape, ShardItem
from landscaper_hpc.work.loaded import forget, keep, load, prove_nothing_kept, worker_for
from landscaper_hpc.work.memory import refuse_too_large
from landscaper_hpc.work.ranks_say import FollowerFailed, RankFailed
from landscaper_hpc.work.watch import Hung, Limit
from landscaper_hpc.work.watchdog import Place

if TYPE_CHECKING:
    from torch import Tensor

    from landscaper_hpc.directions.directions import Directions
    from landscaper_hpc.grid import Grid
    from landscaper_hpc.objective.objective import Objective

log = logging.getLogger(__name__)

# ---- train ----------------------------------------------------------------------------------------------------------


@in_words()
def train_checkpoint(landscape: Landscape, progress: Progress) -> None:
    """Make a missing checkpoint with the study's `train` file."""
    import torch

    from landscaper_hpc.objective.beginning import settings_of_the_beginning
    from landscaper_hpc.objective.precision import one_thread

    assert landscape.study.train is not None
    settings_of_the_beginning()
    progress = _beating(landscape, progress, f"training {landscape.name}")
    file = landscape.study.path(landscape.study.train)
    if file.suffix != ".py":
        raise InputError(f"train: {file} is not a Python file (.py)")
    landscape.file.parent.mkdir(parents=True, exist_ok=True)
    with one_thread(torch.device("cpu")), user_module(file) as module:
        if not callable(getattr(module, "train", None)):
            raise InputError(f"train: {file} has no function train(path, progress, **options)")
        try:
            module.train(landscape.file, progress, **landscape.checkpoint.options)
        except BaseException as leaving:
            if not leaves(leaving):
                raise
            raise mistake(f"train: {file} {ended(leaving)}; let train() return", leaving) from leaving
    if not landscape.file.exists():
        raise InputError(f"train: {file} ran but did not write {landscape.file}")


# ---- prepare --------------------------------------------------------------------------------------------------------


@in_words()
def prepare(landscape: Landscape, progress: Progress) -> None:
    """Find the directions and create the store, ready for shards. Does nothing where the store is there."""
    if landscape.prepared():
        identity.refuse_other(landscape, landscape.open())
        return
    progress = _beating(landscape, progress, f"directions of {landscape.name}")
    create = together(_found, landscape, progress=progress)
    assert create is not None
    create()
    together(_keep, landscape)


_ready: dict[str, tuple[Objective, Directions]] = {}


def _keep(landscape: Landscape) -> None:
    keep(landscape, *_ready.pop(landscape.name))


def _found(landscape: Landscape, progress: Progress = silent) -> Callable[[], None] | None:
    """Everything that a store begins with, and what creates it; None in processes that follow another."""
    from landscaper_hpc.directions.hessian import proof_of
    from landscaper_hpc.losses.evaluate import evaluation_mode
    from landscaper_hpc.losses.evaluator import is_evaluated_as_written

    study = landscape.study
    read = unchanged.state(landscape)
    science = study.science(landscape.checkpoint)
    forget()
    _ready.clear()
    objective = load(landscape)
    refuse_too_large(landscape, objective)
    data = identity.data_identity(landscape, objective)
    with refused_if_it_hangs(landscape, objective):
        _, notices, narrowed = identity.prove_objective(landscape, objective)
    prove_nothing_kept(landscape, objective)
    for notice in notices:
        log.warning("%s: %s", landscape, notice)
    # named by the science and versions: what another checkpoint or torch left must not be taken up
    made_with = identity.provenance(landscape.site)
    resume = landscape.inside.resume / f"{landscape.name}.{canonical_sha256([science, made_with])[:16]}"
    resume.parent.mkdir(parents=True, exist_ok=True)
    with refused_if_it_hangs(landscape, objective, "the search for directions") as gets_on:
        directions = make_directions(study, objective, getting_on(gets_on, progress), resume)
    grid = chosen_grid(landscape, objective, directions)
    batch, proofs = tried(landscape, objective, directions, grid)
    with refused_if_it_hangs(landscape, objective, "the spectrum of the Hessian") as gets_on:
        found = spectrum(study, objective, getting_on(gets_on, progress))
    if directions.eigenvalues is not None and directions.residuals is not None:
        found |= {"eigenvalues": directions.eigenvalues, "residuals": directions.residuals}
    vectors = {name: _whole(objective, name, vector) for name, vector in directions.vectors.items()}
    _ready[landscape.name] = objective, directions
    if group.rank:
        return None
    created = partial(
        LandscapeStore.create,
        landscape.store,
        landscape.name,
        science,
        grid,
        grid.shard_shape(landscape.site.points_per_shard(grid)),
        StoredDirections(
            vectors=vectors,
            gram=directions.gram,
            hessian=found,
        ),
        {
            "checkpoint_loss": proofs[0][1],
            "identity": {**data, "losses": proofs},
            "iterations": directions.iterations,
            "batch": batch,
            "mode": evaluation_mode(objective, directions, batch),
            **({} if directions.explained is None else {"explained": directions.explained.tolist()}),
            **({"as_written": True} if is_evaluated_as_written(objective) else {}),
            "one_channel_last": True,
            **proof_of(objective),
            **({"notices": notices} if notices else {}),
            **({"narrowed": narrowed} if narrowed else {}),
            **({METRICS: list(objective.metrics)} if objective.metrics else {}),
            "provenance": made_with,
        },
    )

    def create() -> None:
        created()
        unchanged.note(landscape, read)
        for file in (resume, *resume.parent.glob(f"{resume.name}.rank*")):
            file.unlink(missing_ok=True)

    return create


def _whole(objective: Objective, name: str, vectors: Tensor) -> NDArray[Any]:
    """Vectors (n, *shape) of a parameter, of all ranks that hold parts of them; nothing in those that follow."""
    parts = objective.layout.parts
    if parts is None:
        return vectors.cpu().numpy()
    rows = [parts.whole(name, vector).cpu() if not group.rank else parts.whole(name, vector)[:0] for vector in vectors]
    return np.stack([row.cpu().numpy() for row in rows])


def chosen_grid(landscape: Landscape, objective: Objective, directions: Directions) -> Grid:
    """The study's grid along these directions, as far out as the study says or has it found."""
    from landscaper_hpc.losses.bracket import reaches, rises

    with refused_if_it_hangs(landscape, objective):
        heights = rises(objective, directions, landscape.study.found())
        found = reaches(objective, directions, heights) if any(heights) else None
    return landscape.study.make_grid(directions.eigenvalues, found)


def tried(
    landscape: Landscape, objective: Objective, directions: Directions, grid: Grid
) -> tuple[int, list[list[Any]]]:
    """The batch shape that is used on this grid, and losses at some of its points to prove others by. `InputError` for
    what the study asks and this loss cannot give."""
    from landscaper_hpc.losses.evaluate import choose_batch, prove_for
    from landscaper_hpc.objective.keeping import prove_unchanged
    from landscaper_hpc.work.confirming import refuse_unconfirmable
    from landscaper_hpc.work.error_bars import refuse_unsampled

    study = landscape.study
    with refused_if_it_hangs(landscape, objective):
        prove_for(objective, directions, grid.corners())
        batch = study.batch if study.batch != "auto" else choose_batch(objective, directions, points=grid.size)
        if study.confirm is not None or (study.sampling is not None and study.sampling.minima):
            refuse_unconfirmable(objective, directions, grid)
        if study.error_bars is not None:
            refuse_unsampled(objective)
        found = identity.values_at(objective, directions, identity.chosen_points(grid), batch)
        prove_unchanged(objective)
        return batch, found


def prepare_or_quarantine(landscape: Landscape, progress: Progress) -> None:
    """`prepare`, whose failure is kept among the failures and leaves other landscapes alone."""
    try:
        prepare(landscape, progress)
    except InputError as error:
        # it would be the same again
        landscape.failures.quarantine(
            landscape.key, f"{landscape} on {whereabouts()}\n{error}\n{error.traceback}".rstrip()
        )
    except Exception as error:
        landscape.failures.record(landscape.key, f"{landscape} on {whereabouts()}\n{user_traceback(error)}")


def _beating(landscape: Landscape, progress: Progress, phase: str) -> Progress:
    own = landscape.heartbeat
    own.begin_phase(phase)

    def report(done: int, total: int) -> None:
        own.begin_phase(phase)
        progress(done, total)

    return report


# ---- evaluate -------------------------------------------------------------------------------------------------------


class Evaluated(Protocol):
    """What is evaluated as one: a shard, dense or sparse."""

    @property
    def landscape(self) -> Landscape: ...

    @property
    def key(self) -> str:
        """Its name among leases and failures."""
        ...


def evaluate_shard(item: ShardItem, progress: Progress) -> None:
    """Evaluate one shard and publish it."""
    if item.landscape.failures.is_quarantined(item.key):
        return  # it ended the worker that had it before
    values = losses_of(item, item.shard.size, lambda grid: grid.points(item.shard), progress, with_metrics=True)
    if values is not None:
        worker_for(item.landscape).store.write_outputs(item.shard, values)
        item.landscape.heartbeat.shard_done(item.shard.size)


def losses_of(
    item: Evaluated,
    size: int,
    points: Callable[[Grid], NDArray[np.float64]],
    progress: Progress,
    all_data: bool = False,
    with_metrics: bool = False,
) -> NDArray[np.float64] | None:
    """The losses of a shard at its `size` points, (size, n) of a grid; None where they cannot be had. Of a landscape of
    few data, on all of them where it is said so; with the task's metrics, if there are some, (size, outputs).

    What the loss raises at these points is kept among the failures: the other shards go on, and this one gets new
    attempts; one that hangs is quarantined at once, with where it was. `InputError` is raised: it would meet every
    shard. So is that of a device which broke meanwhile, and fails or gives NaN everywhere: the canary tells the one
    from the other.
    """
    failures, own = item.landscape.failures, item.landscape.heartbeat
    own.beat(item.key)
    worker = worker_for(item.landscape)
    own.ready()
    alphas, limit = points(worker.store.grid), worker.limit
    if all_data:
        times = -(-len(worker.objective.on_all_data.batches) // len(worker.objective.batches))
        limit = Limit(item.landscape.site, worker.limit.usual, times)

    def report(done: int, total: int) -> None:
        own.beat(item.key, done * size // max(total, 1))
        progress(done, total)

    where = f"{item} on {whereabouts()}\n"
    place = Place(failures.last(item.key), where)
    progress(0, size)
    try:
        values = in_time(_evaluated, item.landscape, limit, place, alphas, all_data, with_metrics, progress=report)
    except RankFailed as error:
        failed: Exception = error
    except (InputError, WorkerLost):
        raise
    except Hung as hung:
        forget()  # its objective was left in the midst of something
        failures.quarantine(item.key, f"{where}{hung}")
        return None
    except Exception as error:
        failed = error
    else:
        if not np.isfinite(values.reshape(len(values), -1)[:, 0]).any():
            worker.prove(item.landscape)
        return values
    worker_for(item.landscape).prove(item.landscape)
    failures.record(item.key, f"{where}{_way_to(failed)}")
    return None


def _way_to(failed: Exception) -> str:
    """The way to what failed at a shard, through the user's code, on whichever rank."""
    if isinstance(failed, RankFailed | RankRaised):
        return f"{failed}\n{failed.traceback}"
    return str(failed) if isinstance(failed, FollowerFailed) else user_traceback(failed)


def _evaluated(
    landscape: Landscape,
    alphas: NDArray[np.float64],
    all_data: bool,
    with_metrics: bool,
    progress: Progress = silent,
) -> NDArray[np.float64]:
    """The losses at some points, (m, n), in every process that holds a part of the model."""
    from landscaper_hpc.losses.evaluate import losses, prove_for

    worker = worker_for(landscape)
    objective = worker.outputs if with_metrics else worker.objective
    if all_data:
        objective = objective.on_all_data
        prove_for(objective, worker.directions, worker.store.grid.corners())
    return losses(objective, worker.directions, alphas, worker.batch, progress)
