"""Error bars of a landscape: losses of groups of the data at its minima and saddles, and what rounding does there."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.store.answers import Answer
from landscaper_hpc.work.answering import Arrays, Batch, Deal, Question
from landscaper_hpc.work.group import together
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.loaded import key_of, load, worker_for

if TYPE_CHECKING:
    from landscaper_hpc.objective.objective import Objective
    from landscaper_hpc.topology.error_bars import ErrorBars, Kind
    from landscaper_hpc.topology.tree import MergeTree

log = logging.getLogger(__name__)

BATCH = 16
"""Points that one task evaluates."""


def error_bars(item: Landscape, deal: Deal) -> Answer:
    """How sure the pairs of a landscape's tree are, and SMAD and mean climb."""
    from landscaper_hpc.report.quantities import measure
    from landscaper_hpc.report.quantity import Measured
    from landscaper_hpc.topology.all_data import change_of
    from landscaper_hpc.topology.error_bars import critical_points, error_bars_of

    assert item.study.error_bars is not None
    store, seed = item.open(), item.study.directions.seed
    tree = store.tree()
    points = critical_points(tree, item.study.error_bars.pairs)
    index = np.unravel_index(points.ids, tree.shape)
    alphas = np.stack([c[i] for c, i in zip(store.grid.coordinates(), index, strict=True)], axis=1)
    decides = (store.study_id, store.losses_sha256(), store.attributes["provenance"], seed)
    pieces = [alphas[i : i + BATCH] for i in range(0, len(alphas), BATCH)]

    def looked_at(what: str, all_data: bool) -> tuple[Arrays, ErrorBars]:
        found = deal([Groups(item, what, piece, decides, seed, all_data) for piece in pieces])
        if not found:  # a landscape without a minimum
            nothing = {name: np.empty((0, 2)) for name in ("values", "exact")}
            found = [nothing | {"weights": np.ones(2), "units": np.array(0), "batches": np.array(0)}]
        all_points = found[0] | {name: np.concatenate([one[name] for one in found]) for name in ("values", "exact")}
        kind: Kind = "batches" if found[0]["batches"] else "examples"
        groups = all_points["values"], all_points["weights"], all_points["exact"]
        return all_points, error_bars_of(tree, points, *groups, int(found[0]["units"]), kind, seed)

    found, bars = looked_at("error bars", all_data=True)
    change, arrays = None, bars.to_arrays()
    log.info("%s: %s", item, bars.sentence())
    if item.study.data is not None and pieces:
        few = looked_at("error bars on few batches", all_data=False)[1]
        few_of_all = int(found["of"][0]), int(found["of"][1])
        change = change_of(tree, points, few, bars, found["exact"][:, 0], few_of_all)
        arrays |= {f"few_{name}": values for name, values in few.to_arrays().items()}
        log.info("%s: %s", item, change.sentence())
    numbers = measure(Measured(tree, store.precision, store, error_bars=bars, change=change), ("error_bars",))
    return Answer(arrays, numbers, _drawing(bars, tree))


QUESTION = Question("error_bars", error_bars)


def refuse_unsampled(objective: Objective) -> None:
    """`InputError` where the loss tells no parts of the data apart."""
    from landscaper_hpc.losses.by_group import units

    units(objective, objective.parameters)


def _drawing(bars: ErrorBars, tree: MergeTree) -> dict[str, NDArray[Any]]:
    """What figures show: which of the bars, leaves and basins in `Drawing` stand (1), do not (0)."""
    from landscaper_hpc.topology.drawing import LEAVES, PROFILE_BASINS, longest, most_persistent

    stands = tree.minima[bars.minima[bars.stands]]
    return {
        "bars": np.isin(tree.minima[longest(tree, LEAVES)], stands).astype(np.int64),
        "leaves": np.isin(most_persistent(tree, LEAVES).minima, stands).astype(np.int64),
        "basins": np.isin(most_persistent(tree, PROFILE_BASINS).minima, stands).astype(np.int64),
    }


@dataclass(frozen=True, eq=False)
class Groups(Batch):
    """The losses of groups of the data at some points, and the losses again: as they were, and more exactly. Of
    `all_data`, or of the batches that the study's loss is of."""

    seed: int
    all_data: bool

    def find(self) -> Arrays:
        objective = worker_for(self.landscape).objective
        few, whole = few_of_all = [objective.count, objective.on_all_data.count]
        if self.landscape.study.precision != "float64":
            together(_reference, self.landscape)  # that is watched itself
        evaluations = 20 * len(self.starts)  # in float64 as well, which may be much slower
        if self.all_data:
            evaluations = evaluations * whole // few
        return {
            "of": np.array(few_of_all),
            **self.computed(_groups, evaluations, self.starts, self.seed, self.all_data),
        }


def _groups(landscape: Landscape, alphas: NDArray[np.float64], seed: int, all_data: bool) -> Arrays:
    from landscaper_hpc.losses.by_group import group_losses
    from landscaper_hpc.losses.evaluate import prove_for
    from landscaper_hpc.losses.noise import compared

    worker = worker_for(landscape)
    objective, reference = worker.objective, _reference(landscape)
    if all_data:
        objective, reference = objective.on_all_data, reference.on_all_data
    prove_for(objective, worker.directions, worker.store.grid.corners())
    groups = group_losses(objective, worker.directions, alphas, seed=seed)
    exact = compared(objective, reference, worker.directions, alphas, worker.batch)
    return {
        "values": groups.values,
        "weights": groups.weights,
        "units": np.array(groups.units),
        "batches": np.array(groups.kind == "batches"),
        "exact": np.stack(exact, axis=1),
    }


_references: dict[tuple[str, str, int], Objective] = {}


def _reference(item: Landscape) -> Objective:
    """The objective in float64, loaded once for all batches of a landscape that this process, or its group, does."""
    if item.study.precision == "float64":
        return worker_for(item).objective
    if (key := key_of(item)) not in _references:
        _references.clear()  # one at a time, as with workers
        _references[key] = load(replace(item, study=item.study.model_copy(update={"precision": "float64"})))
    return _references[key]
