"""The layers that a pattern names."""

from __future__ import annotations

from pathlib import Path

import pytest

from landscaper_hpc import InputError
from landscaper_hpc.objective.layers import each_layer

TASK = """
import torch
from torch import nn
from landscaper_hpc import Task

def task(depth=11):
    layers = [nn.ModuleDict({"fc": nn.Linear(2, 2), "act": nn.Tanh()}) for _ in range(depth)]
    model = nn.ModuleDict({"h": nn.ModuleList(layers), "out": nn.Linear(2, 1)})
    return Task(model=model, loss=lambda model, x: x.sum(), data=torch.zeros(1, 2))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    return tmp_path / "task.py"


def test_in_the_order_of_the_model(file: Path) -> None:
    assert each_layer(file, {}, "h.*") == [[f"h.{i}.*"] for i in range(11)]
    assert each_layer(file, {"depth": 2}, "h.*.fc") == [["h.0.fc.*"], ["h.1.fc.*"]]
    assert each_layer(file, {}, "*") == [["h.*"], ["out.*"]]
    assert each_layer(file, {}, "h.1[0-9]") == [["h.10.*"]]


@pytest.mark.parametrize("pattern", ["layers.*", "h.*.act", "h.*.fc.weight", ""])
def test_names_of_no_module_with_parameters_are_refused(file: Path, pattern: str) -> None:
    with pytest.raises(InputError, match=r"no module with parameters has such a name; there are h, h\.0"):
        each_layer(file, {}, pattern)
