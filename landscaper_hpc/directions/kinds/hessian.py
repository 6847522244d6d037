"""Eigenvectors of the Hessian, by Lanczos or by PyHessian's power iteration."""

from __future__ import annotations

from pathlib import Path

from landscaper_hpc.directions.directions import Directions, hessian_directions
from landscaper_hpc.directions.lanczos import by_magnitude, mixture, most_negative
from landscaper_hpc.directions.power_iteration import power_iteration_directions
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.progress import Progress
from landscaper_hpc.study.study import Mixture, Study


def directions(study: Study, objective: Objective, progress: Progress, resume: Path | None) -> Directions:
    """Eigenvectors of the Hessian, by the solver that the study names."""
    config = study.directions
    if config.solver == "pyhessian":
        return power_iteration_directions(
            objective,
            config.n,
            tolerance=config.tolerance,
            max_iterations=config.max_iterations,
            seed=config.seed,
            normalization=config.normalization,
            progress=progress,
        )
    return hessian_directions(
        objective,
        config.n,
        tolerance=config.tolerance,
        max_iterations=config.max_iterations,
        seed=config.seed,
        normalization=config.normalization,
        select=mixture(config.which.largest, config.which.negative)
        if isinstance(config.which, Mixture)
        else {"magnitude": by_magnitude, "negative": most_negative}[config.which],
        basis=config.basis,
        basis_precision=config.basis_precision,
        resume=resume,
        progress=progress,
    )
