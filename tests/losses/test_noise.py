"""The precision report bounds what rounding does to the losses."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from problems import TASKS
from studies import network

from landscaper_hpc.commands.check import check
from landscaper_hpc.directions.directions import random_directions
from landscaper_hpc.losses import noise
from landscaper_hpc.losses.evaluate import losses
from landscaper_hpc.losses.noise import precision_report
from landscaper_hpc.objective.objective import Objective

SIZES = {"float64": (0, 1e-13), "float32": (1e-10, 1e-5), "tf32": (1e-10, 1e-5), "bf16": (1e-5, 0.1)}


@pytest.mark.parametrize("precision", SIZES)
@pytest.mark.parametrize(
    "name",
    ["mlp", "cnn", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("transformer", "autograd inside"))],
)
@pytest.mark.thorough
def test_the_error_is_that_of_the_precision(name: str, precision: str) -> None:
    low, exact = Objective(TASKS[name](), precision=precision), Objective(TASKS[name]())
    directions = random_directions(low, 2)
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (6, 2))
    report = precision_report(low, exact, directions, points, 4)
    assert report.points == 6
    assert SIZES[precision][0] <= report.relative <= SIZES[precision][1]
    other = losses(exact, random_directions(exact, 2), points, 1)
    assert np.abs(losses(low, directions, points, 4) - other).max() <= report.noise_persistence + 1e-15


@pytest.mark.thorough
@pytest.mark.parametrize("normalization", ["model", "unit"])
def test_check_says_what_is_noise(
    normalization: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def reported(*arguments: object) -> noise.PrecisionReport:
        seen.append((arguments, precision_report(*arguments)))
        return seen[-1][1]

    monkeypatch.setattr(noise, "precision_report", reported)
    choices = ["precision=float32", f"directions.normalization={normalization}"]
    check(network(tmp_path), choices, None, None)
    ((objective, exact, directions, points, _), report) = seen[0]
    assert (objective.precision, exact.precision) == ("float32", "float64")
    assert directions.normalization == normalization  # the grid's range is in its units
    assert np.abs(points).max() <= 0.5
    moved, below = re.findall(r"by up to (\S+) .*less than (\S+) are noise", capsys.readouterr().out)[0]
    assert float(moved) == pytest.approx(report.error, rel=0.1)
    assert float(below) == pytest.approx(2 * report.error, rel=0.1)
    assert 1e-10 < report.relative < 1e-5
