"""What is evaluated: a LightningModule, its validation loss and data. Replace all three by yours.

Here: a small network that tells two half-moons of points apart. Checkpoints of Lightning (`.ckpt`) are read as they
are; their optimizer states and hyperparameters are left alone.
"""

from typing import Any

import torch
from torch import Tensor, nn

from landscaper_hpc import Task

try:
    from lightning import LightningModule
except ModuleNotFoundError:  # all that is needed here is a module
    LightningModule = nn.Module


class Moons(LightningModule):
    """Replace it by `from your_package import YourModule`."""

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)
        )

    def forward(self, points: Tensor) -> Tensor:
        return self.net(points).squeeze(-1)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int = 0) -> Tensor:
        points, labels = batch
        return nn.functional.binary_cross_entropy_with_logits(self(points), labels)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int = 0) -> Tensor:
        return self.validation_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def task(hidden: int = 16) -> Task:
    """Called with a checkpoint's `options`; its parameters are then loaded into the model."""
    return Task(model=Moons(hidden), loss=loss, data=moons())


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The mean loss of a batch: what the validation step returns. A step that logs finds no trainer here to log to."""
    found = model.validation_step(batch, 0)
    return found["loss"] if isinstance(found, dict) else found


def moons(n: int = 200) -> tuple[Tensor, Tensor]:
    """Points of shape (n, 2) and labels of shape (n,), always the same. May also be a list of batches or a DataLoader
    that does not shuffle, such as `YourDataModule(…).val_dataloader()` after its `setup("validate")`."""
    generator = torch.Generator().manual_seed(0)
    angle = torch.pi * torch.rand(n, generator=generator)
    labels = (torch.arange(n) % 2).float()
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
    points = torch.where(labels[:, None] == 1, lower, upper)
    return points + 0.1 * torch.randn(n, 2, generator=generator), labels
