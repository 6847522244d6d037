"""Trains the network of task.py by stochastic gradient descent, seeded; on CIFAR-10 by a GPU, where there is one."""

from collections.abc import Callable
from pathlib import Path

import torch
from task import task, test, training
from torch import Tensor, nn


def train(
    path: Path,
    progress: Callable[[int, int], None],
    seed: int = 0,
    epochs: int = 160,
    lr: float = 0.1,
    data: str = "",
    **network: bool | int | str,
) -> None:
    """Write the parameters at `path` (a state dict); they are there complete or not at all."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        device = torch.device("cuda" if data and torch.cuda.is_available() else "cpu")
        model = task(data=data, **network).model.to(device)
        images, labels = training(data)
        optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=1e-4)
        slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        model.train()
        for epoch in range(epochs):
            progress(epoch, epochs)
            for batch in torch.randperm(len(labels)).split(128):
                optimizer.zero_grad()
                seen = augmented(images[batch]) if data else images[batch]
                nn.functional.cross_entropy(model(seen.to(device)), labels[batch].to(device)).backward()
                optimizer.step()
            slower.step()
    progress(epochs, epochs)
    aside = path.with_name(path.name + ".partial")
    torch.save(model.cpu().state_dict(), aside)
    aside.replace(path)


def augmented(images: Tensor) -> Tensor:
    """Each shifted by up to four pixels, and half of them mirrored, as He et al. train on CIFAR-10."""
    n, _, height, width = images.shape
    padded = nn.functional.pad(images, (4, 4, 4, 4))
    down, right = torch.randint(0, 9, (2, n, 1))
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    found = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)
    return torch.where(torch.rand(n, 1, 1, 1) < 0.5, found.flip(3), found)


def accuracy(path: Path, data: str = "", **network: bool | int | str) -> float:
    """The share of test images that the network at `path` names right."""
    model = task(data=data, **network).model.eval()
    model.load_state_dict(torch.load(path, weights_only=True))
    images, labels = test(data)
    with torch.no_grad():
        found = torch.cat([model(each).argmax(dim=1) for each in images.split(1000)])
    return float((found == labels).double().mean())
