"""A small convolutional network on digits of 8 × 8, or on CIFAR-10: too little trained, well, and too much on too few.

The landscape is of the loss that was trained: over the images that the network has seen.
"""

from pathlib import Path

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
    images, labels = seen(regime, data)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    return Task(
        model=network(images, channels).to(images.dtype), loss=loss, data=(images[:examples], labels[:examples])
    )


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


def seen(regime: str, data: str) -> tuple[Tensor, Tensor]:
    """The images that a regime trains on, with their labels."""
    names = [f"data_batch_{i}.bin" for i in range(1, 6)]
    images, labels = _cifar(data, names) if data else tuple(each[TEST:] for each in _digits())
    few = FEW if not data else 10 * FEW
    return (images[:few], labels[:few]) if regime == OVERFIT else (images, labels)


def test(data: str) -> tuple[Tensor, Tensor]:
    if data:
        return _cifar(data, ["test_batch.bin"])
    images, labels = _digits()
    return images[:TEST], labels[:TEST]


def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float64)[:, None] / 8 - 1
    return images, torch.tensor(found.target, dtype=torch.int64)


def _cifar(folder: str, names: list[str]) -> tuple[Tensor, Tensor]:
    """CIFAR-10's binary files: each image is a byte for its label, and 3 × 32 × 32 for its pixels."""
    raw = b"".join((Path(folder) / name).read_bytes() for name in names)
    rows = torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(-1, 3073)
    return (rows[:, 1:].reshape(-1, 3, 32, 32).float() / 127.5 - 1), rows[:, 0].long()
