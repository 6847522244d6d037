"""Losses that write into what they are given: every value is that of a fresh model and fresh data. A row is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from landscaper_hpc import Task
from landscaper_hpc.directions.directions import gradient_direction, random_directions
from landscaper_hpc.losses.evaluate import losses
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.work.identity import values_at


def _task(write: Callable[[Any, Any], object], precision: torch.dtype = torch.float32) -> Task:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)).to(precision)

    def loss(model: Any, batch: Any) -> Tensor:
        write(model, batch)
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    return Task(model, loss, (torch.randn(24, 4, dtype=precision), torch.randint(0, 3, (24,))))


def _backward(model: nn.Module, batch: Any) -> None:
    model.requires_grad_(True)
    nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()


def _unnormed(model: Any, batch: Any) -> None:
    weight = model[0].weight.data
    if float(weight.norm()) > 1.5:
        weight.mul_(1.5 / weight.norm())


WRITES: dict[str, Callable[[Any, Any], object]] = {
    "a weight, scaled": lambda m, b: m[0].weight.data.mul_(0.5),
    "a weight, scaled where it is long": _unnormed,
    "a weight, by numpy": lambda m, b: m[0].bias.detach().numpy().__setitem__(0, 1.0),
    "a buffer": lambda m, b: m[1].running_mean.add_(1.0),
    "the state": lambda m, b: m.load_state_dict({k: v * 0.5 for k, v in m.state_dict().items()}),
    "the data": lambda m, b: b[0].mul_(0.9),
    "the data, to the same value": lambda m, b: b[0].clamp_(max=0.5),
    "the labels": lambda m, b: b[1].add_(1).remainder_(3),
    "requires_grad_": lambda m, b: m.requires_grad_(True),
    "gradients": _backward,
}


@pytest.mark.thorough
@pytest.mark.parametrize("what", WRITES)
def test_nothing_is_left_of_what_a_loss_writes(what: str) -> None:
    objective = Objective(_task(WRITES[what], torch.float64))  # of the study's precision: nothing is copied for that
    directions = random_directions(objective, 2)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (5, 2))
    found = losses(objective, directions, points, 1)
    for alpha, value in zip(points, found, strict=True):
        fresh = _task(WRITES[what], torch.float64)
        fresh.model.eval()
        with torch.no_grad():
            for name, p in fresh.model.named_parameters():
                p += torch.tensordot(torch.from_numpy(alpha), directions.vectors[name], 1)
        plain = fresh.loss(fresh.model, fresh.data).detach().mean()
        assert value == pytest.approx(float(plain), rel=1e-12)
    assert values_at(objective, directions, points, 4)
    assert np.array_equal(losses(objective, directions, points, 1), found)


@pytest.mark.thorough
@pytest.mark.parametrize("what", ["the data", "the data, to the same value", "the labels", "requires_grad_"])
def test_derivatives_of_a_loss_that_writes(what: str) -> None:
    objective = Objective(_task(WRITES[what]))
    directions = gradient_direction(objective, normalization="unit")
    step = 1e-5
    up, down = losses(objective, directions, np.array([[step], [-step]]), 1)
    gradient = {n: p.requires_grad_() for n, p in ((n, p.clone()) for n, p in objective.parameters.items())}
    found = torch.autograd.grad(objective.loss(gradient), list(gradient.values()))
    size = float(torch.cat([g.flatten() for g in found]).norm())
    assert abs(up - down) / (2 * step) == pytest.approx(size, rel=1e-6)
