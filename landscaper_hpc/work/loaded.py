"""What a process works with on a landscape: objective, store and directions, loaded once and proved before a shard."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.device import free_bytes, keep_freed_memory, local_device
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.work import group, identity
from landscaper_hpc.work.hangs import RECORDED, loading_in_time, refused_if_it_hangs
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.memory import refuse_too_large
from landscaper_hpc.work.watch import Limit

if TYPE_CHECKING:
    from landscaper_hpc.directions.directions import Directions
    from landscaper_hpc.objective.objective import Objective

log = logging.getLogger(__name__)


def load(landscape: Landscape, elsewhere: bool = False) -> Objective:
    """The landscape's objective; with `elsewhere` its loss is called first beside the checkpoint."""
    from landscaper_hpc.objective.beginning import settings_of_the_beginning
    from landscaper_hpc.objective.checkpoints.names import Naming
    from landscaper_hpc.objective.loading import load_objective

    keep_freed_memory()
    settings_of_the_beginning()
    study, size = landscape.study, landscape.site.gpus_per_model
    group.refuse_unsupported(landscape)
    if size > 1 and group.rank is None:
        raise InputError(
            f"gpus_per_model is {size}, which is for `run` alone; leave it out (--set-site gpus_per_model=1)"
        )
    with loading_in_time(landscape):
        return load_objective(
            study.path(study.task),
            landscape.file,
            options=landscape.checkpoint.options,
            precision=study.precision,
            device=local_device(landscape.site.device, size, group.rank or 0),
            frozen=study.frozen,
            only=study.only,
            few=None if study.data is None else study.data.batches,
            # stores of earlier versions keep their bits
            one_channel_last=not landscape.prepared() or landscape.open().attributes.get("one_channel_last", False),
            folders=[study.path(".")],
            naming=Naming(**study.naming(landscape.checkpoint)),
            divided=size > 1,
            elsewhere=elsewhere,
        )


def prove_nothing_kept(landscape: Landscape, objective: Objective) -> None:
    """`InputError` for a loss, or a metric, that depends on what it was called with before. Where one of them could,
    the task is loaded once more."""
    from landscaper_hpc.objective import keeping
    from landscaper_hpc.objective.fsdp import held_bytes
    from landscaper_hpc.objective.metrics import with_metrics

    proved = list(dict.fromkeys([objective, with_metrics(objective)]))
    if not any(map(keeping.may_keep, proved)):
        return
    held = sum(map(held_bytes, (*objective.model.parameters(), *objective.model.buffers())))
    if objective.by_any(["no room"] if 2 * held > free_bytes(objective.device) else []):
        log.warning(
            "%s: there is no room for the model twice, so that what its loss keeps from call to call is not found out",
            landscape,
        )
        others: list[Objective | None] = [None] * len(proved)
    else:
        other = load(landscape, elsewhere=True)
        others = [other, with_metrics(other)]
    with refused_if_it_hangs(landscape, objective):
        for mine, its in zip(proved, others, strict=False):
            keeping.prove_nothing_kept(mine, its)


@dataclass(frozen=True)
class Worker:
    """What a process keeps between the shards of one landscape."""

    store: LandscapeStore
    objective: Objective
    outputs: Objective
    """The objective with its metrics; itself, where it has none."""
    directions: Directions
    batch: int
    limit: Limit

    def prove(self, landscape: Landscape) -> None:
        """`InputError` unless this process, or its group, computes the recorded losses (the canary)."""
        group.together(prove_again, landscape)

    def prove_here(self, landscape: Landscape) -> None:
        """The same of the process alone."""
        with refused_if_it_hangs(landscape, self.objective, RECORDED):
            identity.prove_values(landscape, self.store, self.objective, self.directions, self.batch)


_workers: dict[tuple[str, str, int], Worker] = {}


def worker_for(landscape: Landscape) -> Worker:
    """What this process works with on a landscape: loaded, and proved to give the recorded losses."""
    if key_of(landscape) not in _workers:
        group.together(_load, landscape)
    return _workers[key_of(landscape)]


def prove_again(landscape: Landscape) -> None:
    """In every process of a group: `InputError` unless they compute the recorded losses."""
    worker_for(landscape).prove_here(landscape)


def key_of(landscape: Landscape) -> tuple[str, str, int]:
    """What was loaded in a group ends with it."""
    return landscape.run, landscape.name, group.ended


def _load(landscape: Landscape) -> None:
    forget()  # one at a time: the model, its data and n directions may fill a GPU
    _workers[key_of(landscape)] = _start(landscape)


def forget() -> None:
    """Let go of what this process holds."""
    _workers.clear()


def keep(landscape: Landscape, objective: Objective, directions: Directions) -> None:
    """Go on as a worker with what this process has prepared."""
    _workers[key_of(landscape)] = _proved(landscape, landscape.open(), objective, directions)


def _start(landscape: Landscape) -> Worker:
    """Load everything, and prove it before the first shard."""
    import torch

    from landscaper_hpc.directions.directions import Directions

    store = landscape.open()
    store.admit(identity.provenance(landscape.site), landscape.site.accept_versions)
    objective = load(landscape)
    refuse_too_large(landscape, objective)
    with refused_if_it_hangs(landscape, objective, RECORDED):
        identity.prove(landscape, store, objective)
    layout, gram = objective.layout, store.gram()
    flat = torch.zeros(len(gram), layout.size, dtype=objective.dtype, device=objective.device)
    vectors = layout.unflatten(flat)
    for name, values in store.direction_vectors():
        for row, whole in zip(vectors[name], torch.from_numpy(values), strict=True):
            row.copy_(layout.own(name, whole))
    directions = Directions(
        vectors=vectors,
        kind=landscape.study.directions.kind,
        normalization=landscape.study.directions.normalization,
        gram=gram,
    )
    return _proved(landscape, store, objective, directions)


def _proved(landscape: Landscape, store: LandscapeStore, objective: Objective, directions: Directions) -> Worker:
    """What a process works with once it gives the recorded losses."""
    from landscaper_hpc.losses.evaluate import prove_for
    from landscaper_hpc.losses.evaluator import evaluate_as_written
    from landscaper_hpc.objective.metrics import with_metrics

    outputs = with_metrics(objective)
    if store.attributes.get("as_written", False):
        evaluate_as_written(objective)
        evaluate_as_written(outputs)
    with refused_if_it_hangs(landscape, objective, RECORDED):
        prove_for(objective, directions, store.grid.corners())
        prove_for(outputs, directions, store.grid.corners())
        batch, began = store.attributes["batch"], time.monotonic()
        identity.prove_values(landscape, store, objective, directions, batch)
    a_batch = (time.monotonic() - began) / -(-len(store.attributes["identity"]["losses"]) // batch)
    first = a_batch * -(-math.prod(store.shard_shape) // batch)
    return Worker(store, objective, outputs, directions, batch, Limit(landscape.site, first))
