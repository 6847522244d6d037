"""What a task finds when it is loaded does not depend on what the process has done before."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from landscaper_hpc import Site, Study
from landscaper_hpc.objective.beginning import end, from_the_beginning
from landscaper_hpc.progress import silent
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.loaded import forget
from landscaper_hpc.work.tasks import prepare, train_checkpoint

TASK = """
import random
import numpy as np
import torch
from torch import nn
from landscaper_hpc import Task

def task(double=False):
    if double:
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
    y = torch.from_numpy(np.random.random((6, 1))).float() + random.random()
    return Task(nn.Linear(2, 1), lambda model, batch: (model(batch[0]) - batch[1]).square(), (torch.rand(6, 2), y))
"""
TRAIN = """
import torch
def train(path, progress, **options):
    torch.set_default_dtype(torch.float64)
    torch.rand(3)
    torch.save({"weight": torch.ones(1, 2), "bias": torch.ones(1)}, path)
"""


def test_data_without_a_seed_are_those_of_every_process(tmp_path: Path) -> None:
    """Two landscapes of one checkpoint were of different data, and so were all of a second process."""
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "train.py").write_text(TRAIN)
    names = {"a": "{}", "double": "{double: true}", "b": "{}"}
    checkpoints = ", ".join(f"{{name: {n}, file: made/{n}.pt, options: {o}}}" for n, o in names.items())
    (tmp_path / "study.yaml").write_text(
        f"{{name: s, task: task.py, train: train.py, checkpoints: [{checkpoints}], "
        "directions: {kind: random, n: 2}, grid: {range: 0.5, count: 3}, batch: 4}"
    )
    before = torch.get_default_dtype(), torch.is_grad_enabled()
    found = []
    study = Study.load(tmp_path / "study.yaml")
    for landscape in Campaign.of(study, Site(executor="serial"), tmp_path / "run").landscapes:
        train_checkpoint(landscape, silent)
        prepare(landscape, silent)
        found.append(landscape.open().attributes["identity"])
    first, _, last = found
    assert first == last
    forget()
    end()
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == before


DRAWS: list[Callable[[], float]] = [lambda: torch.rand(1).item(), np.random.random, random.random]


@pytest.mark.parametrize("draw", DRAWS)
def test_the_users_own_random_numbers_go_on(draw: Callable[[], float]) -> None:
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    draw()
    following = draw()
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])
    draw()
    with from_the_beginning():
        first = draw()
    assert draw() == following
    with from_the_beginning():
        assert draw() == first
