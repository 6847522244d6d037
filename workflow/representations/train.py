"""Trains the network of task.py with Adam, seeded."""

from collections.abc import Callable
from pathlib import Path

import torch
from task import task


def train(
    path: Path, progress: Callable[[int, int], None], seed: int = 0, steps: int = 400, **network: float | int
) -> None:
    """Write the parameters at `path` (a state dict); they are there complete or not at all."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        problem = task(**network)
    optimizer = torch.optim.Adam(problem.model.parameters(), 3e-3)
    for step in range(steps):
        if step % 100 == 0:
            progress(step, steps)
        optimizer.zero_grad()
        problem.loss(problem.model, problem.data).mean().backward()
        optimizer.step()
    progress(steps, steps)
    aside = path.with_name(path.name + ".partial")
    torch.save(problem.model.state_dict(), aside)
    aside.replace(path)
