"""What is evaluated: a model, a loss and data. Replace all three by yours.

Here: a small network that tells two half-moons of points apart.
"""

import torch
from torch import Tensor, nn

from landscaper_hpc import Task


def task(hidden: int = 16) -> Task:
    """Called with a checkpoint's `options`; its parameters are then loaded into the model."""
    model = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))
    return Task(model=model, loss=loss, data=moons())


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """One loss for each example (or their mean). The model has displaced parameters in it, and is in eval mode.

    It must give the same value every time: no dropout, no random augmentation.
    """
    points, labels = batch
    logits = model(points).squeeze(-1)
    return nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def moons(n: int = 200) -> tuple[Tensor, Tensor]:
    """Points of shape (n, 2) and labels of shape (n,), always the same. May also be a list of batches or a DataLoader
    that does not shuffle."""
    generator = torch.Generator().manual_seed(0)
    angle = torch.pi * torch.rand(n, generator=generator)
    labels = (torch.arange(n) % 2).float()
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
    points = torch.where(labels[:, None] == 1, lower, upper)
    return points + 0.2 * torch.randn(n, 2, generator=generator), labels
