"""PyHessian's power iteration: vector for vector what the package itself finds on the same model and data."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from problems import TASKS, quadratic

from landscaper_hpc.directions.power_iteration import power_iteration_directions
from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.objective import Objective, Task
from landscaper_hpc.study.study import DirectionsConfig


@pytest.mark.filterwarnings("ignore:Using backward:UserWarning")  # the package's own way
def test_equals_pyhessian() -> None:
    package = pytest.importorskip("pyhessian")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)).double()
    x, y = torch.randn(20, 3).double(), torch.randn(20, 1).double()
    criterion = torch.nn.MSELoss()
    theirs = package.hessian(model, criterion, data=(x, y), cuda=False)
    torch.manual_seed(7)
    values, vectors = theirs.eigenvalues(maxIter=50, tol=1e-3, top_n=3)
    model.zero_grad(set_to_none=True)

    objective = Objective(Task(model=model, loss=lambda m, b: criterion(m(b[0]), b[1]), data=[(x, y)]))
    found = power_iteration_directions(objective, 3, max_iterations=50, tolerance=1e-3, seed=7, normalization="unit")
    np.testing.assert_allclose(found.eigenvalues, values, rtol=1e-10)
    for i, vector in enumerate(vectors):
        length = torch.sqrt(sum((v**2).sum() for v in vector))
        for (name, _), part in zip(model.named_parameters(), vector, strict=True):
            torch.testing.assert_close(found.vectors[name][i], part / length, rtol=1e-7, atol=1e-9)


def test_a_quadratic() -> None:
    pytest.importorskip("pyhessian")
    objective = quadratic([1.0, -5.0, 3.0, 0.5])
    found = power_iteration_directions(objective, 2, tolerance=1e-12, max_iterations=500, normalization="unit")
    np.testing.assert_allclose(found.eigenvalues, [-5.0, 3.0], rtol=1e-5)
    assert found.residuals.max() < 1e-3 and found.iterations <= 1000
    again = power_iteration_directions(objective, 2, tolerance=1e-12, max_iterations=500, normalization="unit")
    assert all(torch.equal(found.vectors[k], again.vectors[k]) for k in found.vectors)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyhessian.hessian", None)
    monkeypatch.setitem(sys.modules, "pyhessian", None)
    says = r"directions.solver is pyhessian, which is not installed; pip install 'landscaper-hpc\[pyhessian\]'"
    with pytest.raises(InputError, match=says):
        power_iteration_directions(Objective(TASKS["mlp"]()), 1)


@pytest.mark.parametrize("options", [{"kind": "random"}, {"which": "negative"}])
def test_it_finds_the_largest_eigenvalues_only(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="solver: pyhessian finds the largest"):
        DirectionsConfig(solver="pyhessian", **options)


def test_studies_without_it_keep_their_id(tmp_path: Path) -> None:
    from landscaper_hpc.study.study import Study

    (tmp_path / "task.py").write_text("")
    (tmp_path / "c.pt").write_bytes(b"x")
    (tmp_path / "study.yaml").write_text("name: s\ntask: task.py\ncheckpoints: [{name: c, file: c.pt}]\n")
    usual = Study.load(tmp_path / "study.yaml")
    other = Study.load(tmp_path / "study.yaml", ["directions.solver=pyhessian"])
    assert "solver" not in usual.science(usual.checkpoints[0])["directions"]
    assert other.science(other.checkpoints[0])["directions"]["solver"] == "pyhessian"
    assert usual.study_id() != other.study_id()
