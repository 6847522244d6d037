"""Trains the UNet of task.py with Adam up to an epoch: about 30 ms an epoch on one core for the small one.

On the pictures of pets by a GPU, where there is one.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from landscaper_hpc.objective import load_task

BATCH = 8


def train(
    path: Path, progress: Callable[[int, int], None], *, seed: int, epoch: int, rate: float, **options: int | str
) -> None:
    """Write the parameters after `epoch` epochs at `path`: those that a longer training of this seed passes through."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        problem = load_task(Path(__file__).with_name("task.py"), {"training": True, **options})
    images, labels = problem.data
    device = torch.device("cuda" if options.get("data") and torch.cuda.is_available() else "cpu")
    problem.model.to(device)
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    for done in range(epoch):
        progress(done, epoch)
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH):
            optimizer.zero_grad()
            problem.loss(problem.model, (images[chosen].to(device), labels[chosen].to(device))).mean().backward()
            optimizer.step()
    progress(epoch, epoch)
    torch.save(problem.model.cpu().state_dict(), path)
