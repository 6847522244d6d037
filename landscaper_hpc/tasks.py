"""The three tasks of a study, each a function that returns nothing: train, prepare (directions), evaluate (a shard).

A task is picklable, idempotent, and publishes its result as something that appears whole.
"""

from __future__ import annotations

import math
import platform
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.config import Checkpoint, Mixture, Study, canonical_sha256
from landscaper_hpc.device import local_device
from landscaper_hpc.errors import InputError
from landscaper_hpc.failures import ATTEMPTS, Failures
from landscaper_hpc.grid import Shard
from landscaper_hpc.leases import Leases
from landscaper_hpc.progress import Progress
from landscaper_hpc.pulse import Pulse, pulse, whereabouts
from landscaper_hpc.site import Site
from landscaper_hpc.store import LandscapeStore, StoredDirections
from landscaper_hpc.usercode import user_module

if TYPE_CHECKING:
    from torch import Tensor

    from landscaper_hpc.directions import Directions
    from landscaper_hpc.objective import Objective


@dataclass(frozen=True, eq=False)
class Landscape:
    """The plan of one checkpoint's landscape: the study, which of its checkpoints, where its store is, where it runs.

    `run` tells one run from another within a process that outlives it; `logs` is the folder for what workers tell of
    themselves.
    """

    study: Study
    checkpoint: Checkpoint
    store: Path
    site: Site
    run: str
    logs: Path | None = None

    @property
    def name(self) -> str:
        return self.checkpoint.name

    @property
    def file(self) -> Path:
        return self.study.path(self.checkpoint.file)

    @property
    def failures(self) -> Failures:
        return Failures(self.store.parent / "failed")

    @property
    def leases(self) -> Leases:
        return Leases(self.store.parent / "leases")

    @property
    def pulse(self) -> Pulse:
        """This process's pulse for those who watch the landscape."""
        return pulse(self.logs or self.store.parent / "logs", self.site.device)

    def open(self) -> LandscapeStore:
        return LandscapeStore(self.store, self.name)

    def prepared(self) -> bool:
        """Whether its store is there, with directions."""
        return (self.store / self.name).exists()

    @property
    def key(self) -> str:
        """Its name among failures."""
        return f"{self.name}.directions"

    def __str__(self) -> str:
        return f"landscape {self.name}"


@dataclass(frozen=True, eq=False)
class ShardTask:
    """One shard of one landscape."""

    landscape: Landscape
    shard: Shard

    @property
    def key(self) -> str:
        """Its name among leases and failures."""
        return f"{self.landscape.name}.{'.'.join(map(str, self.shard.index))}"

    def __str__(self) -> str:
        return f"{self.landscape}, shard {'.'.join(map(str, self.shard.index))}"


def without_failed(tasks: Sequence[ShardTask]) -> list[ShardTask]:
    """The tasks whose shards were not set aside after too many failures."""
    aside = {item: item.failures.set_aside() for item in {task.landscape for task in tasks}}
    return [task for task in tasks if task.key not in aside[task.landscape]]


# ---- train ----------------------------------------------------------------------------------------------------------


def train_checkpoint(landscape: Landscape, progress: Progress) -> None:
    """Make a missing checkpoint with the study's `train` file."""
    import torch

    from landscaper_hpc.precision import one_thread

    assert landscape.study.train is not None
    file = landscape.study.path(landscape.study.train)
    if file.suffix != ".py":
        raise InputError(f"train: {file} is not a Python file (.py)")
    landscape.file.parent.mkdir(parents=True, exist_ok=True)
    with one_thread(torch.device("cpu")), user_module(file) as module:
        if not callable(getattr(module, "train", None)):
            raise InputError(f"train: {file} has no function train(path, progress, **options)")
        module.train(landscape.file, progress, **landscape.checkpoint.options)
    if not landscape.file.exists():
        raise InputError(f"train: {file} ran but did not write {landscape.file}")


# ---- prepare --------------------------------------------------------------------------------------------------------


