"""Scattered points of a landscape and the network of minima that they lead to: batches that are dealt out, and what is
stored of them."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc import strict_json
from landscaper_hpc.files import publish
from landscaper_hpc.store.answers import Answer
from landscaper_hpc.store.layout import SAMPLING, at_points
from landscaper_hpc.work.answering import Arrays, Batch, Deal, Question
from landscaper_hpc.work.confirming import dealt, rounding_of
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.loaded import worker_for

if TYPE_CHECKING:
    from landscaper_hpc.confirm.network import Network

log = logging.getLogger(__name__)

_MOST_BATCHES = 1000
"""Of losses; each is a file while it is worked on."""


def sampled(item: Landscape, deal: Deal) -> Answer:
    """What scattered points of a landscape say, and the minima and saddles of the loss that they lead to."""
    from landscaper_hpc.confirm.network import network_of_sample
    from landscaper_hpc.confirm.surface import Box
    from landscaper_hpc.report.quantities import measure
    from landscaper_hpc.report.quantity import Measured, MetricsAt
    from landscaper_hpc.sampling.scattered import scattered, unit_points
    from landscaper_hpc.topology.drawing import Drawing

    asked, seed = item.study.sampling, item.study.directions.seed
    assert asked is not None
    content = strict_json.dumps({"points": asked.points}).encode()
    publish(item.inside.sampled(item.name), content, sync="nothing")
    store = item.open()
    box, decides = Box.of(store.grid), (store.attributes["sha256"],)
    unit = unit_points(asked.kind, asked.points, store.grid.ndim, seed)
    alphas = box.alpha(unit * box.far)
    side_by_side = int(store.attributes["batch"])
    size = side_by_side * math.ceil(len(alphas) / (side_by_side * _MOST_BATCHES))
    pieces = [alphas[i : i + size] for i in range(0, len(alphas), size)]
    what = "scattered points with metrics" if store.metrics else "scattered points"
    found = deal([Losses(item, what, piece, decides) for piece in pieces])
    values = np.concatenate([one["losses"] for one in found])
    metrics = {name: np.concatenate([one[at_points(name)] for one in found]) for name in store.metrics}
    sample = scattered(unit, values, seed)
    log.info("%s: %s", item, sample.sentence())
    arrays = {"points": alphas, "losses": values, **sample.tree.to_arrays()}
    arrays |= {at_points(name): column for name, column in metrics.items()}
    drawing = Drawing.of(sample.tree, values).to_arrays()
    network = None
    if asked.minima:
        run = dealt(item, deal, "network of", decides)
        network = network_of_sample(run, rounding_of(item, store), store.grid, unit, sample.tree, asked.minima, seed)
        log.info("%s: %s", item, network.sentence())
        arrays |= {f"network_{name}": found for name, found in network.found.to_arrays().items()}
        drawing |= _drawing(network)
    assert sample.tree.labels is not None
    at = MetricsAt(metrics, sample.tree.labels, alphas=alphas) if metrics else None
    subject = Measured(sample.tree, store.precision, store, scattered=sample, network=network, metrics=at)
    return Answer(arrays, measure(subject, ("landscape", "sampling")), drawing)


QUESTION = Question(SAMPLING, sampled)


def _drawing(network: Network) -> dict[str, NDArray[Any]]:
    """What figures show of the network: its most persistent ends."""
    from landscaper_hpc.topology.drawing import LEAVES, branches, most_persistent

    own = most_persistent(network.found.tree, LEAVES)
    return {"network": np.stack(branches(own)), "kinds": network.found.kinds_of(own.minima)}


@dataclass(frozen=True, eq=False)
class Losses(Batch):
    """The losses at some points, with the task's metrics."""

    def find(self) -> Arrays:
        worker = worker_for(self.landscape)
        found = self.computed(_losses, len(self.starts), self.starts)
        of_each = found.reshape(len(found), -1).T
        if not np.isfinite(of_each[0]).any():  # it may be the device
            worker.prove(self.landscape)
        return dict(zip(("losses", *map(at_points, worker.store.metrics)), of_each, strict=True))


def _losses(landscape: Landscape, alphas: NDArray[np.float64]) -> NDArray[np.float64]:
    from landscaper_hpc.losses.evaluate import losses

    worker = worker_for(landscape)
    return losses(worker.outputs, worker.directions, alphas, worker.batch)
