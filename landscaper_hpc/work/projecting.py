"""Other checkpoints within a landscape, such as those of its training run: where they lie in its directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from landscaper_hpc.digests import combined_sha256
from landscaper_hpc.store.answers import Answer
from landscaper_hpc.work.answering import Arrays, Batch, Deal, Question
from landscaper_hpc.work.group import together
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.loaded import worker_for


def projected(item: Landscape, deal: Deal) -> Answer:
    """Where the checkpoints of a landscape's trajectory lie."""
    from landscaper_hpc.report.quantities import measure
    from landscaper_hpc.report.quantity import Measured
    from landscaper_hpc.study.choices import checkpoint_format

    store, files = item.open(), item.study.trajectory
    digests = []
    for path in map(item.study.path, files):
        form = checkpoint_format(path)
        digests.append(combined_sha256([path] if form is None else form.files(path)))
    decides = (store.study_id, store.attributes["provenance"], digests)
    (found,) = deal([Places(item, "checkpoints of the trajectory", np.arange(float(len(files))), decides)])
    numbers = measure(
        Measured(store.tree(), store.precision, store, trajectory=(files, digests, found)), ("trajectory",)
    )
    return Answer(found, numbers, {"alphas": found["alphas"]})


QUESTION = Question("trajectory", projected)


@dataclass(frozen=True, eq=False)
class Places(Batch):
    """The coordinates of all checkpoints of a trajectory."""

    def find(self) -> Arrays:
        return together(_places, self.landscape)


def _places(landscape: Landscape) -> Arrays:
    from landscaper_hpc.directions.of_checkpoints import projection, read_all
    from landscaper_hpc.objective.checkpoints.names import Naming

    study, worker = landscape.study, worker_for(landscape)
    objective = worker.objective
    run = read_all(objective, [study.path(file) for file in study.trajectory], Naming(**study.naming()))
    found = projection(objective, worker.directions, run)
    flat = objective.layout.flatten(objective.parameters)
    return {**found._asdict(), "length": np.array(float(objective.layout.norm(flat.double())))}
