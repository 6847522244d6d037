"""Random directions, uniform on the sphere and orthogonal."""

from __future__ import annotations

from pathlib import Path

from landscaper_hpc.directions.directions import Directions, random_directions
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.progress import Progress
from landscaper_hpc.study.study import Study


def directions(study: Study, objective: Objective, progress: Progress, resume: Path | None) -> Directions:
    """Random directions, uniform on the sphere and orthogonal."""
    config = study.directions
    return random_directions(objective, config.n, seed=config.seed, normalization=config.normalization)
