"""Writes the network of task.py as it begins."""

from collections.abc import Callable
from pathlib import Path

import torch

from landscaper_hpc.objective import load_task


def train(path: Path, progress: Callable[[int, int], None], **options: int) -> None:
    """Write the parameters at `path`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = load_task(Path(__file__).with_name("task.py"), options).model
    torch.save(model.state_dict(), path)
