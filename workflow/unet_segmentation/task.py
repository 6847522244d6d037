"""A UNet that tells things in pictures from their background, and the pictures whose loss is looked at.

Small: round and square shapes in noise, 16 × 16. Full size: with `data`, the folder of the Oxford-IIIT Pet data. With
`crf`, so many rounds of a conditional random field's mean field are the network's last layer (CRF-RNN, Zheng et al.,
arXiv 1502.03240, with its spatial kernel only).
"""

from pathlib import Path

import pets
import torch
from torch import Tensor, nn

from landscaper_hpc import Task

AT_ONCE = 32  # pictures of `data`
SHOWN, SIDE = 24, 16  # pictures to train on, as many to look at, and their side in pixels


def task(
    epoch: int = 0,
    rate: float = 0.01,
    seed: int = 0,
    width: int = 4,
    crf: int = 0,
    training: bool = False,
    data: str = "",
    pictures: int = 64,
    side: int = 128,
) -> Task:
    """The loss of pictures that were not trained on; with `training` that of those to train on.

    `epoch`, `rate` and `seed` are for train.py; `pictures` and `side` are how many of `data`, and in
    how many pixels.
    """
    if data:
        images, labels = pets.pictures(Path(data), "trainval" if training else "test", pictures, side)
        parts = zip(images.split(AT_ONCE), labels.split(AT_ONCE), strict=True)  # all at once need too much memory
        return Task(model=UNet(3, width, 3, crf), loss=loss, data=(images, labels) if training else list(parts))
    images, labels = shapes(2 * SHOWN)
    half = slice(SHOWN) if training else slice(SHOWN, None)
    return Task(model=UNet(1, width, 2, crf), loss=loss, data=(images[half], labels[half]))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The mean cross-entropy of the pixels of each picture."""
    images, labels = batch
    return nn.functional.cross_entropy(model(images), labels, reduction="none").mean(dim=(1, 2))


def shapes(n: int) -> tuple[Tensor, Tensor]:
    """Pictures (n, 1, side, side) of a round and a square thing each in noise, and where they are, (n, side, side)."""
    generator = torch.Generator().manual_seed(0)
    middles = SIDE * (0.2 + 0.6 * torch.rand(n, 2, 2, 1, 1, generator=generator))
    sizes = 2 + 2 * torch.rand(n, 2, 1, 1, generator=generator)
    pixels = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")) + 0.5
    away = pixels - middles  # (n, thing, axis, side, side)
    inside = (away[:, 0].square().sum(1) < sizes[:, 0].square()) | (away[:, 1].abs().amax(1) < sizes[:, 1])
    noise = torch.randn(n, SIDE, SIDE, generator=generator)
    return (inside + 0.5 * noise)[:, None], inside.long()


class UNet(nn.Module):
    """Two levels down and up again: pictures (n, channels, side, side) to scores (n, classes, side, side)."""

    def __init__(self, channels: int, width: int, classes: int, crf: int) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.down = nn.ModuleList(_twice(a, b) for a, b in zip((channels, *widths), widths, strict=False))
        self.up = nn.ModuleList(_twice(a + b, a) for a, b in ((widths[1], widths[2]), (widths[0], widths[1])))
        self.scores = nn.Conv2d(width, classes, 1)
        self.field = MeanField(classes, crf) if crf else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for level, part in enumerate(self.down):
            x = part(nn.functional.avg_pool2d(x, 2) if level else x)
            kept.append(x)
        for beside, part in zip(kept[-2::-1], self.up, strict=True):
            x = part(torch.cat([beside, nn.functional.interpolate(x, scale_factor=2)], dim=1))
        return self.field(self.scores(x))


class MeanField(nn.Module):
    """Rounds of a field in which near pixels like to be of one class; what classes do so is learned."""

    kernel: Tensor

    def __init__(self, classes: int, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.weights = nn.Parameter(torch.eye(classes))
        away = torch.arange(-2.0, 3).square()
        kernel = torch.exp(-(away[:, None] + away) / 2)
        kernel[2, 2] = 0  # of the others
        self.register_buffer("kernel", (kernel / kernel.sum()).expand(classes, 1, 5, 5).clone())

    def forward(self, scores: Tensor) -> Tensor:
        found = scores
        for _ in range(self.rounds):
            near = nn.functional.conv2d(found.softmax(1), self.kernel, padding=2, groups=scores.shape[1])
            found = scores + torch.einsum("ij,njhw->nihw", self.weights, near)
        return found


def _twice(before: int, after: int) -> nn.Sequential:
    layers = [(nn.Conv2d(a, after, 3, padding=1), nn.GroupNorm(1, after), nn.GELU()) for a in (before, after)]
    return nn.Sequential(*(layer for each in layers for layer in each))
