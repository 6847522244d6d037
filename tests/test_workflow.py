"""The studies that come with the project: the demo's physics, its training, and what `init` writes."""

from __future__ import annotations

import importlib.util
from math import pi
from pathlib import Path
from types import ModuleType

import pytest
import torch
from typer.testing import CliRunner

from landscaper_hpc import Study
from landscaper_hpc.cli import app
from landscaper_hpc.objective.loading import load_task
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import one_thread

PINN = Path(__file__).parents[1] / "workflow" / "pinn_convection"


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"loaded_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("beta", [1.0, 30.0])
def test_the_exact_solution_has_no_loss(beta: float) -> None:
    problem = load_task(PINN / "task.py", {"beta": beta})

    def exact(points: torch.Tensor) -> torch.Tensor:
        return torch.sin(points[:, :1] - beta * points[:, 1:])

    assert problem.loss(exact, problem.data).item() < 1e-24


def test_the_loss_is_the_one_of_the_equation() -> None:
    beta = 3.0
    problem = load_task(PINN / "task.py", {"beta": beta})
    points = problem.data["interior"].clone().requires_grad_()
    u = problem.model(points)
    u_x, u_t = torch.autograd.grad(u.sum(), points)[0].T
    left, right, initial = (problem.data[k] for k in ("left", "right", "initial"))
    expected = (
        (u_t + beta * u_x).square().mean()
        + (problem.model(initial)[:, 0] - initial[:, 0].sin()).square().mean()
        + (problem.model(left) - problem.model(right)).square().mean()
    )
    torch.testing.assert_close(problem.loss(problem.model, problem.data), expected)
    assert points.shape == (1000, 2)
    assert points.min() >= 0
    assert (points.amax(dim=0) <= torch.tensor([2 * pi, 1.0])).all()
    assert [tuple(p.shape) for p in problem.model.parameters()][::2] == [(50, 2), (50, 50), (50, 50), (50, 50), (1, 50)]


@pytest.mark.thorough
def test_training_is_repeatable_improves_and_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(PINN / "train.py")
    monkeypatch.setattr(module, "ITERATIONS", 40)
    seen: list[tuple[int, int]] = []
    state = torch.random.get_rng_state()
    with one_thread(torch.device("cpu")):  # as a run does
        for name in ("one.pt", "two.pt"):
            module.train(tmp_path / name, lambda done, total: seen.append((done, total)), beta=1.0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.pt", "two.pt"]
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("one.pt", "two.pt"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert seen == [(0, 40), (20, 40), (40, 40)] * 2

    problem = load_task(PINN / "task.py", {"beta": 1.0})
    before = problem.loss(problem.model, problem.data).item()
    problem.model.load_state_dict(one)
    assert problem.loss(problem.model, problem.data).item() < before / 2


def test_the_demo_study_is_the_one_described() -> None:
    study = Study.load(PINN / "study.yaml")
    assert [(c.name, c.options) for c in study.checkpoints] == [("beta_1", {"beta": 1.0}), ("beta_30", {"beta": 30.0})]
    assert study.make_grid().shape == (25, 25, 25)
    assert (study.directions.kind, study.directions.n, study.precision) == ("hessian", 3, "float64")
    assert study.path(study.task).exists()
    assert study.train is not None
    assert study.path(study.train).exists()
    Objective(load_task(study.path(study.task), study.checkpoints[0].options)).prove_deterministic()


@pytest.mark.processes
def test_what_init_writes_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    for command in ("init mine", "run mine/study.yaml --set grid.count=9 --workers 1"):
        result = runner.invoke(app, command.split())
        assert result.exit_code == 0, result.output
    report = (tmp_path / "runs" / "my_study" / "report.html").read_text()
    assert "trained" in report
    assert (tmp_path / "mine" / "checkpoints" / "trained.pt").exists()
