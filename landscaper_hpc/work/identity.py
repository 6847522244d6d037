"""What makes a landscape the landscape of one loss: recorded by `prepare`, proved by every worker before its first
shard.

Study, task with the modules that it imports, checkpoint and files of directions are in the science, whose hash is the
landscape's id. Beside it the store keeps `identity`: the SHA-256 of the data and of the local files that the task read
as it was built, what these do not cover, and the loss at a few points as far out as the grid goes.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.digests import content_sha256
from landscaper_hpc.errors import InputError
from landscaper_hpc.files import name_on_disk
from landscaper_hpc.grid import Grid
from landscaper_hpc.objective.device import local_device
from landscaper_hpc.store.heartbeat import whereabouts
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import refuse_taken
from landscaper_hpc.strict_json import number
from landscaper_hpc.study.site import Site
from landscaper_hpc.study.study import Study
from landscaper_hpc.work import group
from landscaper_hpc.work.landscape import Landscape

if TYPE_CHECKING:
    from torch import Tensor

    from landscaper_hpc.directions.directions import Directions
    from landscaper_hpc.objective.objective import Objective, Parameters

_BETWEEN = 3
_ADVICE = "go on with what the study began with, or choose another folder with --out"


def data_identity(landscape: Landscape, objective: Objective) -> dict[str, Any]:
    """What the data are: to be found before the loss is called."""
    from landscaper_hpc.objective.identity import data_sha256, files_sha256

    study = landscape.study
    digest, opaque = data_sha256(objective)
    group.refuse_differing(landscape, digest)
    files, large = files_sha256(objective, study.path(study.task).parent)
    return {"data_sha256": digest, "files": files, "not_covered": [*opaque, *large]}


def chosen_points(grid: Grid) -> NDArray[np.float64]:
    """The checkpoint, corners of the grid (two, or four that lie apart), and some of its points between; (m, n)."""
    corners = [[0] * grid.ndim, [-1] * grid.ndim]
    if grid.ndim > 1:
        corners += [[-(d % 2) for d in range(grid.ndim)], [-((d + 1) % 2) for d in range(grid.ndim)]]
    axes, generator = grid.coordinates(), np.random.default_rng(0)
    between = generator.integers(0, grid.shape, (_BETWEEN, grid.ndim))
    indices = np.concatenate([corners, between])
    points = np.stack([axis[indices[:, d]] for d, axis in enumerate(axes)], axis=1)
    return np.concatenate([np.zeros((1, grid.ndim)), points])


def values_at(objective: Objective, directions: Directions, points: NDArray[np.float64], batch: int) -> list[list[Any]]:
    """Points with their losses, as JSON keeps them; without those where the loss raises an error, which it may not at
    the first. The same twice, or `InputError`."""
    from landscaper_hpc.losses.evaluate import losses

    try:
        first, second = (losses(objective, directions, points, batch).tolist() for _ in range(2))
    except InputError:
        raise
    except Exception:
        if len(points) == 1:
            raise
        found = values_at(objective, directions, points[:1], batch)
        for i in range(1, len(points)):
            try:
                found += values_at(objective, directions, points[i : i + 1], batch)
            except InputError:
                raise
            except Exception:
                continue
        return found
    for point, *values in zip(points.tolist(), map(number, first), map(number, second), strict=True):
        if values[0] != values[1]:
            raise InputError(
                f"{objective.source}: the loss is not deterministic ({values[0]!r}, then {values[1]!r} at coordinates "
                f"{point}); leave out what makes it random"
            )
    return [[point, number(value)] for point, value in zip(points.tolist(), first, strict=True)]


def refuse_other(landscape: Landscape, store: LandscapeStore, checkpoint_sha256: str | None = None) -> None:
    """`InputError` where the landscape was begun with another study, or a file that its task reads has changed. Loads
    nothing; `checkpoint_sha256` where it is known already."""
    study = landscape.study
    store.refuse_other(study.science(landscape.checkpoint, checkpoint_sha256))
    folder = study.path(study.task).parent
    for name, digest in store.attributes.get("identity", {}).get("files", {}).items():
        file = folder / name_on_disk(name)
        if not file.is_file() or content_sha256(file) != digest:
            raise InputError(
                f"{landscape}: {name}, which the task reads, "
                f"{'has changed' if file.exists() else 'is gone'} since the study began; {_ADVICE}"
            )


def prove(landscape: Landscape, store: LandscapeStore, objective: Objective) -> None:
    """`InputError` unless this process holds exactly what the landscape was begun with. To be called once everything is
    loaded, and before the loss is called: what is loaded cannot change any more."""
    science, held = landscape.study.science(landscape.checkpoint), store.attributes["science"]
    differing = [key for key in sorted({*held, *science}) if held.get(key) != science.get(key)]
    if differing:
        raise InputError(
            f"{landscape}: {', '.join(differing)} on {whereabouts()} is not what was recorded when the study began; "
            f"{_ADVICE}"
        )
    if "identity" not in store.attributes:
        raise InputError(
            f"{store.folder}: was begun by an earlier version, which recorded nothing to prove its data by; choose "
            "another folder with --out"
        )
    recorded, mine = store.attributes["identity"], data_identity(landscape, objective)
    if mine["files"] != recorded["files"]:
        others = sorted({name for name, _ in {*mine["files"].items()} ^ {*recorded["files"].items()}})
        raise InputError(
            f"{landscape}: the task reads other files than when the study began ({', '.join(others)}); {_ADVICE}"
        )
    if mine["data_sha256"] != recorded["data_sha256"]:
        raise InputError(
            f"{landscape}: the data that the task gives are others than when the study began (data_sha256 "
            f"{mine['data_sha256'][:12]}… on {whereabouts()} for {recorded['data_sha256'][:12]}…); {_ADVICE}"
        )


def prove_values(
    landscape: Landscape, store: LandscapeStore, objective: Objective, directions: Directions, batch: int
) -> None:
    """`InputError` unless this process computes the recorded losses, of the checkpoint and away from it."""
    from landscaper_hpc.losses.evaluate import losses

    recorded = store.attributes["identity"]["losses"]
    points = np.array([point for point, _ in recorded])
    try:
        values = losses(objective, directions, points, batch)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{landscape}: the checkpoint's loss cannot be computed on {whereabouts()} ({type(error).__name__}: "
            f"{error}), where {recorded[0][1]!r} was recorded when the study began; see whether its device is in "
            "order, and leave it out or run the same command again"
        ) from error
    for (point, expected), value in zip(recorded, values.tolist(), strict=True):
        if number(value) != number(float(expected)):
            which = f"the loss at coordinates {point}" if any(point) else "the checkpoint's loss"
            raise InputError(
                f"{landscape}: {which} is {value!r} on {whereabouts()}, but {expected!r} was recorded "
                "when the study began; run all of a study with the same files, on the same kind of device and with the "
                "same versions, and let the loss keep nothing from call to call (a counter, a cache, the time)"
            )


class Proved(NamedTuple):
    """The `loss` of the checkpoint, what is worth a notice, in words, and the precision that the loss rounds to by
    itself, where that is coarser than the study's."""

    loss: float
    notices: list[str]
    narrowed: str | None


