"""A network of sines fits a chirp: its landscape is rugged, and there the choice of a graph counts."""

import torch
from torch import Tensor, nn

from landscaper_hpc import Task


class Sines(nn.Module):
    """u(x) = b + Σ a sin(frequency · (…)), two layers (Sitzmann et al., arXiv 2006.09661)."""

    def __init__(self, width: int, frequency: float) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Linear(1, width), nn.Linear(width, width), nn.Linear(width, 1)
        self.frequency = frequency

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.sin(self.frequency * self.two(torch.sin(self.frequency * self.one(x)))))


def task(frequency: float, width: int = 12, points: int = 64, seed: int = 0, steps: int = 400) -> Task:
    x = torch.linspace(-1, 1, points, dtype=torch.float64)[:, None]
    y = torch.sin(6 * x * x + 2 * x)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (model(batch[0]) - batch[1]).square().mean(dim=1)

    return Task(model=Sines(width, frequency).double(), loss=loss, data=(x, y))
