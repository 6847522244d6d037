"""A preset is the keys that it stands for: the same study, with the same id."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from landscaper_hpc import InputError, Study, merge_tree, open_landscape
from tests.studies import command

WRITTEN_OUT = """
directions: {kind: hessian, n: 3, which: magnitude, solver: pyhessian, normalization: landscaper, tolerance: 0.001,
  max_iterations: 100}
grid: {range: 0.01, count: 41, scale: uniform}
connectivity: axis
precision: float32
"""
TASK = """
import torch
from landscaper_hpc import Task

def task():
    torch.manual_seed(0)
    x = torch.randn(40, 3)
    y = torch.sin(3 * x[:, :1]) + x[:, 1:2] * x[:, 2:]
    model = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1))
    return Task(model, lambda model, batch: (model(batch[0]) - batch[1]).square().mean(), (x, y))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    exec(TASK, space := {})
    torch.save(space["task"]().model.state_dict(), tmp_path / "a.pt")
    return tmp_path


def study(folder: Path, more: str, *overrides: str) -> Study:
    file = folder / "study.yaml"
    file.write_text(f"name: s\ntask: task.py\ncheckpoints: [{{name: a, file: a.pt}}]\n{more}")
    return Study.load(file, overrides)


def test_it_is_the_study_that_is_written_out(folder: Path) -> None:
    preset, written = study(folder, "preset: landscaper\n"), study(folder, WRITTEN_OUT)
    assert preset.model_dump(mode="json") == written.model_dump(mode="json")
    assert preset.study_id() == written.study_id() != study(folder, "").study_id()
    coordinates = preset.make_grid().coordinates()[0]
    np.testing.assert_allclose(coordinates, (np.arange(41) - 20) * 0.01 / 20.5, rtol=1e-14)


def test_what_stands_beside_it_wins_and_so_does_the_command_line(folder: Path) -> None:
    more = "preset: landscaper\ngrid: {count: 11}\nprecision: float64\ndirections: {seed: 3, n: 2}\n"
    found = study(folder, more, "directions.max_iterations=50")
    assert (found.grid.count, found.grid.range, found.precision) == (11, 0.01, "float64")
    directions = found.directions
    assert (directions.seed, directions.n, directions.max_iterations) == (3, 2, 50)
    assert (directions.solver, directions.normalization) == ("pyhessian", "landscaper")
    random = study(folder, "preset: landscaper\ndirections: {kind: random}\n").directions
    assert (random.kind, random.normalization, random.n, random.solver) == ("random", "landscaper", 3, "lanczos")


@pytest.mark.parametrize("value", ["landscapr", "3", "[landscaper]", "{landscaper: 1}"])
def test_a_preset_that_there_is_not_is_named(folder: Path, value: str) -> None:
    with pytest.raises(InputError, match="preset: must be one of landscaper; found"):
        study(folder, "", f"preset={value}")


@pytest.mark.filterwarnings("ignore:Using backward:UserWarning")  # the package's own way
def test_a_run_has_landscapers_points_directions_and_smad(folder: Path) -> None:
    package = pytest.importorskip("pyhessian")
    study(folder, "preset: landscaper\ngrid: {range: 1.0, count: 9}\ndirections: {n: 2, seed: 4}\n")
    done = command("run", folder / "study.yaml", "--out", folder / "run", "--executor", "serial")
    assert done.returncode == 0, done.stderr
    store = open_landscape(folder / "run")
    exec(TASK, space := {})
    task = space["task"]()
    theirs = package.hessian(task.model.eval(), torch.nn.MSELoss(), data=task.data, cuda=False)
    torch.manual_seed(4)
    _, vectors = theirs.eigenvalues(maxIter=100, tol=1e-3, top_n=2)

    # as Landscaper displaces parameters: each direction per tensor to the root of its size, then to the whole's norm
    parameters = [p.detach().double() for p in task.model.parameters()]
    whole = torch.sqrt(sum(p.square().sum() for p in parameters))
    scaled = []
    for vector in vectors:
        parts = [v.double() * v.numel() ** 0.5 / (v.double().norm() + 1e-10) for v in vector]
        length = torch.sqrt(sum(v.square().sum() for v in parts))
        scaled.append([v / length * whole for v in parts])
    steps = [(i - 9 // 2) * 1.0 / (9 / 2) for i in range(9)]
    expected = np.empty((9, 9))
    model = task.model.double()
    for i, a in enumerate(steps):
        for j, b in enumerate(steps):
            with torch.no_grad():
                for p, start, u, v in zip(model.parameters(), parameters, *scaled, strict=True):
                    p.copy_(start + a * u + b * v)
                expected[i, j] = task.loss(model, tuple(x.double() for x in task.data))
    np.testing.assert_allclose(store.loss(), expected, rtol=2e-3)
    told = json.loads((folder / "run" / "results.json").read_text())["landscapes"][0]["topology"]
    assert told["smad_landscaper"] is not None
    assert told["n_minima"] == merge_tree(expected).n_minima
