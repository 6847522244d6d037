"""The gradient at the checkpoint."""

from __future__ import annotations

from pathlib import Path

from landscaper_hpc.directions.directions import Directions, gradient_direction
from landscaper_hpc.directions.gradient import refuse_wrong_gradient
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.progress import Progress
from landscaper_hpc.study.study import Study


def directions(study: Study, objective: Objective, progress: Progress, resume: Path | None) -> Directions:
    """The gradient at the checkpoint."""
    refuse_wrong_gradient(objective)
    return gradient_direction(objective, normalization=study.directions.normalization)
