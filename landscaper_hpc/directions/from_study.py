"""The directions and the Hessian's numbers that a study asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.progress import Progress
from landscaper_hpc.study.choices import DIRECTION_KINDS
from landscaper_hpc.study.study import Study

if TYPE_CHECKING:
    from torch import Tensor

    from landscaper_hpc.directions.directions import Directions
    from landscaper_hpc.objective.objective import Objective


def make_directions(study: Study, objective: Objective, progress: Progress, resume: Path | None = None) -> Directions:
    """The study's directions; Lanczos goes on from the file `resume` after a kill."""
    found: Directions = DIRECTION_KINDS.load(study.directions.kind)(study, objective, progress, resume)
    return found


def needs_hessian(study: Study) -> bool:
    """Whether Hessian-vector products are a part of what the study asks for."""
    return bool(study.directions.kind == "hessian" or study.hessian.trace_products or study.hessian.density_probes)


def spectrum(study: Study, objective: Objective, progress: Progress) -> dict[str, NDArray[np.float64]]:
    """Trace and spectral density of the Hessian, as far as the study asks for them, as the store keeps them."""
    from landscaper_hpc.directions.hessian import Hessian
    from landscaper_hpc.directions.spectrum import spectral_density, trace
    from landscaper_hpc.objective.precision import arithmetic, one_thread

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
