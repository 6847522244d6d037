"""The principal components of a training run."""

from __future__ import annotations

from pathlib import Path

from landscaper_hpc.directions.directions import Directions
from landscaper_hpc.directions.of_checkpoints import read_all, trajectory_directions
from landscaper_hpc.objective.checkpoints.names import Naming
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.progress import Progress
from landscaper_hpc.study.study import Study


def directions(study: Study, objective: Objective, progress: Progress, resume: Path | None) -> Directions:
    """The principal components of a training run."""
    config = study.directions
    run = read_all(objective, list(map(study.path, config.trajectory)), Naming(**study.naming()))
    return trajectory_directions(objective, run, config.n, normalization=config.normalization)[0]
