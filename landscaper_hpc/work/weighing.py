"""Power-law exponents of the spectra of a checkpoint's weights."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from landscaper_hpc.comparison.weight_spectra import PowerLaws, power_laws, refuse_without_package
from landscaper_hpc.store.answers import Answer
from landscaper_hpc.work.answering import Arrays, Batch, Deal, Question
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.loaded import worker_for


def weighed(item: Landscape, deal: Deal) -> Answer:
    """The exponents of a landscape's checkpoint."""
    from landscaper_hpc.report.quantities import measure
    from landscaper_hpc.report.quantity import Measured

    refuse_without_package()
    store = item.open()
    decides = (store.study_id, store.attributes["provenance"], version("weightwatcher"))
    (found,) = deal([Spectra(item, "spectra of weights", np.zeros(1), decides)])
    laws = PowerLaws(found.pop("layers").tolist(), **found)
    numbers = measure(Measured(store.tree(), store.precision, store, power_laws=laws), ("power_law",))
    return Answer(found, numbers, {})


QUESTION = Question("power_law", weighed)


@dataclass(frozen=True, eq=False)
class Spectra(Batch):
    """Of all layers of the checkpoint's model."""

    def find(self) -> Arrays:
        found = power_laws(worker_for(self.landscape).objective.model)
        return {
            "layers": np.array(found.layers, dtype=np.str_),
            "alpha": found.alpha,
            "error": found.error,
            "largest": found.largest,
        }
