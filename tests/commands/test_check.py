"""`check` tries everything that `run` will do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from studies import command

pytestmark = pytest.mark.processes

STUDY = """
name: s
task: task.py
checkpoints: [{name: a, file: a.pt}]
directions: {kind: hessian, n: 2}
grid: {range: 0.5, count: 5}
"""

CONTRASTIVE = """
import torch
from torch import nn
from landscaper_hpc import Task

def loss(model, batch):
    return nn.functional.cross_entropy(model[0](batch[0]) @ model[1](batch[1]).T, torch.arange(30))

def task():
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(5, 4), nn.Linear(3, 4)])
    return Task(model, loss, (torch.randn(30, 5), torch.randn(30, 3)))
"""

STOPPED = """
import torch
from torch import nn
from landscaper_hpc import Task

def task():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4))
    return Task(model, lambda m, x: -nn.functional.cosine_similarity(m(x), m(x + 0.1).detach()), torch.randn(12, 5))
"""


def study(folder: Path, task: str) -> Path:
    (folder / "task.py").write_text(task)
    names: dict[str, object] = {}
    exec(task, names)
    torch.save(names["task"]().model.state_dict(), folder / "a.pt")
    file = folder / "study.yaml"
    file.write_text(STUDY)
    return file


def test_a_loss_that_cannot_be_cut_is_checked_and_runs(tmp_path: Path) -> None:
    file = study(tmp_path, CONTRASTIVE)
    checked = command("check", file)
    assert checked.returncode == 0, checked.stderr
    assert "Hessian-vector products by reverse-over-reverse; against differences of losses: " in checked.stdout
    ran = command("run", file, "--executor", "serial", "--out", tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    (results,) = (tmp_path / "out").rglob("results.json")
    hessian = json.loads(results.read_text())["landscapes"][0]["hessian"]
    assert hessian["mode"] == "reverse-over-reverse"
    assert hessian["agreement"] < 1e-6


def test_a_hessian_that_is_not_that_of_the_loss_is_refused_by_check(tmp_path: Path) -> None:
    checked = command("check", study(tmp_path, STOPPED))
    assert checked.returncode == 2
    assert "two functions" in checked.stderr
    assert "kind: random" in checked.stderr
