"""The plane through the study's checkpoint and two others; with one other a line, with more a space."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from landscaper_hpc.directions.directions import Directions
from landscaper_hpc.directions.of_checkpoints import plane_directions, projection, read_all
from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.checkpoints.names import Naming
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.progress import Progress
from landscaper_hpc.study.study import Study


def directions(study: Study, objective: Objective, progress: Progress, resume: Path | None) -> Directions:
    """The plane through the checkpoint and others. `InputError` where the grid does not reach them."""
    config = study.directions
    others = read_all(objective, list(map(study.path, config.through)), Naming(**study.naming()))
    found = plane_directions(objective, others, normalization=config.normalization)
    if any(study.found()):  # the range is not known yet
        return found
    alphas = projection(objective, found, others).alphas
    lower, upper = (np.array([getattr(axis, end) for axis in study.make_grid().axes]) for end in ("lower", "upper"))
    outside = ((alphas < lower) | (alphas > upper)).any(axis=1)
    if outside.any():
        i = int(np.argmax(outside))
        raise InputError(
            f"grid.range: {config.through[i]} lies at α = ({', '.join(f'{a:.4g}' for a in alphas[i])}), outside of "
            f"the grid; give a range of {1.25 * np.abs(alphas).max():.4g} or more"
        )
    return found
