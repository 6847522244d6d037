"""Trains a network of task.py with Adam: a small one about two seconds on one core, one of QM9 by a
GPU, where there is one.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from landscaper_hpc.objective import load_task


def train(
    path: Path,
    progress: Callable[[int, int], None],
    *,
    seed: int,
    steps: int = 300,
    rate: float = 0.01,
    data: str = "",
    **options: int | str,
) -> None:
    """Write the parameters at `path`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        problem = load_task(Path(__file__).with_name("task.py"), {"training": True, "data": data, **options})
    device = torch.device("cuda" if data and torch.cuda.is_available() else "cpu")
    problem.model.to(device)
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=rate)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if data else None
    batches = problem.data if isinstance(problem.data, list) else [problem.data]
    for done in range(steps):
        progress(done, steps)
        optimizer.zero_grad()
        batch = tuple(each.to(device) for each in batches[done % len(batches)])
        problem.loss(problem.model, batch).mean().backward()
        optimizer.step()
        if slower is not None:
            slower.step()
    progress(steps, steps)
    torch.save(problem.model.cpu().state_dict(), path)
