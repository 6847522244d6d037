"""Directions from a file."""

from __future__ import annotations

from pathlib import Path

from landscaper_hpc.directions.directions import Directions, directions_from_file
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.progress import Progress
from landscaper_hpc.study.study import Study


def directions(study: Study, objective: Objective, progress: Progress, resume: Path | None) -> Directions:
    """Directions from a file."""
    config = study.directions
    assert config.file is not None
    return directions_from_file(study.path(config.file), objective, n=config.n, normalization=config.normalization)
