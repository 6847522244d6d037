"""What a study will cost, before anything is spent: points, shards, files, bytes, and time from a short measurement."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import Grid, lattice_size
from landscaper_hpc.objective.usercode import in_words
from landscaper_hpc.store.folder import StudyFolder
from landscaper_hpc.store.place import refuse_inside, refuse_sweep
from landscaper_hpc.study.site import Site
from landscaper_hpc.study.study import Checkpoint, Study
from landscaper_hpc.work.identity import refuse_other
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.loaded import load
from landscaper_hpc.work.points import known_at
from landscaper_hpc.work.trial import try_out

if TYPE_CHECKING:
    from landscaper_hpc.directions.directions import Directions
    from landscaper_hpc.objective.objective import Objective

_MEASURE_SECONDS = 2.0
_GRADIENT = 3.0  # of a point's time
_PER_MINIMUM, _PER_DIRECTION = 35, 12  # gradients for a minimum and the saddle beside it, and more for each direction


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
    """What following so many costs, about: a gradient takes about as long as three points."""
    assumed: str = ""
    """What `points` is predicted from where only lowest parts are evaluated."""

    @property
    def confirm_seconds(self) -> float:
        return _GRADIENT * self.gradients / (self.points_per_second * self.workers)

    @property
    def seconds(self) -> float:
        return self.points / (self.points_per_second * self.workers)

    @property
    def device_hours(self) -> float:
        """Hours of one worker's device (GPU or core)."""
        return self.points / self.points_per_second / 3600


