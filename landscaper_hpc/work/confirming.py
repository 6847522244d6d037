"""The confirm stage: searches from grid minima and saddles, dealt out in batches, and what is stored of them.

A batch is a task like a shard: picklable, idempotent, its rows appear whole in the folder `resume`, by a name that is a
hash of all that decides them. A run that was stopped goes on from there.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.files import publish
from landscaper_hpc.progress import Bars, Progress, silent
from landscaper_hpc.work.executor import Mapper, until_done
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.tasks import worker_for

if TYPE_CHECKING:
    from landscaper_hpc.confirm.of_objective import ObjectiveSurface
    from landscaper_hpc.confirm.result import Confirmed
    from landscaper_hpc.confirm.rows import What
    from landscaper_hpc.confirm.surface import Cost

log = logging.getLogger(__name__)

BATCH = 8
"""Searches that one task does side by side."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some searches of one landscape: `starts` (k, …), and the file that gets their rows."""

    landscape: Landscape
    what: What
    starts: NDArray[np.float64]
    file: Path

    def __str__(self) -> str:
        return f"{self.landscape}, {self.what} confirmed"


def refuse_unconfirmable(objective: Any, directions: Any, grid: Any) -> None:
    """`InputError` where minima cannot be followed: the loss has no gradient, or one of another function."""
    from landscaper_hpc.confirm.of_objective import ObjectiveSurface
    from landscaper_hpc.confirm.surface import Box

    ObjectiveSurface(objective, directions, Box.of(grid).step)


def confirm_all(landscapes: Sequence[Landscape], mapper: Mapper, bars: Bars) -> None:
    """Confirm the minima of finished landscapes, with the searches dealt out by a mapper."""
    for item in landscapes:

        def deal(batches: Sequence[Batch], item: Landscape = item) -> None:
            label = f"confirming {batches[0].what} of {item.name}"

            def missing() -> list[Batch] | None:
                left = [batch for batch in batches if not batch.file.exists()]
                bars.update(label, len(batches) - len(left), len(batches))
                return left or None

            done = sum(batch.file.exists() for batch in batches)

            def on_done(batch: Batch) -> None:
                nonlocal done
                done += 1
                bars.update(label, min(done, len(batches)), len(batches))

            until_done(mapper, search_batch, missing, None, on_done)

        _confirm(item, deal)


def confirm_here(item: Landscape) -> None:
    """Confirm the minima of a finished landscape in this process."""

    def deal(batches: Sequence[Batch]) -> None:
        for batch in batches:
            search_batch(batch, silent)

    _confirm(item, deal)


def _confirm(item: Landscape, deal: Callable[[Sequence[Batch]], None]) -> None:
    from landscaper_hpc.confirm.confirmed import confirmed_by
    from landscaper_hpc.confirm.surface import Cost
    from landscaper_hpc.objective.device import local_device
    from landscaper_hpc.objective.precision import epsilon
    from landscaper_hpc.report.quantities import measure
    from landscaper_hpc.report.quantity import Measured

    assert item.study.confirm is not None
    store, asked = item.open(), item.study.confirm.model_dump(mode="json")
    if _is_measured(item, asked):
        return
    import torch

    device = torch.device(local_device(item.site.device))
    item.inside.resume.mkdir(parents=True, exist_ok=True)
    decides = [store.study_id, store.losses_sha256(), store.attributes["provenance"], BATCH]

    def run(what: What, starts: NDArray[np.float64]) -> tuple[NDArray[np.float64], Cost]:
        pieces = [starts[i : i + BATCH] for i in range(0, len(starts), BATCH)]
        batches = [Batch(item, what, piece, _file(item, what, piece, decides)) for piece in pieces]
        deal(batches)
        found = [_read(batch.file) for batch in batches]
        spent = np.sum([cost for _, cost in found], axis=0)
        return np.concatenate([rows for rows, _ in found]), Cost(int(spent[0]), int(spent[1]))

    tree = store.tree()
    found = confirmed_by(run, epsilon(item.study.precision, device), store.grid, tree, item.study.confirm.minima)
    log.info("%s: %s", item, found.sentence())
    numbers = measure(Measured(tree, item.study.precision, store, confirmed=found), ("confirmed",))
    store.write_confirmed(found, asked, numbers, _drawing(found, tree))


def _is_measured(item: Landscape, asked: dict[str, Any]) -> bool:
    """Whether it is there with all numbers that this version tells."""
    from landscaper_hpc.report import quantities

    stored = item.open().confirmed(asked)
    told = {row.key for row in quantities.ROWS if row.origin == "confirmed"}
    return stored is not None and stored.numbers.keys() >= told


def _drawing(found: Confirmed, tree: Any) -> dict[str, NDArray[Any]]:
    """What figures show: of the grid's leaves and basins in `Drawing`, what became of each; the tree of the ends."""
    from landscaper_hpc.topology.drawing import LEAVES, PROFILE_BASINS, branches, most_persistent

    own = most_persistent(found.tree, LEAVES)
    return {
        "leaves": found.fates(most_persistent(tree, LEAVES).minima),
        "basins": found.fates(most_persistent(tree, PROFILE_BASINS).minima),
        "branches": np.stack(branches(own)),
        "kinds": found.kinds[own.minima],
    }


# ---- a batch --------------------------------------------------------------------------------------------------------


def search_batch(batch: Batch, progress: Progress) -> None:
    """Run the searches of a batch and publish their rows. Does nothing where they are there."""
    from landscaper_hpc.confirm.rows import searching
    from landscaper_hpc.confirm.surface import Box, Cost, search

    if batch.file.exists():
        return
    own = batch.landscape.heartbeat
    own.begin_phase(f"confirming {batch.what} of {batch.landscape.name}")
    surface, box = _surface(batch.landscape), Box.of(batch.landscape.open().grid)
    cost = Cost()
    rows = search(surface, box, [searching(batch.what, start, box, surface.rounding) for start in batch.starts], cost)
    content = io.BytesIO()
    np.savez(content, rows=np.array(rows), cost=np.array([cost.gradients, cost.products]))
    publish(batch.file, content.getvalue())


_surfaces: dict[tuple[str, str], ObjectiveSurface] = {}


def _surface(item: Landscape) -> ObjectiveSurface:
    from landscaper_hpc.confirm.of_objective import ObjectiveSurface
    from landscaper_hpc.confirm.surface import Box

    key = (item.run, item.name)
    if key not in _surfaces:
        _surfaces.clear()
        worker = worker_for(item)
        _surfaces[key] = ObjectiveSurface(worker.objective, worker.directions, Box.of(worker.store.grid).step)
    return _surfaces[key]


def _file(item: Landscape, what: What, starts: NDArray[np.float64], decides: list[Any]) -> Path:
    starts = np.ascontiguousarray(starts, "<f8")
    own = [*decides, what, list(starts.shape), hashlib.sha256(starts.tobytes()).hexdigest()]
    return item.inside.resume / f"{item.name}.{what}.{canonical_sha256(own)[:16]}.npz"


def _read(file: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    with np.load(file, allow_pickle=False) as found:
        return found["rows"], found["cost"]
