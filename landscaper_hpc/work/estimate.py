"""What a study will cost, before anything is spent: points, shards, files, bytes, and time from a short measurement.

Longer than most modules: each stage adds its own to one estimate.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import Grid, lattice_size
from landscaper_hpc.objective.usercode import in_words
from landscaper_hpc.store.folder import StudyFolder
from landscaper_hpc.store.layout import SCOPE
from landscaper_hpc.store.place import refuse_inside, refuse_sweep
from landscaper_hpc.study.site import Site
from landscaper_hpc.study.study import Checkpoint, Study
from landscaper_hpc.work.group import refuse_unsupported
from landscaper_hpc.work.hangs import loading_in_time, refused_if_it_hangs
from landscaper_hpc.work.identity import refuse_other
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.loaded import load
from landscaper_hpc.work.memory import Sizes, Stage, stages
from landscaper_hpc.work.points import known_of
from landscaper_hpc.work.trial import try_out

if TYPE_CHECKING:
    from landscaper_hpc.directions.directions import Directions
    from landscaper_hpc.objective.objective import Objective
    from landscaper_hpc.topology.tree import MergeTree
    from landscaper_hpc.work.pace import Pace

_MEASURE_SECONDS = 1.5
_OFF_SHARE = "within a factor of 1.5, as a rule"
_OFF_LEVEL = "within a factor of 1.5, as a rule; of 2 where basins are narrower than the lattice"
"""What predictions of searches were off by (docs/definitions.md)."""
_PER_CRITICAL = 3  # evaluations: in groups, as they were, and more exactly
# gradients for a minimum and the saddle beside it, and more for each direction: between losses tried in 2 to 4 of them
# it was from a tenth of that (many minima of the grid are one) to twice as many (walls)
_PER_MINIMUM, _PER_DIRECTION = 20, 12


@dataclass(frozen=True)
class Estimate:
    """Of one study on one site. Rates are of one process; `seconds` assumes that all workers keep that rate."""

    landscapes: int
    shape: tuple[int, ...]
    points: int
    shards: int
    points_per_shard: int
    files: int
    store_bytes: int
    parameters: int
    batch: int
    points_per_second: float
    workers: int
    confirmed: int
    """Minima that are followed, in all landscapes; 0 where that is not asked for."""
    counted: bool
    """Whether that is their number: the merge trees are there; or else it is the most."""
    gradients: int
    """What following so many costs, about, each of the study's loss."""
    gradients_per_second: float
    """In one process; 0 where none is asked for."""
    checked: int
    """Minima and saddles that error bars look at, in all landscapes; `counted` as above."""
    checks_per_second: float
    """How many of them one process evaluates once, on all data."""
    batches_of_data: tuple[int, int]
    """Of how many batches the study's loss is, and how many the data have."""
    examples: tuple[int, int]
    """Of how many examples of the loss rates were measured, and how many it has: fewer where it is slow."""
    memory: list[Stage]
    """Bytes that one process holds at most, without what the loss holds between its operations."""
    assumed: str = ""
    """What `points` is predicted from where only lowest parts are evaluated, or what they are otherwise."""

    @property
    def confirm_seconds(self) -> float:
        return self.gradients / (self.gradients_per_second * self.workers) if self.gradients else 0.0

    @property
    def error_bars_seconds(self) -> float:
        few, whole = self.batches_of_data
        each = _PER_CRITICAL * (1 + few / whole if few < whole else 1)
        return each * self.checked / (self.checks_per_second * self.workers) if self.checked else 0.0

    @property
    def seconds(self) -> float:
        return self.points / (self.points_per_second * self.workers)

    @property
    def device_hours(self) -> float:
        """Hours of one worker's device (GPU or core)."""
        return self.points / self.points_per_second / 3600


