"""Power-law exponents of weights: against spectra that have the exponent, and as a study asks for them."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from landscaper_hpc import Site, Study, open_landscape, run
from landscaper_hpc.cli import app
from landscaper_hpc.comparison import weight_spectra
from landscaper_hpc.comparison.weight_spectra import power_laws
from landscaper_hpc.errors import InputError

TASK = """
import torch
from torch import nn
from landscaper_hpc import Task

def task():
    model = nn.Sequential(nn.Linear(40, 60), nn.Tanh(), nn.Linear(60, 3))
    generator = torch.Generator().manual_seed(0)
    return Task(model, lambda m, x: m(x).square().mean(), torch.randn(8, 40, generator=generator))
"""


def with_exponent(alpha: float, rows: int, seed: int = 0) -> nn.Linear:
    """A layer whose eigenvalues of WᵀW are the quantiles of a Pareto law from 1 on, ρ(λ) ~ λ^−alpha."""
    layer = nn.Linear(2 * rows, rows, bias=False)
    share = (np.arange(rows) + 0.5) / rows
    singular = (1 - share) ** (-0.5 / (alpha - 1))
    random = np.random.default_rng(seed)
    left, _ = np.linalg.qr(random.standard_normal((rows, rows)))
    right, _ = np.linalg.qr(random.standard_normal((2 * rows, rows)))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(left * singular @ right.T))
    return layer


@pytest.mark.thorough
def test_a_known_exponent_is_found() -> None:
    pytest.importorskip("weightwatcher")
    layers = nn.Sequential(with_exponent(2.5, 300), nn.ReLU(), with_exponent(4.0, 300, seed=1))
    found = power_laws(layers)
    assert found.layers == ["0", "2"]
    np.testing.assert_array_less(np.abs(found.alpha - [2.5, 4.0]), 3 * found.error)
    np.testing.assert_allclose(found.largest, [(0.5 / 300) ** (-1 / 1.5), (0.5 / 300) ** (-1 / 3)], rtol=1e-5)
    mean, weighted = found.mean, found.weighted
    assert mean is not None and weighted is not None
    assert mean[0] == pytest.approx(found.alpha.mean())
    assert weighted[0] == pytest.approx(np.mean(found.alpha * np.log10(found.largest)))
    assert mean[1] == pytest.approx(np.sqrt(np.sum(found.error**2)) / 2)
    assert weighted[1] == pytest.approx(np.sqrt(np.sum((found.error * np.log10(found.largest)) ** 2)) / 2)


def test_small_layers_have_none() -> None:
    pytest.importorskip("weightwatcher")
    found = power_laws(nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)))
    assert (found.layers, found.mean, found.weighted) == ([], None, None)


def test_what_the_package_sets_for_the_log_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of the log were on the terminal from the first spectrum on, with --quiet, too."""

    class Watcher:
        def __init__(self, model: nn.Module) -> None:
            logging.getLogger().addHandler(logging.StreamHandler())
            logging.getLogger().setLevel(1)

        def analyze(self, svd_method: str) -> dict[str, float]:
            return {}

    monkeypatch.setitem(sys.modules, "weightwatcher", SimpleNamespace(WeightWatcher=Watcher))  # type: ignore[arg-type]
    monkeypatch.setattr(weight_spectra, "refuse_without_package", lambda: None)
    root = logging.getLogger()
    before = [*root.handlers], root.level
    assert power_laws(nn.Linear(2, 1)).layers == []
    assert ([*root.handlers], root.level) == before


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    exec(TASK, space := {})
    torch.manual_seed(0)
    torch.save(space["task"]().model.state_dict(), tmp_path / "one.pt")
    file = tmp_path / "study.yaml"
    file.write_text(
        "{name: s, task: task.py, checkpoints: [{name: one, file: one.pt}], "
        "directions: {kind: random, n: 1}, grid: {range: 0.1, count: 5}, batch: 1}"
    )
    return file


@pytest.mark.thorough
def test_a_finished_study_is_asked_for_them(study: Path, tmp_path: Path) -> None:
    pytest.importorskip("weightwatcher")
    site, folder = Site(executor="serial"), tmp_path / "run"
    before = run(Study.load(study), site, folder)
    assert before is not None and set(before["landscapes"][0]["power_law"].values()) == {None}
    asked = Study.load(study, ["power_law=true"])
    assert asked.study_id() == Study.load(study).study_id()
    results = run(asked, site, folder)
    assert results is not None
    told = results["landscapes"][0]["power_law"]
    exec(TASK, space := {})
    model = space["task"]().model
    model.load_state_dict(torch.load(study.parent / "one.pt", weights_only=True))
    found = power_laws(model.double())
    assert [row["layer"] for row in told["layers"]] == found.layers == ["0"]
    assert (told["alpha"], told["alpha_error"]) == pytest.approx(found.mean)
    assert (told["weighted"], told["weighted_error"]) == pytest.approx(found.weighted)
    page = (folder / "report.html").read_text()
    assert "power-law exponents, layer by layer" in page
    assert run(asked, site, folder) == results
    assert open_landscape(folder).loss().shape == (5,)


def test_where_the_package_is_missing(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weightwatcher", None)
    says = r"power_law: needs weightwatcher, which is not installed; pip install 'landscaper-hpc\[power-law\]'"
    with pytest.raises(InputError, match=says):
        run(Study.load(study, ["power_law=true"]), Site(executor="serial"), tmp_path / "run")
    assert not (tmp_path / "run/study.zarr").exists()
    checked = CliRunner().invoke(app, ["check", str(study), "--set", "power_law=true"])
    assert checked.exit_code == 2 and "power_law: needs weightwatcher" in " ".join(checked.stderr.split())
