"""A network whose loss takes some milliseconds a point on one core: enough work for processes to share."""

import torch
from torch import Tensor, nn

from landscaper_hpc import Task


def task(hidden: int = 64, examples: int = 2000) -> Task:
    """A network that is not trained, on points that are drawn: only the time counts."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(examples, 8, generator=generator)
    layers = [nn.Linear(8, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)]
    return Task(model=nn.Sequential(*layers), loss=loss, data=(points, points.sin().sum(1)))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The squared error of each point."""
    points, wanted = batch
    return (model(points).squeeze(-1) - wanted).square()
