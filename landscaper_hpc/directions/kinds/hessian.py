"""Eigenvectors of the Hessian, by Lanczos."""

from __future__ import annotations

from pathlib import Path

from landscaper_hpc.directions.directions import Directions, hessian_directions
from landscaper_hpc.directions.lanczos import by_magnitude, mixture, most_negative
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.progress import Progress
from landscaper_hpc.study.study import Mixture, Study


def directions(study: Study, objective: Objective, progress: Progress, resume: Path | None) -> Directions:
    """Eigenvectors of the Hessian, by Lanczos."""
    config = study.directions
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
        resume=resume,
        progress=progress,
    )
