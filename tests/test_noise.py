"""The precision report bounds what rounding does to the losses."""

from __future__ import annotations

import numpy as np
import pytest
from problems import TASKS

from landscaper_hpc.directions import random_directions
from landscaper_hpc.evaluate import losses
from landscaper_hpc.noise import precision_report
from landscaper_hpc.objective import Objective

SIZES = {"float64": (0, 1e-13), "float32": (1e-10, 1e-5), "tf32": (1e-10, 1e-5), "bf16": (1e-5, 0.1)}


@pytest.mark.parametrize("precision", SIZES)
@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer", "autograd inside"])
def test_the_error_is_that_of_the_precision(name: str, precision: str) -> None:
    low, exact = Objective(TASKS[name](), precision=precision), Objective(TASKS[name]())
    directions = random_directions(low, 2)
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (6, 2))
    report = precision_report(low, exact, directions, points, 4)
    assert report.points == 6
    assert SIZES[precision][0] <= report.relative <= SIZES[precision][1]
    other = losses(exact, random_directions(exact, 2), points, 1)
    assert np.abs(losses(low, directions, points, 4) - other).max() <= report.noise_persistence + 1e-15
