"""The principal components of a training run."""

from __future__ import annotations

from pathlib import Path

from landscaper_hpc.directions.directions import Directions, trajectory_directions
from landscaper_hpc.objective.checkpoints import read_checkpoint
from landscaper_hpc.objective.checkpoints.fit import matched, refuse_nonfinite
from landscaper_hpc.objective.checkpoints.names import Naming
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.progress import Progress
from landscaper_hpc.study.study import Study


def directions(study: Study, objective: Objective, progress: Progress, resume: Path | None) -> Directions:
    """The principal components of a training run."""
    config, naming = study.directions, Naming(**study.naming())
    trajectory = []
    for file in map(study.path, config.trajectory):
        found = matched(objective.model, read_checkpoint(file, naming.containers), file, naming=naming)
        refuse_nonfinite({name: found[name] for name in objective.parameters}, f"checkpoint {file}")
        trajectory.append(found)
    return trajectory_directions(objective, trajectory, config.n, normalization=config.normalization)[0]
