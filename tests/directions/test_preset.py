"""The preset `landscaper` gives Landscaper 1.3.1's own losses (before its noise), on an MLP, a CNN and a
transformer."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from landscaper_hpc.directions.directions import directions_from_file
from landscaper_hpc.grid import Axis, Grid
from landscaper_hpc.losses.evaluate import losses
from landscaper_hpc.objective.objective import Objective, Task

HERE = Path(__file__).parents[1]


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer"])
@pytest.mark.thorough
def test_landscapers_losses(name: str, precision: str, batch: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [str(HERE.parent / "benchmarks"), *sys.path])
    import models

    case = torch.load(HERE / "data" / "landscaper_losses.pt", weights_only=True)[name]
    model, _, loss = models.PROBLEMS[name](**case["options"])
    model.load_state_dict(case["parameters"], strict=False)
    torch.save({key: u.float() for key, u in case["directions"].items()}, tmp_path / "u.pt")
    objective = Objective(Task(model, loss, (case["inputs"], case["targets"])), precision=precision)
    directions = directions_from_file(tmp_path / "u.pt", objective, normalization="landscaper")
    expected = case["losses"].numpy()
    grid = Grid((Axis.of_landscaper(case["distance"], case["steps"]),) * expected.ndim)
    (shard,) = grid.shards(grid.shape)
    values = losses(objective, directions, grid.points(shard), batch).reshape(grid.shape)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_the_ends_of_the_axis_are_where_the_loss_is_evaluated() -> None:
    axis = Axis.of_landscaper(0.1, 41)
    assert axis.coordinates()[20] == 0
    assert axis.upper == pytest.approx(0.1 * 40 / 41)
    assert axis.lower == -axis.upper
    even = Axis.of_landscaper(0.1, 4)
    np.testing.assert_allclose(even.coordinates(), [-0.1, -0.05, 0, 0.05], atol=1e-17)
