"""A loss over its directions: value, gradient and Hessian, whatever torch needs for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from landscaper_hpc import Task
from landscaper_hpc.confirm.of_objective import ObjectiveSurface
from landscaper_hpc.directions.directions import random_directions
from landscaper_hpc.losses.evaluate import losses
from landscaper_hpc.objective.objective import Objective


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read, self.write = nn.Linear(8, 24), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.read(x).reshape(*x.shape[:2], 2, 12).transpose(1, 2).chunk(3, dim=-1)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.write(mixed.transpose(1, 2).flatten(2))


def _energy(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    """With a derivative inside: torch has no second one of the fused attention."""
    x = batch[0].detach().requires_grad_()
    y = model(x)
    (force,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return (y.mean((1, 2)) - batch[1]) ** 2 + force.square().mean((1, 2))


def _checkpointed(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    y: Tensor = checkpoint(model, batch[0], use_reentrant=False)
    return (y.mean((1, 2)) - batch[1]) ** 2


LOSSES: dict[str, Callable[[Any, tuple[Tensor, Tensor]], Tensor]] = {
    "a derivative inside, of attention": _energy,
    "checkpointed attention": _checkpointed,
}


@pytest.mark.parametrize("what", LOSSES)
def test_derivatives_are_those_of_the_losses(what: str) -> None:
    torch.manual_seed(0)
    data = torch.randn(6, 5, 8), torch.randn(6)
    objective = Objective(Task(Attention(), LOSSES[what], data))
    directions = random_directions(objective, 2)
    surface = ObjectiveSurface(objective, directions, np.array([0.1, 0.1]))
    at, step = np.array([0.2, -0.1]), 1e-4
    (value,), (slope,) = surface.gradients(at[None])
    (curved,) = surface.hessians(at[None])
    ways = step * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, -1]])
    f = losses(objective, directions, at + ways)
    assert value == pytest.approx(f[0], rel=1e-12)
    np.testing.assert_allclose(slope, [(f[1] - f[2]) / (2 * step), (f[3] - f[4]) / (2 * step)], rtol=1e-6)
    second = np.array([f[1] - 2 * f[0] + f[2], f[3] - 2 * f[0] + f[4], f[5] - 2 * f[0] + f[6]]) / step**2
    np.testing.assert_allclose(
        [curved[0, 0], curved[1, 1], curved.sum()], second, rtol=1e-4, atol=1e-4 * np.abs(second).max()
    )
