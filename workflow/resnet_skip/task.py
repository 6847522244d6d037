"""ResNet-20 (He et al., arXiv 1512.03385) with and without its skip connections, on CIFAR-10 or on digits of 8 × 8."""

import cifar10
import torch
from torch import Tensor, nn

from landscaper_hpc import Task

TEST = 400  # of the 1,797 digits


def task(
    skip: bool,
    widths: str = "16 32 64",
    blocks: int = 3,
    examples: int = 2000,
    data: str = "",
    seed: int = 0,
    epochs: int = 160,
    lr: float = 0.1,
) -> Task:
    """The loss of the first `examples` training images; without `data` they are digits."""
    images, labels = training(data, examples)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    found = ResNet(images.shape[1], [int(width) for width in widths.split()], blocks, skip)
    return Task(model=found.to(images.dtype), loss=loss, data=(images, labels))


class Block(nn.Module):
    """Two convolutions; where there is a skip connection, and the shape changes, it is a convolution of one pixel."""

    def __init__(self, inside: int, outside: int, stride: int, skip: bool) -> None:
        super().__init__()
        self.one = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.two = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm_one, self.norm_two = nn.BatchNorm2d(outside), nn.BatchNorm2d(outside)
        self.skip = skip
        self.across = None
        if skip and (stride > 1 or inside != outside):
            self.across = nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found = self.norm_two(self.two(torch.relu(self.norm_one(self.one(x)))))
        if self.skip:
            found = found + (x if self.across is None else self.across(x))
        return torch.relu(found)


class ResNet(nn.Module):
    """Three stages, each of half the pixels of the one before."""

    def __init__(self, channels: int, widths: list[int], blocks: int, skip: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        layers: list[nn.Module] = []
        before = widths[0]
        for stage, width in enumerate(widths):
            for i in range(blocks):
                layers.append(Block(before, width, 2 if stage and not i else 1, skip))
                before = width
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(before, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(torch.relu(self.norm(self.stem(x))))
        return self.head(x.mean(dim=(2, 3)))


def training(data: str, most: int | None = None) -> tuple[Tensor, Tensor]:
    if data:
        return cifar10.images(data, most=most)
    images, labels = _digits()[0]
    return images[:most], labels[:most]


def test(data: str) -> tuple[Tensor, Tensor]:
    return _digits()[1] if not data else cifar10.images(data, cifar10.TEST)


def _digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float64)[:, None] / 8 - 1
    labels = torch.tensor(found.target, dtype=torch.int64)
    return (images[TEST:], labels[TEST:]), (images[:TEST], labels[:TEST])