def estimate(study: Study, site: Site, folder: Path) -> Estimate:
    """Count, and measure the rate of evaluation for about two seconds on the first checkpoint. In `folder` it will run.

    That checkpoint is tried out as `check` does it. Of one that has still to be trained, the task's untrained model is
    measured.
    """
    refuse_inside(folder.resolve())
    refuse_sweep(folder.resolve())
    grid = study.make_grid()
    shape = grid.shard_shape(site.points_per_shard(grid))
    shards = grid.n_shards(shape)
    followed, counted = 0, True
    if study.confirm is not None:
        minima = [_minima(Landscape(study, one, StudyFolder(folder), site, run="plan")) for one in study.checkpoints]
        # a grid of N points has at most N / 2 minima
        followed = sum(min(study.confirm.minima, grid.size // 2 if found is None else found) for found in minima)
        counted = None not in minima
    parameters, tensors, itemsize, batch, rate = _measure(study, site, study.checkpoints[0], folder)
    n = len(study.checkpoints)
    if study.scope is not None:
        landscapes = [Landscape(study, one, StudyFolder(folder), site, run="plan") for one in study.checkpoints]
        predicted = [_predicted(item, grid) for item in landscapes]
        points = sum(found for found, _ in predicted)
        most = site.points_per_shard(grid)
        return Estimate(
            landscapes=n,
            shape=grid.shape,
            points=points,
            shards=-(-points // most),
            points_per_shard=most,
            files=files_of(n, 0, parameters=tensors) + 120 * n,
            store_bytes=16 * points + n * parameters * itemsize * grid.ndim,
            parameters=parameters,
            batch=batch,
            points_per_second=rate,
            workers=site.planned_workers(),
            confirmed=0,
            counted=True,
            gradients=0,
            assumed="; ".join(sorted({said for _, said in predicted})),
        )
    return Estimate(
        landscapes=n,
        shape=grid.shape,
        points=n * grid.size,
        shards=n * shards,
        points_per_shard=math.prod(shape),
        files=files_of(n, shards, parameters=tensors),
        store_bytes=n * (shards * (8 * math.prod(shape) + 32) + parameters * itemsize * grid.ndim),
        parameters=parameters,
        batch=batch,
        points_per_second=rate,
        workers=site.planned_workers(),
        confirmed=followed,
        counted=counted,
        gradients=followed * (_PER_MINIMUM + _PER_DIRECTION * grid.ndim),
    )


def _predicted(landscape: Landscape, grid: Grid) -> tuple[int, str]:
    """How many points a search for the lowest part will evaluate, about, and what that is taken from."""
    from landscaper_hpc.sampling.lowest import lattice_of
    from landscaper_hpc.sampling.predict import from_lattice, of_a_ball

    scope = landscape.study.scope
    assert scope is not None
    if scope.points is not None:
        return scope.points, "as scope.points says"
    if landscape.prepared():
        store, lattice = landscape.open(), lattice_of(grid.shape)
        losses = known_at(landscape, lattice.reshape(-1))
        if losses is not None:
            values = losses.reshape(lattice.shape)
            found = from_lattice(
                values, store.grid.shape, landscape.study.connectivity, scope.share, scope.below, scope.descents
            )
            return int(found), "from the losses of the lattice, which are there"
    if scope.share is None:
        said = "the lattice alone: how much lies below scope.below is known when that is evaluated; plan again then"
        return lattice_size(grid.shape), said
    said = (
        "assumed is one round basin; several take more. Once the lattice is evaluated (start the run, and stop it), "
        "plan goes by its losses"
    )
    return int(of_a_ball(grid.shape, scope.share)), said


def _minima(landscape: Landscape) -> int | None:
    """How many minima the grid of a landscape has, where its merge tree is there."""
    if not landscape.prepared():
        return None
    store = landscape.open()
    try:
        refuse_other(landscape, store)
    except InputError:
        return None
    return store.tree().n_minima if store.has_sound_tree() else None


def files_of(landscapes: int, shards: int, parameters: int = 20) -> int:
    """How many files and folders (inodes) a study takes at most: data and `done` of each shard; directions, an array of
    3 for each parameter tensor; coordinates, eigenvalues, merge tree and its drawing; results and logs."""
    return landscapes * (2 * shards + 3 * parameters + 135) + 20


def _measure(study: Study, site: Site, checkpoint: Checkpoint, folder: Path) -> tuple[int, int, int, int, float]:
    from landscaper_hpc.losses.evaluate import losses

    landscape = Landscape(study, checkpoint, StudyFolder(folder), site, run="plan")
    if study.train is not None and not landscape.file.exists():
        objective, directions, grid, batch = _untrained(landscape)
    else:
        trial = try_out(landscape)
        objective, directions, grid, batch = trial.objective, trial.directions, trial.grid, trial.batch
    shard = next(grid.shards(grid.shard_shape(batch)))
    points = grid.points(shard)
    losses(objective, directions, points, batch)  # the first call warms caches up
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < _MEASURE_SECONDS:
        losses(objective, directions, points, batch)
        done += len(points)
    rate = done / (time.perf_counter() - start)
    tensors = list(objective.parameters.values())
    return sum(t.numel() for t in tensors), len(tensors), tensors[0].element_size(), batch, rate


@in_words()
def _untrained(landscape: Landscape) -> tuple[Objective, Directions, Grid, int]:
    """What there is to measure of a checkpoint that has still to be trained: it may be of any loss."""
    import torch

    from landscaper_hpc.directions.directions import random_directions
    from landscaper_hpc.losses.evaluate import choose_batch
    from landscaper_hpc.objective.loading import load_task

    study, checkpoint = landscape.study, landscape.checkpoint
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "untrained.pt"
        torch.save(load_task(study.path(study.task), checkpoint.options).model.state_dict(), file)
        objective = load(replace(landscape, checkpoint=checkpoint.model_copy(update={"file": str(file)})))
    objective.prove_deterministic()
    kind = study.directions
    directions = random_directions(objective, kind.n, seed=kind.seed, normalization=kind.normalization)
    grid = study.make_grid()
    batch = study.batch if study.batch != "auto" else choose_batch(objective, directions, points=grid.size)
    return objective, directions, grid, batch