def prove_objective(landscape: Landscape, objective: Objective) -> Proved:
    """What is found before anything is spent; `InputError` for a loss that is no function of
    the parameters, there or about as far out as the grid goes, is not finite there, or does not follow them. About ten
    evaluations, and one copy of the parameters more."""
    from landscaper_hpc.objective.dependence import prove_dependence
    from landscaper_hpc.objective.narrowing import narrowing

    study = landscape.study
    size = max(float(np.linalg.norm(point)) for point in chosen_points(study.make_grid()))
    displaced = (_displaced(objective, study.directions.normalization, size, way) for way in _WAYS)
    loss = objective.prove_deterministic(displaced)
    if not math.isfinite(loss):
        wider = "" if study.precision == "float64" else ", and whether it is finite with precision: float64"
        raise InputError(
            f"{landscape}: the loss of the checkpoint is {number(loss)}, so there is nothing to compare others with; "
            f"see whether checkpoint, data and task belong together{wider}"
        )
    _prove_metrics(study, objective)
    notices = [*objective.notices, *prove_dependence(objective)]
    narrowed = narrowing(objective)
    if narrowed is None:
        return Proved(loss, notices, None)
    return Proved(loss, [*notices, narrowed.notice], narrowed.precision)


def _prove_metrics(study: Study, objective: Objective) -> None:
    """`InputError` for metrics that cannot be evaluated, or stored."""
    from landscaper_hpc.objective.metrics import refuse_unusable

    refuse_metrics_of_few(study, objective.metrics, objective.source)
    refuse_taken(objective.metrics, objective.source)
    refuse_unusable(objective)


def refuse_metrics_of_few(study: Study, metrics: Collection[str], source: str) -> None:
    """`InputError` for metrics where only some of the points have all data, and the others have few."""
    if study.data is not None and study.data.then is not None and metrics:
        raise InputError(
            f"{source}: Task.metrics would be of few batches, and with data.then the lowest part is of all data; leave "
            "out the metrics, or data"
        )


_WAYS: tuple[Callable[[Any, int], Any], ...] = (
    lambda p, seed: _gaussian(p, seed),
    lambda p, seed: p.new_ones(p.shape),  # conditions are often on a mean
    lambda p, seed: -p.new_ones(p.shape),
    lambda p, seed: _gaussian(p, seed) / 2,
)


def _gaussian(parameter: Tensor, seed: int) -> Tensor:
    from landscaper_hpc.objective.surroundings import gaussian

    return gaussian(parameter, seed)


def _displaced(
    objective: Objective, normalization: str, size: float, way: Callable[[Tensor, int], Tensor]
) -> Parameters:
    """theta* plus about `size` times a direction with that normalisation."""
    layout = objective.layout
    norms = {
        name: float(p.norm() if layout.parts is None else layout.norm(p.reshape(-1)))
        for name, p in objective.parameters.items()
    }
    counts = {name: math.prod(shape) for name, shape in layout.whole_shapes.items()}
    whole = 1.0 if normalization == "unit" else math.hypot(*norms.values())
    found = {}
    for seed, (name, p) in enumerate(objective.parameters.items()):
        as_a_whole = normalization in ("unit", "model")
        step = whole / math.sqrt(sum(counts.values())) if as_a_whole else norms[name] / math.sqrt(max(counts[name], 1))
        found[name] = p + size * step * way(p, seed)
    return found


def provenance(site: Site) -> dict[str, Any]:
    """What the numbers were made with. No dates and no host names: the same study gives the same bytes."""
    from importlib.metadata import version

    import torch

    on_gpu = site.device.startswith("cuda")
    name = torch.cuda.get_device_name(local_device(site.device)) if on_gpu else _processor()
    packages = ("landscaper-hpc", "torch", "numpy", "numba", "zarr")
    found = {"versions": {p: version(p) for p in packages} | {"python": platform.python_version()}, "device": name}
    # sums over ranks are in the last bits
    return found | ({"gpus_per_model": site.gpus_per_model} if site.gpus_per_model > 1 else {})


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