def estimate(study: Study, site: Site, folder: Path) -> Estimate:
    """Count, and measure the rate of evaluation for a second or two on the first checkpoint. In `folder` it will run.

    That checkpoint is tried out as `check` does it. Of one that has still to be trained, the task's untrained model is
    measured.
    """
    refuse_inside(folder.resolve())
    refuse_sweep(folder.resolve())
    grid = study.make_grid()
    landscapes = [Landscape(study, one, StudyFolder(folder), site, run="plan") for one in study.checkpoints]
    trees = [_tree(item) for item in landscapes] if study.confirm or study.error_bars else []
    measured = _measure(study, site, study.checkpoints[0], folder)
    extent = _extent(landscapes, grid, site, measured)
    followed = checked = 0
    if study.sampling is not None and study.sampling.minima:
        from landscaper_hpc.confirm.network import MOST_DESCENTS

        starts = min(study.sampling.minima, study.sampling.points // 2) + MOST_DESCENTS
        followed = len(landscapes) * starts
    if study.confirm is not None:  # a grid of N points has at most N / 2 minima
        followed = sum(min(study.confirm.minima, _minima(tree, grid)) for tree in trees)
    if study.error_bars is not None:
        checked = sum(_checked(tree, study.error_bars.pairs, grid) for tree in trees)
    return Estimate(
        landscapes=len(landscapes),
        shape=grid.shape,
        points=extent.points,
        shards=extent.shards,
        points_per_shard=extent.points_per_shard,
        files=extent.files,
        store_bytes=extent.bytes + len(landscapes) * measured.parameters * measured.itemsize * grid.ndim,
        parameters=measured.parameters,
        batch=measured.batch,
        points_per_second=measured.points,
        workers=site.planned_workers(),
        confirmed=followed,
        counted=study.sampling is None and None not in trees,
        gradients=followed * (_PER_MINIMUM + _PER_DIRECTION * grid.ndim),
        gradients_per_second=measured.gradients,
        checked=checked,
        checks_per_second=measured.checks,
        batches_of_data=measured.batches,
        examples=measured.examples,
        memory=_memory(study, site, measured),
        assumed=extent.assumed,
    )


class _Extent(NamedTuple):
    """What is evaluated in all landscapes, and what storing it takes."""

    points: int
    shards: int
    points_per_shard: int
    files: int
    bytes: int
    assumed: str


def _extent(landscapes: Sequence[Landscape], grid: Grid, site: Site, measured: _Measured) -> _Extent:
    """Of a whole grid, of the lowest part of one, or of scattered points."""
    study, n = landscapes[0].study, len(landscapes)
    most = site.points_per_shard(grid)
    if study.scope is not None:
        predicted = [_predicted(item, grid) for item in landscapes]
        if study.data is not None:
            more = "; on few batches, and on all data a tenth as many at most, as a rule, which are not in the time"
            predicted = [(found, said + more) for found, said in predicted]
        points = sum(found for found, _ in predicted)
        files = files_of(n, 0, parameters=measured.tensors) + 120 * n
        return _Extent(
            points, -(-points // most), most, files, 16 * points, "; ".join(sorted({s for _, s in predicted}))
        )
    shape = grid.shard_shape(most)
    each = math.prod(shape)
    if study.sampling is not None:
        points = n * study.sampling.points
        files = files_of(n, 0, parameters=measured.tensors) + 100 * n
        return _Extent(points, 0, each, files, 8 * points * (grid.ndim + 1), "scattered, in place of a grid")
    shards = n * grid.n_shards(shape)
    files = files_of(n, grid.n_shards(shape), parameters=measured.tensors)
    return _Extent(n * grid.size, shards, each, files, shards * (8 * each + 32), "")


def _memory(study: Study, site: Site, measured: _Measured) -> list[Stage]:
    """The stages of one process, of as many as hold the model together."""
    size = site.gpus_per_model
    found = stages(study, measured.sizes.divided(size), measured.dimension, measured.batch)
    if size > 1:  # task() makes all of the model in every process, on the host
        loading = stages(study, measured.sizes, measured.dimension, measured.batch)[0]
        found[0] = replace(found[0], host=max(loading.device, loading.host))
    return found


def _predicted(landscape: Landscape, grid: Grid) -> tuple[int, str]:
    """How many points a search for the lowest part will evaluate, about, and what that is taken from."""
    from landscaper_hpc.sampling.lowest import lattice_of
    from landscaper_hpc.sampling.predict import from_descents, from_lattice, of_a_ball

    scope = landscape.study.scope
    assert scope is not None
    if scope.points is not None:
        return scope.points, "as scope.points says"
    if landscape.prepared():
        known, lattice = known_of(landscape), lattice_of(grid.shape)
        asked = grid.shape, landscape.study.connectivity, scope.share, scope.below, scope.descents
        off = _OFF_SHARE if scope.share is not None else _OFF_LEVEL
        with suppress(LookupError):
            values = known(lattice.reshape(-1)).reshape(lattice.shape)
            with suppress(LookupError):
                found = from_descents(known, *asked)
                if found is not None:
                    return int(found), f"from the losses of the lattice and its descents, which are there: {off}"
            return int(from_lattice(values, *asked)), f"from the losses of the lattice, which are there: {_OFF_LEVEL}"
    if scope.share is None:
        said = "the lattice alone: how much lies below scope.below is known when that is evaluated; plan again then"
        return lattice_size(grid.shape), said
    said = (
        "assumed is one round basin; several take more. Once the lattice and its descents are evaluated (start the "
        "run, and stop it), plan goes by their losses"
    )
    return int(of_a_ball(grid.shape, scope.share)), said


def _tree(landscape: Landscape) -> MergeTree | None:
    """The merge tree of a landscape, where it is there."""
    if not landscape.prepared():
        return None
    store = landscape.open()
    try:
        refuse_other(landscape, store)
    except InputError:
        return None
    if landscape.study.scope is not None:
        from landscaper_hpc.topology.tree import MergeTree

        lowest = store.answer(SCOPE, landscape.study.asked()[SCOPE])
        return None if lowest is None else MergeTree.from_arrays(lowest.arrays)
    return store.tree() if store.has_sound_tree() else None


def _minima(tree: MergeTree | None, grid: Grid) -> int:
    return grid.size // 2 if tree is None else tree.n_minima


def _checked(tree: MergeTree | None, pairs: int, grid: Grid) -> int:
    """Critical points of so many pairs: a minimum, where it dies and its first saddle."""
    from landscaper_hpc.topology.error_bars import critical_points

    return min(3 * pairs, grid.size) if tree is None else len(critical_points(tree, pairs).ids)


def files_of(landscapes: int, shards: int, parameters: int = 20) -> int:
    """How many files and folders (inodes) a study takes at most: data and `done` of each shard; directions, an array of
    3 for each parameter tensor; coordinates, eigenvalues, merge tree and its drawing; results and logs."""
    return landscapes * (2 * shards + 3 * parameters + 135) + 20


class _Measured(NamedTuple):
    parameters: int
    tensors: int
    itemsize: int
    batch: int
    points: float
    gradients: float
    checks: float
    batches: tuple[int, int]
    examples: tuple[int, int]
    sizes: Sizes
    dimension: int


def _measure(study: Study, site: Site, checkpoint: Checkpoint, folder: Path) -> _Measured:
    """Sizes, and per second of one process: points, gradients, and losses on all data, where those are asked for."""
    refuse_unsupported(Landscape(study, checkpoint, StudyFolder(folder), site, run="plan"))
    # measured of the whole model, in this process
    alone = site.model_copy(update={"gpus_per_model": 1})
    landscape = Landscape(study, checkpoint, StudyFolder(folder), alone, run="plan")
    follows = study.confirm is not None or (study.sampling is not None and study.sampling.minima > 0)
    pace = None
    if study.train is not None and not landscape.file.exists():
        objective, directions, grid, batch, pace = _untrained(landscape, follows)
    else:
        trial = try_out(landscape)
        objective, directions, grid, batch = trial.objective, trial.directions, trial.grid, trial.batch
    batches = len(objective.batches), len(objective.on_all_data.batches)
    if pace is not None:
        checks = pace.points * batches[0] / batches[1] if study.error_bars is not None else 0.0
        rates = _Rates(pace.points, pace.gradients, checks)
        examples = pace.measured, pace.examples
    else:
        assert directions is not None
        rates = _rates(landscape, objective, directions, grid, batch, follows)
        examples = (sum(objective.examples),) * 2
    tensors = list(objective.parameters.values())
    size = sum(t.numel() for t in tensors)
    dimension, sizes = objective.layout.dimension, Sizes.of(objective, study.directions.n)
    itemsize = tensors[0].element_size()
    return _Measured(size, len(tensors), itemsize, batch, *rates, batches, examples, sizes, dimension)


class _Rates(NamedTuple):
    """Per second of one process; 0 where none is asked for."""

    points: float
    gradients: float
    checks: float


def _rates(
    landscape: Landscape, objective: Objective, directions: Directions, grid: Grid, batch: int, follows: bool
) -> _Rates:
    """As a run evaluates it."""
    from landscaper_hpc.losses.evaluate import losses

    shard = grid.points(next(grid.shards(grid.shard_shape(landscape.site.points_per_shard(grid)))))
    with refused_if_it_hangs(landscape, objective):
        once = _rate(lambda: losses(objective, directions, shard[:batch], batch), batch, 0.0)
        points = shard[: max(batch, int(once * _MEASURE_SECONDS / 8))]  # a call costs something by itself
        rate = _rate(lambda: losses(objective, directions, points, batch), len(points))
    gradients = checks = 0.0
    if follows:
        with refused_if_it_hangs(landscape, objective, "some gradients") as gets_on:
            gradients = _rate_of_gradients(objective, directions, grid, gets_on)
    if landscape.study.error_bars is not None:
        from landscaper_hpc.losses.by_group import group_losses

        with refused_if_it_hangs(landscape, objective, "losses of groups of the data"):
            checks = _rate(lambda: group_losses(objective, directions, points[:1]), 1)
    return _Rates(rate, gradients, checks * len(objective.batches) / len(objective.on_all_data.batches))


@in_words()
def _rate_of_gradients(objective: Objective, directions: Directions, grid: Grid, gets_on: Callable[[], None]) -> float:
    from landscaper_hpc.confirm.of_objective import ObjectiveSurface
    from landscaper_hpc.confirm.surface import Box

    box = Box.of(grid)
    surface = ObjectiveSurface(objective, directions, box.step)
    points = box.alpha(np.random.default_rng(0).uniform(0, 1, (8, grid.ndim)) * box.far)

    def some() -> None:
        gets_on()
        surface.gradients(points)

    return _rate(some, len(points))


def _rate(do: Callable[[], object], points: int, seconds: float = _MEASURE_SECONDS) -> float:
    """Points per second of what does so many; the first call warms caches up."""
    do()
    done, start = 0, time.perf_counter()
    while not done or time.perf_counter() - start < seconds:
        do()
        done += points
    return done / (time.perf_counter() - start)


@in_words()
def _untrained(landscape: Landscape, follows: bool) -> tuple[Objective, Directions | None, Grid, int, Pace | None]:
    """What there is to measure of a checkpoint that has still to be trained: it may be of any loss. Of a slow one its
    pace."""
    import torch

    from landscaper_hpc.directions.directions import random_directions
    from landscaper_hpc.losses.evaluate import choose_batch
    from landscaper_hpc.objective.loading import load_task
    from landscaper_hpc.work.pace import pace_of_slow

    study, checkpoint = landscape.study, landscape.checkpoint
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "untrained.pt"
        with loading_in_time(landscape):
            torch.save(load_task(study.path(study.task), checkpoint.options).model.state_dict(), file)
        objective = load(replace(landscape, checkpoint=checkpoint.model_copy(update={"file": str(file)})))
    kind, grid = study.directions, study.make_grid()
    with refused_if_it_hangs(landscape, objective):
        if (pace := pace_of_slow(objective, follows)) is not None:  # of a large model directions take longer than that
            return objective, None, grid, 1 if study.batch == "auto" else study.batch, pace
    directions = random_directions(objective, kind.n, seed=kind.seed, normalization=kind.normalization)
    with refused_if_it_hangs(landscape, objective):
        objective.prove_deterministic()
        batch = study.batch if study.batch != "auto" else choose_batch(objective, directions, points=grid.size)
    return objective, directions, grid, batch, None
