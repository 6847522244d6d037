"""Confirmed minima in a study: the same for every executor, resumed, stored under a hash, told and refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

from landscaper_hpc.confirm.result import Confirmed
from landscaper_hpc.report import describe, page
from landscaper_hpc.report.text import number
from landscaper_hpc.store.landscape import open_landscape
from landscaper_hpc.work import answering
from tests.kinds import slow
from tests.report.test_page import Page
from tests.studies import command, contents, wells


def confirmed(folder: Path, n: int = 2, count: int = 21, more: str = "confirm: true\n") -> Path:
    study = wells(folder, n=n, count=count)
    study.write_text(study.read_text() + more)
    return study


def run(study: Path, out: Path, *more: str) -> str:
    done = command("run", study, "--out", out, "--executor", "serial", *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def entry(out: Path) -> dict:
    return json.loads((out / "results.json").read_text())["landscapes"][0]


@pytest.mark.thorough
def test_a_study_tells_what_its_minima_are(tmp_path: Path) -> None:
    said = run(confirmed(tmp_path), tmp_path / "run")
    assert "origin: 4 minima of the grid are 4 minima of the loss\n" in said
    told = entry(tmp_path / "run")["confirmed"]
    assert (told["interior"], told["edge"], told["kink"], told["unresolved"], told["saddles"]) == (4, 0, 0, 0, 3)
    assert told["gradients"] > 0
    found = open_landscape(tmp_path / "run").answer("confirmed", {"minima": 100})
    assert found is not None
    x = Confirmed.from_arrays(found.arrays).points
    assert np.abs(4 * np.array([1, 2]) * x * (x**2 - 1) + 0.1).max() < 1e-4  # where the gradient is zero
    said = (tmp_path / "run" / "report.html").read_text()
    assert "4 minima of the grid are 4 minima of the loss." in said
    assert "Confirmed tree" in said


@pytest.mark.thorough
def test_every_minimum_and_every_pass_is_told(tmp_path: Path) -> None:
    """The wells (i (x² − 1)² + x/10 along direction i): what is listed of each is what their formula says."""
    run(confirmed(tmp_path), tmp_path / "run")
    told = entry(tmp_path / "run")["confirmed"]
    Draft202012Validator(json.loads(describe.SCHEMA_FILE.read_text())).validate(
        json.loads((tmp_path / "run" / "results.json").read_text())
    )
    ends, joins = told["ends"], told["joins"]
    assert [end["kind"] for end in ends] == ["interior"] * 4
    assert [end["persistence"] is None for end in ends] == [True, False, False, False]
    lives = [end["persistence"] for end in ends[1:]]
    assert lives == sorted(lives, reverse=True)
    assert lives[0] == told["persistence"]
    assert sum(end["grid_minima"] for end in ends) == told["followed"]
    curvature = np.array([1, 2])
    for one in (*ends, *joins):
        x = np.array(one["point"])
        slope, bend = 4 * curvature * x * (x**2 - 1) + 0.1, curvature * (12 * x**2 - 4)
        assert np.linalg.norm(slope) < 1e-4
        if one in ends:
            assert one["gradient_norm"] == pytest.approx(np.linalg.norm(slope), rel=1e-3, abs=1e-9)
        np.testing.assert_allclose(one["eigenvalues"], np.sort(bend), rtol=1e-5)
        assert one["loss"] == pytest.approx((curvature * (x**2 - 1) ** 2 + 0.1 * x).sum(), abs=1e-12)
    assert [join["loss"] for join in joins] == sorted(join["loss"] for join in joins)
    assert {place for join in joins for place in join["ends"]} == {0, 1, 2, 3}
    text = Page((tmp_path / "run" / "report.html").read_text()).text
    assert "confirmed minima, one by one, and the other ends" in text
    assert number(ends[3]["loss"]) in text


@pytest.mark.thorough
def test_the_page_shows_the_first_of_a_long_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "LISTED", 3)
    run(confirmed(tmp_path, more="confirm: {minima: 50}\n"), tmp_path / "run")  # of which no page was painted before
    text = Page((tmp_path / "run" / "report.html").read_text()).text
    assert text.count("1 more are in results.json, confirmed.ends") == 1
    assert "In results.json: confirmed.joins" in text


@pytest.mark.processes
def test_two_runs_two_executors_and_a_later_question_give_the_same_bytes(tmp_path: Path) -> None:
    study = confirmed(tmp_path)
    run(study, tmp_path / "one")
    done = command("run", study, "--out", tmp_path / "two", "--executor", "local", "--workers", "2")
    assert done.returncode == 0, done.stderr
    plain = wells(tmp_path / "plain")
    run(plain, tmp_path / "three")
    assert entry(tmp_path / "three")["confirmed"]["sentence"] is None
    assert "Confirmed tree" not in (tmp_path / "three" / "report.html").read_text()
    plain.write_text(study.read_text())
    run(plain, tmp_path / "three")  # nothing is evaluated again
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "three")


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 16 minima in four directions; beside it, its `whole` run."""
    folder = tmp_path_factory.mktemp("sixteen")
    study = confirmed(folder, n=4, count=9)
    run(study, folder / "whole")
    return study


