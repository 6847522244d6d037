"""A small convolutional network on digits of 8 × 8, or on CIFAR-10: too little trained, well, and too much on too few.

The landscape is of the loss that was trained: over the images that the network has seen.
"""

import cifar10
import torch
from torch import Tensor, nn

from landscaper_hpc import Task

TEST = 400  # of the 1,797 digits
FEW = 60  # images that are learned by heart
UNDERFIT, WELL, OVERFIT = "underfit", "well", "overfit"


def task(
    regime: str, channels: int = 32, examples: int = 2000, data: str = "", seed: int = 0, epochs: int = 60
) -> Task:
    """The loss of the first `examples` images that the regime trains on; without `data` they are digits."""
    images, labels = seen(regime, data, examples)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    return Task(model=network(images, channels).to(images.dtype), loss=loss, data=(images, labels))


def network(images: Tensor, channels: int) -> nn.Sequential:
    side = images.shape[-1] // 4
    return nn.Sequential(
        nn.Conv2d(images.shape[1], channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * channels * side * side, 10),
    )


def seen(regime: str, data: str, most: int | None = None) -> tuple[Tensor, Tensor]:
    """The images that a regime trains on, with their labels; at most so many."""
    if regime == OVERFIT:
        few = 10 * FEW if data else FEW
        most = few if most is None else min(few, most)
    if data:
        return cifar10.images(data, most=most)
    images, labels = (each[TEST:] for each in _digits())
    return images[:most], labels[:most]


def test(data: str) -> tuple[Tensor, Tensor]:
    if data:
        return cifar10.images(data, cifar10.TEST)
    images, labels = _digits()
    return images[:TEST], labels[:TEST]


def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float64)[:, None] / 8 - 1
    return images, torch.tensor(found.target, dtype=torch.int64)
