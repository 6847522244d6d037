"""A study with `sampling`: scattered points and their network; stored, resumed, told and refused in words."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from landscaper_hpc.confirm import network
from landscaper_hpc.confirm.result import Confirmed
from landscaper_hpc.exchange.tables import points_table
from landscaper_hpc.report import describe
from landscaper_hpc.sampling.scattered import scattered, unit_points
from landscaper_hpc.status import lines, status
from landscaper_hpc.store.landscape import open_landscape
from landscaper_hpc.topology.tree import MergeTree
from landscaper_hpc.work import answering
from tests.report.test_page import Page
from tests.studies import command, contents, process, refusal, wells

SERIAL = ("--executor", "serial")
ASKED = {"kind": "sobol", "points": 64, "minima": 100}


def run(study: Path, out: Path, *more: str) -> str:
    done = command("run", study, "--out", out, *SERIAL, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def entry(out: Path) -> dict:
    found = json.loads((out / "results.json").read_text())
    Draft202012Validator(json.loads(describe.SCHEMA_FILE.read_text())).validate(found)
    return found["landscapes"][0]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = wells(tmp_path_factory.mktemp("sampled"))
    file.write_text(file.read_text() + "sampling: {points: 64}\n")
    return file


@pytest.fixture(scope="module")
def whole(study: Path) -> Path:
    said = run(study, study.with_name("whole"))
    assert "origin: the graph of 64 points has 4 minima" in said
    assert "origin: 4 minima of the loss, joined by 3 passes" in said
    assert "group='origin/sampling'" in said
    return study.with_name("whole")


@pytest.mark.thorough
def test_four_wells_their_passes_and_what_is_not_known(whole: Path) -> None:
    """The wells (i (x² − 1)² + x/10 along direction i) from 64 points: what is told is what their formula says."""
    told = entry(whole)
    assert told["connectivity"] == "knn"
    assert "topology" not in told
    network = told["sampling"]["network"]
    assert (network["interior"], network["others"], network["passes"], network["saddles"]) == (4, 0, 3, 3)
    assert (network["random_descents"], network["ended_elsewhere"]) == (50, 0)
    assert network["unmet_at_most"] == pytest.approx(1 - (0.05 / 4) ** (1 / 50))
    curvature = np.array([1, 2])
    for one in (*network["ends"], *network["joins"]):
        x = np.array(one["point"])
        assert np.linalg.norm(4 * curvature * x * (x**2 - 1) + 0.1) < 1e-4
        np.testing.assert_allclose(one["eigenvalues"], np.sort(curvature * (12 * x**2 - 4)), rtol=1e-5)
    assert [end["persistence"] is None for end in network["ends"]] == [True, False, False, False]
    page = Page((whole / "report.html").read_text()).text
    assert "at most 8.4% of the box does, with a probability of 0.95" in page
    assert "cannot be known at that density" in page
    assert "minima of the network, one by one" in page


@pytest.mark.thorough
def test_what_is_stored_is_the_points_their_tree_and_the_network(whole: Path) -> None:
    store = open_landscape(whole)
    found = store.whole_answer("sampling", ASKED)
    unit = unit_points("sobol", 64, 2)
    points, losses = found.arrays["points"], found.arrays["losses"]
    np.testing.assert_allclose(points, 3 * unit - 1.5, atol=1e-15)
    np.testing.assert_allclose(losses, (np.array([1, 2]) * (points**2 - 1) ** 2 + 0.1 * points).sum(axis=1), atol=1e-14)
    again = scattered(unit, losses)
    tree = MergeTree.from_arrays(found.arrays)
    np.testing.assert_array_equal(tree.minima, again.tree.minima)
    np.testing.assert_array_equal(tree.labels, again.tree.labels)
    told = entry(whole)["sampling"]
    assert told["mean_climb"] == again.mean_climb
    assert told["mean_climb_of_halves"] == list(again.mean_climb_of_halves)
    ends = {name.removeprefix("network_"): array for name, array in found.arrays.items() if name.startswith("network_")}
    assert Confirmed.from_arrays(ends).values.tolist() == sorted(end["loss"] for end in told["network"]["ends"])
    table = points_table(store)
    np.testing.assert_array_equal(table[["alpha_0", "alpha_1"]].to_numpy(), points)
    np.testing.assert_array_equal(table["loss"], losses)
    done = command("topology", whole)
    assert done.returncode == 2
    assert "only scattered points of it are evaluated" in done.stderr


@pytest.mark.processes
def test_processes_give_the_same_bytes(study: Path, whole: Path, tmp_path: Path) -> None:
    done = command("run", study, "--out", tmp_path / "run", "--executor", "local", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "run") == contents(whole)


@pytest.mark.thorough
@pytest.mark.parametrize("torn", [False, True])
def test_stopped_it_tells_how_far_it_is_and_goes_on_from_its_batches(
    torn: bool, study: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    do_batch = answering.do_batch

    def stopping(batch: answering.Batch, progress: object) -> None:
        if len(asked) == 17:  # all losses, and the first descents
            raise RuntimeError("stopped")
        asked.append(batch.file.name)
        do_batch(batch, progress)

    with monkeypatch.context() as patch:
        patch.setattr(answering, "do_batch", stopping)
        assert command("run", study, "--out", tmp_path / "run", *SERIAL).returncode == 1
    resume = tmp_path / "run" / "resume"
    assert sorted(file.name for file in resume.glob("*.npz")) == sorted(asked)
    state = status(tmp_path / "run")
    assert (state["points"], state["points_done"], state["shards"]) == (64, 0, 0)
    said = "\n".join(lines(state, tmp_path / "run"))
    assert "64 scattered points and what they lead to: 17 batches are done so far" in said
    assert "go on with" in said
    if torn:  # what else would be a number of the study
        content = bytearray((resume / asked[0]).read_bytes())
        content[len(content) // 2] ^= 1
        (resume / asked[0]).write_bytes(content)
        (resume / "origin.sampling.json").write_bytes(b"{")
    again: list[str] = []

    def noting(batch: answering.Batch, progress: object) -> None:
        again.append(batch.file.name)
        do_batch(batch, progress)

    monkeypatch.setattr(answering, "do_batch", noting)
    run(study, tmp_path / "run")
    assert set(again) & set(asked) == ({asked[0]} if torn else set())
    assert not resume.exists()
    assert contents(tmp_path / "run") == contents(whole)
    state = status(tmp_path / "run")
    assert (state["points"], state["points_done"]) == (64, 64)
    assert "64 scattered points, 4 minima of their graph; 4 minima of the loss" in "\n".join(
        lines(state, tmp_path / "run")
    )


DIES = """
import os, signal
from pathlib import Path