@pytest.mark.parametrize("torn", [slow(False), True])
@pytest.mark.thorough
def test_a_run_that_was_stopped_goes_on_from_its_batches(
    torn: bool, sixteen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = sixteen
    asked = []
    do_batch = answering.do_batch

    def stopping(batch: answering.Batch, progress: object) -> None:
        if len(asked) == 1:
            raise RuntimeError("stopped")
        asked.append(batch.file.name)
        do_batch(batch, progress)

    monkeypatch.setattr(answering, "do_batch", stopping)
    assert command("run", study, "--out", tmp_path / "run", "--executor", "serial").returncode == 1
    assert [file.name for file in (tmp_path / "run" / "resume").glob("*.npz")] == asked
    monkeypatch.setattr(answering, "do_batch", do_batch)
    if torn:  # what else would be a number of the study
        (batch,) = (tmp_path / "run" / "resume").glob("*.npz")
        content = bytearray(batch.read_bytes())
        content[len(content) // 2] ^= 1
        batch.write_bytes(content)
    again = []

    def noting(batch: answering.Batch, progress: object) -> None:
        again.append(batch.file.name)
        do_batch(batch, progress)

    monkeypatch.setattr(answering, "do_batch", noting)
    run(study, tmp_path / "run")
    assert (asked[0] in again) == torn
    assert not (tmp_path / "run" / "resume").exists()
    assert contents(tmp_path / "run") == contents(study.with_name("whole"))


@pytest.mark.thorough
def test_what_is_stored_is_sealed_and_of_its_question(tmp_path: Path) -> None:
    study = confirmed(tmp_path)
    run(study, tmp_path / "run")
    before = contents(tmp_path / "run")
    store = open_landscape(tmp_path / "run")
    assert store.answer("confirmed", {"minima": 2}) is None
    chunk = store.folder / "confirmed" / "values" / "c.0"
    damaged = bytearray(chunk.read_bytes())
    damaged[0] ^= 1
    chunk.write_bytes(damaged)
    assert store.answer("confirmed", {"minima": 100}) is None
    run(study, tmp_path / "run")
    assert contents(tmp_path / "run") == before
    run(study, tmp_path / "run", "--set", "confirm={minima: 2}")
    assert entry(tmp_path / "run")["confirmed"]["followed"] == 2
    assert entry(tmp_path / "run")["confirmed"]["sentence"].startswith("the 2 most persistent of 4 minima")


@pytest.mark.thorough
def test_plan_tells_the_cost_beforehand(tmp_path: Path) -> None:
    done = command("plan", confirmed(tmp_path, more="confirm: {minima: 7}\n"))
    assert done.returncode == 0, done.stderr
    assert "confirm     up to 7 minima, about 308 gradients (a tenth to twice as many)" in done.stdout
    assert "confirm" not in command("plan", wells(tmp_path / "plain")).stdout


FEW = """
import torch
from torch import nn
from landscaper_hpc import Task

def task():
    torch.manual_seed(0)
    x = torch.randn(6, 10, 2, dtype=torch.float64)
    return Task(nn.Linear(2, 1).double(), lambda m, b: (m(b) - 1).square().flatten(), list(x))
"""


@pytest.mark.thorough
def test_plan_says_what_is_of_a_few_batches_and_what_of_all(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(FEW)
    exec(FEW, space := {})
    torch.save(space["task"]().model.state_dict(), tmp_path / "origin.pt")
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: few\ntask: task.py\ncheckpoints: [{name: origin, file: origin.pt}]\n"
        "directions: {kind: random, n: 2}\ngrid: {range: 1.0, count: 5}\nbatch: 4\n"
        "confirm: true\nerror_bars: {pairs: 3}\ndata: {batches: 2}\n"
    )
    done = command("plan", study)
    assert done.returncode == 0, done.stderr
    said = "up to 12 minima, about 528 gradients of the loss over 2 of 6 batches (a tenth to twice as many), about"
    assert f"confirm     {said}" in done.stdout
    assert "error bars  up to 9 minima and saddles on all data of 6 batches, and on the 2, about" in done.stdout
    assert "evaluation  about" in done.stdout
    run(study, tmp_path / "run")
    done = command("plan", study, "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["confirmed"], found["counted"], found["checked"]) == (1, True, 1)
    assert found["confirm_seconds"] > 0 < found["error_bars_seconds"]


@pytest.mark.thorough
def test_plan_knows_the_minima_of_a_tree_that_is_there(sixteen: Path) -> None:
    """Within a factor of two of what is spent."""
    whole = sixteen.with_name("whole")
    done = command("plan", sixteen, "--out", whole)
    assert done.returncode == 0, done.stderr
    assert "confirm     16 minima, about 1,088 gradients (a tenth to twice as many)" in done.stdout
    assert 1120 / 2 < entry(whole)["confirmed"]["gradients"] < 1120 * 2


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        ("(x.detach().square() - 1).square().sum() + 0 * data.sum()", "the loss has none"),
        ("(x.square() - 1).square().sum() + (x.detach() * 3).sum()", "the loss and its gradient are of two functions"),
        ("torch.floor(3 * x).sum()", "it changes in steps"),
        ("(x > 1).any().double() + 0 * x.sum()", "it changes in steps"),  # not near the checkpoint
    ],
)
def test_a_loss_without_a_gradient_is_refused_before_anything_is_spent(tmp_path: Path, loss: str, why: str) -> None:
    study = confirmed(tmp_path)
    task = (tmp_path / "task.py").read_text()
    old = "(weights * (x.square() - 1).square()).sum() + tilt * x.sum() + 0 * data.sum()"
    assert old in task
    (tmp_path / "task.py").write_text(task.replace(old, loss))
    done = command("run", study, "--out", tmp_path / "run", "--executor", "serial")
    assert done.returncode == 2, done.stdout
    assert why in done.stderr
    assert "confirm" in done.stderr
    assert not (tmp_path / "run" / "study.zarr" / "origin").exists()


def test_more_directions_than_can_be_followed_are_refused(tmp_path: Path) -> None:
    study = wells(tmp_path)
    more = "\ngrid: {range: 1.5, count: 3}\nconfirm: true\n"
    text = study.read_text().replace("n: 2, normalization", "n: 9, normalization")
    study.write_text(text.replace("\ngrid: {range: 1.5, count: 21}\n", more))
    done = command("plan", study)
    assert done.returncode == 2
    assert "confirm: minima are followed in up to 8 directions; found directions.n: 9" in done.stderr


RELU = """
import torch
from torch import nn
from landscaper_hpc import Task

def task():
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.5], [-0.7]]))
        model[0].bias.zero_()
        model[2].weight.fill_(1.0)
    x = torch.tensor([[-1.0], [0.2], [1.0]], dtype=torch.float64)

    def loss(u, x):
        return (u(x) + 1).square().mean() + 0.25 * (u[0].bias - 0.3).square().sum()
    return Task(model=model, loss=loss, data=x)
"""


@pytest.mark.thorough
def test_a_relu_networks_minimum_lies_on_a_kink(tmp_path: Path) -> None:
    """The loss pushes both units down until none is active at any input, and the decay pulls them up: they end where
    the first input would switch each on, at biases of -0.5 and -0.7."""
    study = confirmed(tmp_path)
    (tmp_path / "task.py").write_text(RELU)
    exec(RELU, space := {})
    model = space["task"]().model
    torch.save(model.state_dict(), tmp_path / "origin.pt")
    axes = {name: torch.zeros(2, *p.shape, dtype=p.dtype) for name, p in model.named_parameters()}
    axes["0.bias"] = torch.eye(2, dtype=torch.float64)
    torch.save(axes, tmp_path / "axes.pt")
    study.write_text(study.read_text().replace(", options: {n: 2, tilt: 0.1}", ""))
    said = run(study, tmp_path / "run")
    assert "0 minima of the loss and 1 on kinks\n" in said
    found = open_landscape(tmp_path / "run").answer("confirmed", {"minima": 100})
    assert found is not None
    np.testing.assert_allclose(Confirmed.from_arrays(found.arrays).points, [[-0.5, -0.7]], atol=1e-5)


@pytest.mark.parametrize(("precision", "off"), [("float32", 1e-4), ("bf16", 0.02)])
@pytest.mark.thorough
def test_minima_in_low_precision_are_the_same_to_its_rounding(tmp_path: Path, precision: str, off: float) -> None:
    said = run(confirmed(tmp_path), tmp_path / "run", "--set", f"precision={precision}")
    assert "4 minima of the grid are 4 minima of the loss\n" in said
    found = open_landscape(tmp_path / "run").answer("confirmed", {"minima": 100})
    assert found is not None
    points = Confirmed.from_arrays(found.arrays).points
    expected = np.array([(x, y) for x in _outer(1) for y in _outer(2)])
    apart = np.abs(points[:, None] - expected).max(axis=2)
    assert sorted(apart.argmin(axis=1).tolist()) == [0, 1, 2, 3]
    assert apart.min(axis=1).max() < off


def _outer(weight: int) -> list[float]:
    """The minima of weight (x² - 1)² + x / 10."""
    found = sorted(np.roots([4 * weight, 0, -4 * weight, 0.1]).real.tolist())
    return [found[0], found[2]]