def prepare(landscape: Landscape, progress: Progress) -> None:
    """Find the directions and create the store, ready for shards. Does nothing where the store is there."""
    from landscaper_hpc.evaluate import choose_batch, evaluation_mode, losses

    study = landscape.study
    science = study.science(landscape.checkpoint)
    if landscape.prepared():
        landscape.open().refuse_other(science)
        return
    progress = _beating(landscape, progress)
    objective = load(landscape)
    objective.prove_deterministic()
    # named by the science: what another checkpoint left must not be taken up
    resume = landscape.store.parent / "resume" / f"{landscape.name}.{canonical_sha256(science)[:16]}"
    resume.parent.mkdir(parents=True, exist_ok=True)
    directions = make_directions(study, objective, progress, resume)
    batch = study.batch if study.batch != "auto" else choose_batch(objective, directions)
    grid = study.make_grid(directions.eigenvalues)
    (canary,) = losses(objective, directions, np.zeros((1, grid.ndim)), batch)
    found = spectrum(study, objective, progress)
    if directions.eigenvalues is not None and directions.residuals is not None:
        found |= {"eigenvalues": directions.eigenvalues, "residuals": directions.residuals}
    LandscapeStore.create(
        landscape.store,
        landscape.name,
        science,
        grid,
        grid.shard_shape(landscape.site.points_per_shard(grid)),
        StoredDirections(
            vectors={name: vector.cpu().numpy() for name, vector in directions.vectors.items()},
            gram=directions.gram,
            hessian=found,
        ),
        {
            "checkpoint_loss": _json_float(canary),
            "iterations": directions.iterations,
            "batch": batch,
            "mode": evaluation_mode(objective, directions, batch),
            "provenance": provenance(landscape.site.device),
        },
    )
    resume.unlink(missing_ok=True)


def prepare_or_set_aside(landscape: Landscape, progress: Progress) -> None:
    """`prepare`, whose failure is kept among the failures and leaves other landscapes alone."""
    try:
        prepare(landscape, progress)
    except InputError as error:
        # it would be the same again
        for _ in range(ATTEMPTS):
            landscape.failures.record(landscape.key, f"{landscape} on {whereabouts()}\n{error}")
    except Exception:
        landscape.failures.record(landscape.key, f"{landscape} on {whereabouts()}\n{traceback.format_exc()}")


def _beating(landscape: Landscape, progress: Progress) -> Progress:
    own, current = landscape.pulse, f"directions of {landscape.name}"
    own.beat(current)

    def report(done: int, total: int) -> None:
        own.beat(current)
        progress(done, total)

    return report


def load(landscape: Landscape) -> Objective:
    from landscaper_hpc.objective import load_objective

    study = landscape.study
    return load_objective(
        study.path(study.task),
        landscape.file,
        options=landscape.checkpoint.options,
        precision=study.precision,
        device=local_device(landscape.site.device),
        frozen=study.frozen,
        only=study.only,
    )


def make_directions(study: Study, objective: Objective, progress: Progress, resume: Path | None = None) -> Directions:
    """The study's directions; Lanczos goes on from the file `resume` after a kill."""
    from landscaper_hpc import directions
    from landscaper_hpc.checkpoints import matched, read_checkpoint
    from landscaper_hpc.lanczos import by_magnitude, mixture, most_negative

    config = study.directions
    if config.kind == "file":
        assert config.file is not None
        return directions.directions_from_file(
            study.path(config.file), objective, n=config.n, normalization=config.normalization
        )
    if config.kind == "random":
        return directions.random_directions(objective, config.n, seed=config.seed, normalization=config.normalization)
    if config.kind == "gradient":
        return directions.gradient_direction(objective, normalization=config.normalization)
    if config.kind == "trajectory":
        files = [study.path(file) for file in config.trajectory]
        trajectory = [matched(objective.model, read_checkpoint(file), file) for file in files]
        return directions.trajectory_directions(objective, trajectory, config.n, normalization=config.normalization)[0]
    return directions.hessian_directions(
        objective,
        config.n,
        tolerance=config.tolerance,
        max_iterations=config.max_iterations,
        seed=config.seed,
        normalization=config.normalization,
        select=mixture(config.which.largest, config.which.negative)
        if isinstance(config.which, Mixture)
        else {"magnitude": by_magnitude, "negative": most_negative}[config.which],
        resume=resume,
        progress=progress,
    )


