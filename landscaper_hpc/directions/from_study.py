"""The directions and the Hessian's numbers that a study asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.progress import Progress
from landscaper_hpc.study.study import Mixture, Study

if TYPE_CHECKING:
    from torch import Tensor

    from landscaper_hpc.directions.directions import Directions
    from landscaper_hpc.objective.objective import Objective


def make_directions(study: Study, objective: Objective, progress: Progress, resume: Path | None = None) -> Directions:
    """The study's directions; Lanczos goes on from the file `resume` after a kill."""
    from landscaper_hpc.directions import directions
    from landscaper_hpc.directions.hessian import refuse_wrong_gradient
    from landscaper_hpc.directions.lanczos import by_magnitude, mixture, most_negative
    from landscaper_hpc.objective.checkpoints import read_checkpoint
    from landscaper_hpc.objective.checkpoints.fit import matched
    from landscaper_hpc.objective.checkpoints.names import Naming

    config = study.directions
    if config.kind == "file":
        assert config.file is not None
        return directions.directions_from_file(
            study.path(config.file), objective, n=config.n, normalization=config.normalization
        )
    if config.kind == "random":
        return directions.random_directions(objective, config.n, seed=config.seed, normalization=config.normalization)
    if config.kind == "gradient":
        refuse_wrong_gradient(objective)
        return directions.gradient_direction(objective, normalization=config.normalization)
    if config.kind == "trajectory":
        files = [study.path(file) for file in config.trajectory]
        naming = Naming(**study.naming())
        trajectory = [
            matched(objective.model, read_checkpoint(file, naming.containers), file, naming=naming) for file in files
        ]
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
