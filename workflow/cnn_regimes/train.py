"""Trains the network of task.py with Adam, seeded: a regime is how long, and with what weight decay.

On CIFAR-10 by a GPU, where there is one.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from task import OVERFIT, UNDERFIT, WELL, seen, task, test
from torch import nn

STEPS = {UNDERFIT: 0.03, WELL: 1.0, OVERFIT: 1.0}  # of the steps that the well-fit one takes
DECAY = {UNDERFIT: 1e-2, WELL: 1e-2, OVERFIT: 0.0}


def train(
    path: Path,
    progress: Callable[[int, int], None],
    regime: str,
    seed: int = 0,
    epochs: int = 60,
    data: str = "",
    **network: int,
) -> None:
    """Write the parameters at `path` (a state dict); they are there complete or not at all."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        device = torch.device("cuda" if data and torch.cuda.is_available() else "cpu")
        model = task(regime, data=data, **network).model.to(device)
        images, labels = seen(regime, data)
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=DECAY[regime])
        steps = max(1, int(STEPS[regime] * epochs * len(seen(WELL, data)[1]) / 64))
        for step in range(steps):
            if step % 50 == 0:
                progress(step, steps)
            batch = torch.randint(len(labels), (64,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch].to(device)), labels[batch].to(device)).backward()
            optimizer.step()
    progress(steps, steps)
    aside = path.with_name(path.name + ".partial")
    torch.save(model.cpu().state_dict(), aside)
    aside.replace(path)


def accuracies(path: Path, regime: str, data: str = "", **network: int) -> dict[str, float]:
    """Shares of images that the network at `path` names right: of those it has seen, and of others."""
    model = task(regime, data=data, **network).model.eval()
    model.load_state_dict(torch.load(path, weights_only=True))
    found = {}
    for name, (images, labels) in {"seen": seen(regime, data), "unseen": test(data)}.items():
        with torch.no_grad():
            told = torch.cat([model(each).argmax(dim=1) for each in images.split(1000)])
        found[f"accuracy_{name}"] = float((told == labels).double().mean())
    return found