from landscaper_hpc.confirm import network

network.BATCHED = 5  # random descents: few, wherever this is run
_task = task

def task(n=2, tilt=0.1):
    made = _task(n, tilt)
    def loss(model, data):
        value = made.loss(model, data)
        float(value.detach())  # never recorded
        left = Path(__file__).with_name("LEFT")
        if value.requires_grad and left.exists():
            count = int(left.read_text())
            left.write_text(str(count - 1))
            if not count:
                left.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return value
    return Task(model=made.model, loss=loss, data=made.data)
"""


@pytest.mark.processes
def test_killed_among_its_gradients_it_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "BATCHED", 5)  # as the task sets it, and no longer than here
    file = wells(tmp_path / "study")
    file.write_text(file.read_text() + "sampling: {points: 16}\n")
    task = file.with_name("task.py")
    task.write_text(task.read_text() + DIES)
    run(file, tmp_path / "undisturbed")
    file.with_name("LEFT").write_text("200")
    killed = process("run", file, "--out", tmp_path / "run", *SERIAL)
    assert killed.returncode == -signal.SIGKILL
    assert list((tmp_path / "run" / "resume").glob("origin.network_of_*.npz"))
    run(file, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")


@pytest.mark.thorough
def test_what_is_damaged_is_made_again_and_another_question_takes_its_place(
    study: Path, whole: Path, tmp_path: Path
) -> None:
    run(study, tmp_path / "run")
    chunk = tmp_path / "run/study.zarr/origin/sampling/losses/c.0"
    content = bytearray(chunk.read_bytes())
    content[0] ^= 1
    chunk.write_bytes(content)
    run(study, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(whole)
    run(study, tmp_path / "run", "--set", "sampling={points: 32, minima: 0}")
    told = entry(tmp_path / "run")["sampling"]
    assert told["points"] == 32
    assert set(told["network"].values()) == {None}
    assert "Network of minima" not in (tmp_path / "run" / "report.html").read_text()
    # and the whole grid may follow, in the same folder, after which scattered points may not
    run(study, tmp_path / "run", "--set", "sampling=null")
    assert "sampling" not in entry(tmp_path / "run")
    assert "21 × 21 points, merge tree done" in "\n".join(lines(status(tmp_path / "run"), tmp_path / "run"))
    done = command("run", study, "--out", tmp_path / "run", *SERIAL)
    assert done.returncode == 2
    assert "holds losses of the whole grid already; leave sampling out" in done.stderr


@pytest.mark.thorough
def test_sixteen_directions_without_minima(tmp_path: Path) -> None:
    study = wells(tmp_path, n=16, count=5)
    run(study, tmp_path / "run", "--set", "sampling={kind: latin, points: 100, minima: 0}")
    told = entry(tmp_path / "run")["sampling"]
    assert told["points"] == 100
    assert told["sentence"].startswith("the graph of 100 points")
    assert told["network"]["sentence"] is None


@pytest.mark.thorough
def test_plan_and_check_tell_of_points_and_gradients(study: Path, tmp_path: Path) -> None:
    done = command("plan", study, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "points      64, scattered, in place of a grid" in done.stdout
    assert (
        "network     up to 232 minima and random starts, about 10,208 gradients (a tenth to twice as many)"
        in done.stdout
    )
    assert "shards" not in done.stdout
    done = command("check", study)
    assert done.returncode == 0, done.stderr
    assert "64 scattered points for each checkpoint" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("sampling={kind: halton}",), "sampling.kind: Input should be 'sobol', 'random' or 'latin'; found 'halton'"),
        (("sampling={points: 4}",), "sampling.points: Input should be greater than or equal to 8; found 4"),
        (("sampling=3",), "sampling: "),
        (("sampling={count: 9}",), "unknown key sampling.count (value 9); valid keys there: kind, points, minima"),
        (("confirm=true",), "sampling: confirm needs the grid, in place of which there are scattered points"),
        (("scope={share: 0.1}",), "sampling: scope needs the grid"),
        (("data={batches: 2}",), "sampling: data needs the grid"),
        (("grid.refine=2",), "sampling: grid.refine needs the grid"),
    ],
)
def test_what_cannot_be_is_one_sentence(study: Path, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    assert said in refusal(study, tmp_path / "run", options)


def test_a_sweep_of_scattered_points_is_refused(study: Path, tmp_path: Path) -> None:
    done = command("sweep", study, "--set", "directions.seed=0,1", "--out", tmp_path / "sweep", *SERIAL)
    assert done.returncode == 2
    assert "sampling: a sweep compares whole landscapes" in done.stderr


@pytest.mark.thorough
def test_a_loss_that_is_no_number_but_around_the_checkpoint_has_what_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The starts that meet nothing are unresolved, and passes between them are the minima of their tree."""
    monkeypatch.setattr(
        "landscaper_hpc.confirm.network.BATCHED", 5
    )  # random descents; none of them meets another's end
    study = wells(tmp_path)
    task = tmp_path / "task.py"
    old = "(weights * (x.square() - 1).square()).sum() + tilt * x.sum() + 0 * data.sum()"
    assert old in task.read_text()
    task.write_text(task.read_text().replace(old, f"torch.where(x.abs().max() > 0.3, torch.nan, {old})"))
    run(study, tmp_path / "run", "--set", "sampling={points: 32}")
    network = entry(tmp_path / "run")["sampling"]["network"]
    assert network["interior"] == 0
    assert {end["kind"] for end in network["ends"]} >= {"unresolved"}
    assert network["unmet_at_most"] > 0.5


@pytest.mark.thorough
def test_a_loss_without_a_gradient_has_points_and_no_network(tmp_path: Path) -> None:
    study = wells(tmp_path)
    task = tmp_path / "task.py"
    old = "(weights * (x.square() - 1).square()).sum() + tilt * x.sum() + 0 * data.sum()"
    assert old in task.read_text()
    task.write_text(task.read_text().replace(old, f"({old}).detach()"))
    done = command("run", study, "--out", tmp_path / "run", *SERIAL, "--set", "sampling={points: 16}")
    assert done.returncode == 2
    assert "the loss has none" in done.stderr
    run(study, tmp_path / "run", "--set", "sampling={points: 16, minima: 0}")
    assert entry(tmp_path / "run")["sampling"]["points"] == 16
