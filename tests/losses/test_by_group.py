"""Losses by groups of data: their weighted mean is the loss, and examples are told apart wherever the loss does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from problems import autograd_task, mlp_task, pinn_task
from torch import nn

from landscaper_hpc import Task
from landscaper_hpc.directions.directions import random_directions
from landscaper_hpc.errors import InputError
from landscaper_hpc.losses.by_group import group_losses
from landscaper_hpc.losses.evaluate import losses
from landscaper_hpc.objective.objective import Objective

POINTS = np.random.default_rng(0).uniform(-0.2, 0.2, (5, 2))


@pytest.mark.parametrize(
    ("task", "units", "kind"),
    [
        (mlp_task, 11, "examples"),
        (partial(mlp_task, batches=True), 11, "examples"),
        (partial(mlp_task, per_example=False, batches=True), 3, "batches"),
        (autograd_task, 40, "examples"),
    ],
    ids=["per example", "in batches", "means of batches", "autograd inside"],
)
@pytest.mark.parametrize("groups", [2, 7, 64])
def test_the_weighted_mean_of_groups_is_the_loss(task: Callable[[], Task], units: int, kind: str, groups: int) -> None:
    objective = Objective(task())
    directions = random_directions(objective, 2)
    found = group_losses(objective, directions, POINTS, groups)
    assert (found.units, found.kind) == (units, kind)
    assert found.values.shape == (5, min(groups, units))
    mean = found.values @ found.weights / found.weights.sum()
    assert mean == pytest.approx(losses(objective, directions, POINTS), rel=1e-13)


def test_groups_are_those_of_single_examples() -> None:
    """With as many groups as examples, each group is one example, the same at all points."""
    objective = Objective(mlp_task())
    directions = random_directions(objective, 2)
    found = group_losses(objective, directions, POINTS[:1])
    alone = []
    for i in range(11):
        task = mlp_task()
        one = Objective(Task(task.model, task.loss, tuple(t[i : i + 1] for t in task.data)))
        alone.append(losses(one, directions, POINTS[:1]))
    assert np.sort(found.values[0]) == pytest.approx(np.sort(np.ravel(alone)), rel=1e-13)


def test_tokens_of_a_sequence_are_one_example() -> None:
    """Losses of 6 sequences of 4 tokens, flat or not, are those of 6 examples: tokens of a sequence depend on it."""
    data = torch.rand(6, 4, 3, dtype=torch.float64)
    found = []
    for flat in (True, False):
        torch.manual_seed(0)
        model = nn.Linear(3, 1).double()
        task = Task(model, lambda m, x, flat=flat: m(x).flatten() if flat else m(x)[..., 0], data)
        objective = Objective(task)
        found.append(group_losses(objective, random_directions(objective, 2), POINTS))
        assert found[-1].units == 6
        assert found[-1].weights == pytest.approx(4)
    assert found[0].values == pytest.approx(found[1].values, rel=1e-14)


def test_the_mean_of_one_batch_tells_nothing_of_other_data() -> None:
    objective = Objective(pinn_task())
    with pytest.raises(InputError, match="return per-example losses, or give the data as several batches"):
        group_losses(objective, random_directions(objective, 2), POINTS)
