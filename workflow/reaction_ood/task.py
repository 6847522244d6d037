"""A classifier of digits that was trained on turned ones, more or less, and the digits whose loss is looked at.

Stands for the paper's transformer of chemical reactions, whose training data were augmented to several levels.
"""

from functools import cache
from math import pi

import torch
from torch import Tensor, nn

from landscaper_hpc import Task
from landscaper_hpc.errors import InputError

TRAINED, TOLD, COPIES = 600, 300, 3  # digits to train on, digits whose loss is looked at, turned copies of the former
FAR = (30.0, 60.0)  # degrees by which digits out of the distribution are turned, to either side


def task(
    level: float = 0.0, seed: int = 0, steps: int = 300, hidden: int = 16, training: bool = False, far: bool = False
) -> Task:
    """The loss of upright digits that were not trained on; with `far` that of the same, turned by 30 to 60 degrees;
    with `training` that of digits to train on, turned by up to `level` degrees as `seed` has it.

    `steps` is for train.py.
    """
    model = nn.Sequential(nn.Linear(64, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 10))
    images, labels = digits()
    if training:
        images, labels = images[:TRAINED].repeat(COPIES, 1, 1), labels[:TRAINED].repeat(COPIES)
        generator = torch.Generator().manual_seed(1000 + seed)
        degrees = level * (2 * torch.rand(len(images), generator=generator) - 1)
        return Task(model=model, loss=loss, data=(turned(images, degrees).flatten(1), labels))
    images, labels = images[TRAINED : TRAINED + TOLD], labels[TRAINED : TRAINED + TOLD]
    if far:
        generator = torch.Generator().manual_seed(0)
        size = FAR[0] + (FAR[1] - FAR[0]) * torch.rand(len(images), generator=generator)
        images = turned(images, size * torch.where(torch.arange(len(images)) % 2 == 0, 1.0, -1.0))
    return Task(model=model, loss=loss, data=(images.flatten(1), labels))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The cross-entropy of each digit."""
    images, labels = batch
    return nn.functional.cross_entropy(model(images), labels, reduction="none")


@cache
def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's digits in a fixed order, as (n, 8, 8) from 0 to 1, and which they are."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(f"the digits come with scikit-learn: pip install scikit-learn ({error})") from error
    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    return torch.tensor(found.images, dtype=torch.float32)[order] / 16, torch.tensor(found.target)[order]


def turned(images: Tensor, degrees: Tensor) -> Tensor:
    """Each image (n, 8, 8) turned about its middle by its angle."""
    angles = degrees * pi / 180
    zero = torch.zeros_like(angles)
    turns = torch.stack([angles.cos(), -angles.sin(), zero, angles.sin(), angles.cos(), zero], dim=1).view(-1, 2, 3)
    grid = nn.functional.affine_grid(turns, [len(images), 1, 8, 8], align_corners=False)
    return nn.functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]
