"""Confirmed minima of a landscape: searches from grid minima and saddles in batches, and what is stored of them."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.store.answers import Answer
from landscaper_hpc.store.layout import SCOPE
from landscaper_hpc.work.answering import Arrays, Batch, Deal, Question
from landscaper_hpc.work.group import together
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.loaded import key_of, worker_for

if TYPE_CHECKING:
    from landscaper_hpc.confirm.confirmed import Spending
    from landscaper_hpc.confirm.of_objective import ObjectiveSurface
    from landscaper_hpc.confirm.result import Confirmed
    from landscaper_hpc.confirm.rows import What
    from landscaper_hpc.confirm.surface import Cost
    from landscaper_hpc.store.landscape import LandscapeStore

log = logging.getLogger(__name__)

BATCH, TASKS = 8, 4
"""Searches that one task does side by side at most; few are dealt to so many tasks, for all wait for the last one."""


def refuse_unconfirmable(objective: Any, directions: Any, grid: Any) -> None:
    """`InputError` where minima cannot be followed: the loss has no gradient, or one of another function."""
    from landscaper_hpc.confirm.of_objective import ObjectiveSurface
    from landscaper_hpc.confirm.surface import Box

    ObjectiveSurface(objective, directions, Box.of(grid).step)


def confirmed(item: Landscape, deal: Deal) -> Answer:
    """The minima and saddles of the loss that those of a landscape's grid lead to, or of its lowest part."""
    from landscaper_hpc.confirm.confirmed import confirmed_below, confirmed_by
    from landscaper_hpc.report.quantities import measure
    from landscaper_hpc.report.quantity import Measured
    from landscaper_hpc.topology.readers import ZarrReader
    from landscaper_hpc.topology.tree import MergeTree

    assert item.study.confirm is not None
    store, most = item.open(), item.study.confirm.minima
    rounding = rounding_of(item, store)
    if item.study.scope is None:
        run = dealt(item, deal, "confirming", (store.study_id, store.losses_sha256(), store.attributes["provenance"]))
        tree = store.tree()
        found = confirmed_by(run, rounding, store.grid, ZarrReader(store.losses), tree, most)
    else:
        run = dealt(item, deal, "confirming", (store.attributes["sha256"],))
        lowest = store.whole_answer(SCOPE, item.study.asked()[SCOPE])
        tree, level = MergeTree.from_arrays(lowest.arrays), lowest.numbers["scope.level"]
        found = confirmed_below(run, rounding, store.grid, tree, level, most)
    log.info("%s: %s", item, found.sentence())
    numbers = measure(Measured(tree, store.precision, store, confirmed=found), ("confirmed",))
    return Answer(found.to_arrays(), numbers, _drawing(found, tree))


QUESTION = Question("confirmed", confirmed)


def dealt(item: Landscape, deal: Deal, verb: str, decides: tuple[Any, ...]) -> Spending:
    """Runs searches in a landscape by batches that are dealt out: `verb` says what for, `decides` what they are of."""
    from landscaper_hpc.confirm.surface import Cost

    def run(what: What, starts: NDArray[np.float64]) -> tuple[NDArray[np.float64], Cost]:
        size = min(BATCH, math.ceil(len(starts) / TASKS))
        pieces = [starts[i : i + size] for i in range(0, len(starts), size)]
        found = deal([Searches(item, f"{verb} {what}", piece, (*decides, size), what) for piece in pieces])
        spent = np.sum([one["cost"] for one in found], axis=0)
        by_differences = any("by_differences" in one for one in found)
        return np.concatenate([one["rows"] for one in found]), Cost(int(spent[0]), int(spent[1]), by_differences)

    return run


def rounding_of(item: Landscape, store: LandscapeStore) -> float:
    """The relative error of a landscape's losses where it is worked on."""
    import torch

    from landscaper_hpc.objective.device import local_device
    from landscaper_hpc.objective.precision import epsilon

    return epsilon(store.precision, torch.device(local_device(item.site.device)))


def _drawing(found: Confirmed, tree: Any) -> dict[str, NDArray[Any]]:
    """What figures show: of the grid's leaves and basins in `Drawing`, what became of each; the tree of the ends."""
    from landscaper_hpc.topology.drawing import LEAVES, PROFILE_BASINS, branches, most_persistent

    own = most_persistent(found.tree, LEAVES)
    return {
        "leaves": found.fates(most_persistent(tree, LEAVES).minima),
        "basins": found.fates(most_persistent(tree, PROFILE_BASINS).minima),
        "branches": np.stack(branches(own)),
        "kinds": found.kinds_of(own.minima),
    }


@dataclass(frozen=True, eq=False)
class Searches(Batch):
    """Searches for minima, saddles or paths from some starts."""

    kind: What

    def find(self) -> Arrays:
        from landscaper_hpc.confirm.rows import searching
        from landscaper_hpc.confirm.surface import Box, Cost, search

        surface, box = _InTime(self), Box.of(self.landscape.open().grid)
        cost = Cost()
        searches = [searching(self.kind, start, box, surface.rounding) for start in self.starts]
        rows = search(surface, box, searches, cost)
        found = {"rows": np.array(rows), "cost": np.array([cost.gradients, cost.products])}
        return found if surface.exact else found | {"by_differences": np.array(True)}


_GRADIENT, _PRODUCT, _PROOF = 3, 6, 100
"""As many losses take about as long; a proof for each point of a batch."""


class _InTime:
    """A surface whose every call is watched. Where several processes hold the model, this one searches, and all of them
    compute what it asks for."""

    def __init__(self, batch: Searches) -> None:
        self._batch = batch
        self.rounding, self.exact = batch.computed(_proved, _PROOF * batch.starts.size)

    def gradients(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self._batch.computed(_gradients, _GRADIENT * len(points), points)

    def hessians(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._batch.computed(_hessians, _PRODUCT * points.size, points)


class SurfaceOf:
    """The loss of a landscape over its directions, by this process, or all that hold the model with it."""

    def __init__(self, item: Landscape) -> None:
        self._item = item
        self.rounding, self.exact = together(_proved, item)

    def gradients(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return together(_gradients, self._item, points)

    def hessians(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return together(_hessians, self._item, points)


def _proved(item: Landscape) -> tuple[float, bool]:
    """The relative error of a value, and whether Hessians are second derivatives."""
    surface = _surface(item)
    return surface.rounding, surface.exact


def _gradients(item: Landscape, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return _surface(item).gradients(points)


def _hessians(item: Landscape, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return _surface(item).hessians(points)


_surfaces: dict[tuple[str, str, int], ObjectiveSurface] = {}


def _surface(item: Landscape) -> ObjectiveSurface:
    """Proved once for all that this process does with the landscape."""
    from landscaper_hpc.confirm.of_objective import ObjectiveSurface
    from landscaper_hpc.confirm.surface import Box

    if (key := key_of(item)) not in _surfaces:
        _surfaces.clear()
        worker = worker_for(item)
        _surfaces[key] = ObjectiveSurface(worker.objective, worker.directions, Box.of(worker.store.grid).step)
        _surfaces[key].ways  # noqa: B018 (not while a search is timed)
    return _surfaces[key]