def spectrum(study: Study, objective: Objective, progress: Progress) -> dict[str, NDArray[np.float64]]:
    """Trace and spectral density of the Hessian, as far as the study asks for them, as the store keeps them."""
    from landscaper_hpc.hessian import Hessian
    from landscaper_hpc.precision import arithmetic, one_thread
    from landscaper_hpc.spectrum import spectral_density, trace

    config = study.hessian
    found: dict[str, NDArray[np.float64]] = {}
    if not config.trace_products and not config.density_probes:
        return found
    with one_thread(objective.device), arithmetic("float32", objective.device):
        hessian = Hessian(objective)
        dimension = hessian.layout.dimension

        def random(i: int) -> Tensor:
            return hessian.random(study.directions.seed + i)

        if config.trace_products:
            t = trace(hessian.__matmul__, random, dimension, config.trace_products, progress)
            found["trace"] = np.array([t.value, t.standard_error])
        if config.density_probes:
            density = spectral_density(
                hessian.__matmul__,
                random,
                dimension,
                probes=config.density_probes,
                steps=config.density_steps,
                progress=progress,
            )
            found |= {"density_nodes": density.nodes, "density_weights": density.weights}
    return found


def provenance(device: str) -> dict[str, Any]:
    """What the numbers were made with. No dates and no host names: the same study gives the same bytes."""
    from importlib.metadata import version

    import torch

    name = torch.cuda.get_device_name(local_device(device)) if device.startswith("cuda") else _processor()
    packages = ("landscaper-hpc", "torch", "numpy", "numba", "zarr")
    return {"versions": {p: version(p) for p in packages} | {"python": platform.python_version()}, "device": name}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


# ---- evaluate -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Worker:
    """What a process keeps between the shards of one landscape."""

    store: LandscapeStore
    objective: Objective
    directions: Directions
    batch: int

    def prove(self, landscape: Landscape) -> None:
        """`InputError` unless this process computes the recorded loss of the checkpoint (the canary)."""
        from landscaper_hpc.evaluate import losses

        recorded = self.store.attributes["checkpoint_loss"]
        try:
            (canary,) = losses(self.objective, self.directions, np.zeros((1, self.store.grid.ndim)), self.batch)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{landscape}: the checkpoint's loss cannot be computed on {whereabouts()} ({type(error).__name__}: "
                f"{error}), where {recorded!r} was recorded when the study began; see whether its device is in order, "
                "and leave it out or run the same command again"
            ) from error
        if _json_float(canary) != recorded:
            raise InputError(
                f"{landscape}: the checkpoint's loss is {canary!r} on {whereabouts()}, but {recorded!r} was recorded "
                "when the study began; run all of a study on the same kind of device with the same versions"
            )


def evaluate_shard(task: ShardTask, progress: Progress) -> None:
    """Evaluate one shard and publish it.

    What the loss raises at these points is kept among the failures: the other shards go on, and this one gets new
    attempts. `InputError` is raised: it would meet every shard. So is that of a device which broke meanwhile, and fails
    or gives NaN everywhere: the canary tells the one from the other.
    """
    from landscaper_hpc.evaluate import losses

    own = task.landscape.pulse
    own.beat(task.key)
    worker = _worker(task.landscape)
    points = worker.store.grid.points(task.shard)

    def report(done: int, total: int) -> None:
        own.beat(task.key, done * task.shard.size // max(total, 1))
        progress(done, total)

    try:
        values = losses(worker.objective, worker.directions, points, worker.batch, report)
    except InputError:
        raise
    except Exception:
        error = traceback.format_exc()
        worker.prove(task.landscape)
        task.landscape.failures.record(task.key, f"{task} on {whereabouts()}\n{error}")
        return
    if not np.isfinite(values).any():
        worker.prove(task.landscape)
    worker.store.write(task.shard, values)
    own.shard_done(task.shard.size)


_workers: dict[tuple[str, str], _Worker] = {}


def _worker(landscape: Landscape) -> _Worker:
    key = (landscape.run, landscape.name)
    if key not in _workers:
        _workers.clear()  # one at a time: the model, its data and n directions may fill a GPU
        _workers[key] = _start(landscape)
    return _workers[key]


def _start(landscape: Landscape) -> _Worker:
    """Load everything, and prove it before the first shard."""
    import torch

    from landscaper_hpc.directions import Directions

    store = landscape.open()
    objective = load(landscape)
    stored = store.directions()
    directions = Directions(
        vectors={name: torch.from_numpy(stored.vectors[name]).to(p.device) for name, p in objective.parameters.items()},
        kind=landscape.study.directions.kind,
        normalization=landscape.study.directions.normalization,
        gram=stored.gram,
    )
    worker = _Worker(store, objective, directions, store.attributes["batch"])
    worker.prove(landscape)
    return worker


def _json_float(value: float) -> float | str:
    return float(value) if math.isfinite(value) else str(float(value))
