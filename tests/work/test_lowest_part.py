"""A study with `scope`: its lowest part by `run`, against the dense landscape; stopped, resumed, raised, damaged."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray
from studies import command, contents, need_jobqueue, process, refusal, wells

from landscaper_hpc import Site, Study
from landscaper_hpc.errors import Interrupted
from landscaper_hpc.executors import SerialMapper
from landscaper_hpc.progress import Bars
from landscaper_hpc.report.describe import schema
from landscaper_hpc.status import lines, status
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.metrics import mean_climb
from landscaper_hpc.topology.scope import below
from landscaper_hpc.topology.tree import MergeTree
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.preparation import prepare_all
from landscaper_hpc.work.seeking import seek_together
from landscaper_hpc.work.worker import Stop

SERIAL = ("--executor", "serial")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.float64]]:
    """The points whose losses are evaluated from now on."""
    import landscaper_hpc.losses.evaluate as evaluate

    points: list[NDArray[np.float64]] = []
    losses = evaluate.losses

    def noted(objective: object, directions: object, alphas: NDArray[np.float64], *more: object) -> object:
        points.append(alphas)
        return losses(objective, directions, alphas, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluate, "losses", noted)
    return points


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = wells(tmp_path_factory.mktemp("study"), n=2, count=41)
    file.write_text(file.read_text() + "scope: {share: 0.1, descents: 20}\n")
    return file


@pytest.fixture(scope="module")
def whole(study: Path) -> Path:
    """What an undisturbed serial run leaves."""
    done = command("run", study, *SERIAL, "--out", study.parent / "whole")
    assert done.returncode == 0, done.stderr
    assert "losses:  xarray.open_zarr" in done.stdout
    assert "group='origin/scope'" in done.stdout
    return study.parent / "whole"


def run(study: Path, folder: Path, *more: object) -> None:
    done = command("run", study, *SERIAL, "--out", folder, *more)
    assert done.returncode == 0, done.stderr


def entry(folder: Path) -> dict[str, object]:
    found = json.loads((folder / "results.json").read_text())
    return dict(found["landscapes"][0])


def of_the_landscape(folder: Path) -> dict[str, str]:
    """All that follows from the losses, and not from the size of shards."""
    return {
        name: digest
        for name, digest in contents(folder).items()
        if name in ("results.json",) or ("/scope/" in name and not name.endswith("scope/zarr.json"))
    }


@pytest.mark.thorough
def test_it_says_what_the_dense_landscape_says(study: Path, whole: Path, tmp_path: Path) -> None:
    text = study.read_text()
    (study.parent / "dense.yaml").write_text(text[: text.index("scope:")])
    run(study.parent / "dense.yaml", tmp_path / "dense")
    dense = LandscapeStore(tmp_path / "dense/study.zarr", "origin")
    found = LandscapeStore(whole / "study.zarr", "origin").answer("scope", {"share": 0.1, "descents": 20})
    assert found is not None
    np.testing.assert_array_equal(found.arrays["losses"], dense.loss().reshape(-1)[found.arrays["points"]])
    tree = MergeTree.from_arrays(found.arrays)
    numbers = entry(whole)["scope"]
    assert isinstance(numbers, dict)
    assert (numbers["n_minima"], numbers["points_below"]) == (4, tree.n_vertices)
    assert numbers["evaluated"] == len(found.arrays["points"])
    assert numbers["share_evaluated"] < 0.5
    everything = merge_tree(dense.loss(), labels=True)
    assert everything.labels is not None
    expected = below(everything, dense.loss(), everything.labels, numbers["level"])
    for name in ("minima", "values", "basin_size"):
        np.testing.assert_array_equal(getattr(tree, name), getattr(expected, name))
    assert numbers["mean_climb"] == pytest.approx(mean_climb(expected))
    assert (numbers["random_descents"], numbers["ended_elsewhere"]) == (20, 0)


@pytest.mark.thorough
def test_its_minima_are_confirmed_as_those_of_the_dense_landscape_below_the_level(study: Path, tmp_path: Path) -> None:
    """Of four wells two pairs join below 1.5, the pairs above it."""
    file = study.parent / "confirmed.yaml"
    file.write_text(study.read_text().partition("scope:")[0] + "confirm: true\n")
    run(file, tmp_path / "dense")
    dense = entry(tmp_path / "dense")["confirmed"]
    file.write_text(file.read_text() + "scope: {below: 1.5, descents: 20}\n")
    run(file, tmp_path / "part")
    found = entry(tmp_path / "part")["confirmed"]
    assert isinstance(dense, dict)
    assert isinstance(found, dict)
    assert [end["grid_minima"] for end in found["ends"]] == [1] * 4
    assert (found["interior"], found["saddles"], found["passes"], dense["saddles"]) == (4, 2, 0, 3)
    assert [end["persistence"] is None for end in found["ends"]] == [True, True, False, False]

    def points(told: dict[str, Any]) -> NDArray[np.float64]:
        return np.array(sorted(end["point"] for end in told["ends"]))

    np.testing.assert_allclose(points(found), points(dense), atol=1e-5)
    assert [join["loss"] for join in found["joins"]] == pytest.approx([join["loss"] for join in dense["joins"]][:2])
    said = "in the scope, below 1.5, 4 minima of the grid are 4 minima of the loss; they lie in 2 components, and what"
    page = (tmp_path / "part/report.html").read_text()
    assert said in page
    assert "Confirmed tree in the scope" in page
    results = json.loads((tmp_path / "part/results.json").read_text())
    jsonschema.Draft202012Validator(schema()).validate(results)
    assert said in "\n".join(lines(status(tmp_path / "part"), tmp_path / "part"))
    store = LandscapeStore(tmp_path / "part/study.zarr", "origin")
    asked = Study.load(file).asked()
    assert store.answer("confirmed", asked["confirmed"]) is not None
    assert store.answer("confirmed", {"minima": 100, "scope": {"below": 1.4, "descents": 20}}) is None


def test_its_results_hold_no_number_of_the_whole_grid(whole: Path) -> None:
    results = json.loads((whole / "results.json").read_text())
    jsonschema.Draft202012Validator(schema()).validate(results)
    assert not {"topology", "confirmed", "error_bars"} & results["landscapes"][0].keys()
    page = (whole / "report.html").read_text()
    assert "What becomes of a component above L is not known" in page
    assert "at most 13.9% of the grid descended to such, with a probability of 0.95" in page
    assert page.count("<svg") == 2


@pytest.mark.thorough
def test_the_estimate_of_the_whole_grids_mean_climb(study: Path, tmp_path: Path) -> None:
    run(study, tmp_path / "run", "--set", "scope.climb=200")
    numbers = entry(tmp_path / "run")["scope"]
    assert isinstance(numbers, dict)
    text = study.read_text()
    (study.parent / "dense.yaml").write_text(text[: text.index("scope:")])
    run(study.parent / "dense.yaml", tmp_path / "dense")
    tree = LandscapeStore(tmp_path / "dense/study.zarr", "origin").tree()
    low, high = numbers["whole_grid"]["interval"]
    assert low <= mean_climb(tree, normalize=False) <= high


@pytest.mark.thorough
def test_every_size_of_shards_says_the_same(study: Path, whole: Path, tmp_path: Path) -> None:
    run(study, tmp_path / "run", "--set-site", "shard_points=7")
    assert of_the_landscape(tmp_path / "run") == of_the_landscape(whole)


@pytest.mark.processes
@pytest.mark.slow  # the contract of executors has a lowest part by Dask, which hangs and is killed
def test_dask_gives_the_same_bytes(study: Path, whole: Path, tmp_path: Path) -> None:
    need_jobqueue()
    from tests.executors.test_dask import Dask

    with closing(Dask(tmp_path)) as dask:
        where = ("--executor", "dask", "--set-site", f"dask.scheduler={dask.file}", "--out", tmp_path / "run")
        done = process("run", study, *where, env={**os.environ, **dask.tls})
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "run") == contents(whole)


@pytest.mark.thorough
def test_stopped_in_the_midst_it_goes_on_without_what_was_evaluated(
    study: Path, whole: Path, tmp_path: Path, asked: list[NDArray[np.float64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(study, tmp_path / "again")
    total, rounds = sum(map(len, asked)), len(asked)
    asked.clear()
    import landscaper_hpc.work.mapped as mapped

    evaluate, left = mapped.evaluate_points, [rounds // 2]

    def stops(*arguments: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Interrupted
        evaluate(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(mapped, "evaluate_points", stops)
        stopped = command("run", study, *SERIAL, "--out", tmp_path / "stopped")
    assert stopped.returncode == 130
    assert "everything finished so far is kept" in stopped.stderr
    before = sum(map(len, asked))
    assert 0 < before < total
    state = status(tmp_path / "stopped")
    assert state["landscapes"][0]["scope"]["found"] is False
    assert "exact in what was met; the next 10 % would take about" in "\n".join(lines(state, tmp_path / "stopped"))
    damaged = next(iter((tmp_path / "stopped/points/origin").glob("*.losses")))
    damaged.write_bytes(damaged.read_bytes()[:100])
    run(study, tmp_path / "stopped")
    assert contents(tmp_path / "stopped") == contents(whole)
    assert total < sum(map(len, asked)) < total + before


@pytest.mark.thorough
def test_what_is_known_of_a_search_that_was_stopped_is_exact(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import landscaper_hpc.work.scope as work

    told: list[dict[str, float]] = []
    monkeypatch.setattr(work, "TELL_SECONDS", 0.0)
    monkeypatch.setattr(work, "TELL_SHARE", float("inf"))
    monkeypatch.setattr(work.Teller, "write", lambda self, now: told.append(now))
    run(study, tmp_path / "run")
    text = study.read_text()
    (study.parent / "dense.yaml").write_text(text[: text.index("scope:")])
    run(study.parent / "dense.yaml", tmp_path / "dense")
    loss = LandscapeStore(tmp_path / "dense/study.zarr", "origin").loss()
    everything = merge_tree(loss, labels=True)
    assert everything.labels is not None
    known = [now for now in told if now.get("points_below")]
    assert len(known) > 3
    for now in known:
        expected = below(everything, loss, everything.labels, now["level"])
        assert (now["n_minima"], now["points_below"]) == (expected.n_minima, expected.n_vertices)
        assert now["pairs"] == np.count_nonzero((expected.parent >= 0) & (expected.death_value < now["level"]))


@pytest.mark.thorough
def test_a_higher_level_goes_on_from_a_lower_one_and_a_lower_one_keeps_what_is_there(
    study: Path, tmp_path: Path, asked: list[NDArray[np.float64]]
) -> None:
    def evaluated(share: float, folder: str) -> int:
        asked.clear()
        run(study, tmp_path / folder, "--set", f"scope.share={share}")
        return sum(map(len, asked))

    low, high = evaluated(0.02, "raised"), evaluated(0.2, "raised")
    at_once = evaluated(0.2, "at_once")
    assert high < at_once
    assert low + high <= 1.1 * at_once
    first = {name: digest for name, digest in contents(tmp_path / "raised").items() if not name.startswith("points/")}
    assert first == contents(tmp_path / "at_once")
    assert evaluated(0.2, "raised") < 20  # what proves that the worker computes the recorded losses
    assert evaluated(0.02, "raised") < 20
    assert list((tmp_path / "raised/points/origin").iterdir())
    assert evaluated(0.2, "raised") < 20


@pytest.mark.thorough
def test_no_point_is_evaluated_twice(study: Path, tmp_path: Path, asked: list[NDArray[np.float64]]) -> None:
    run(study, tmp_path / "run", "--set", "scope.climb=100")
    points = np.concatenate(asked)
    assert len(points) - len(np.unique(points, axis=0)) < 40  # what proves that this process computes the losses


@pytest.mark.thorough
def test_a_part_that_was_altered_is_sought_again(study: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    file = tmp_path / "run/study.zarr/origin/scope/losses/c.0"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    run(study, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(whole)


@pytest.mark.thorough
def test_plan_says_what_it_assumes_and_goes_by_the_lattice_where_that_is_there(
    study: Path, whole: Path, tmp_path: Path
) -> None:
    def planned(folder: Path, *more: str) -> tuple[int, str]:
        done = command("plan", study, "--out", folder, *more)
        assert done.returncode == 0, done.stderr
        line = next(line for line in done.stdout.splitlines() if line.startswith("points"))
        return int(line.split()[2].replace(",", "")), done.stdout

    _, said = planned(tmp_path / "new")
    assert "assumed is one round basin" in said
    points, said = planned(whole)
    took = entry(whole)["scope"]["evaluated"]  # type: ignore[index]
    assert took / 1.5 < points < 1.5 * took
    assert "from the losses of the lattice and its descents, which are there: within a factor of 1.5, as a rule" in said
    assert planned(tmp_path / "new", "--set", "scope={below: 1.0}")[0] == 121
    assert planned(tmp_path / "new", "--set", "scope={points: 500}")[0] == 500


def test_status_of_a_finished_one(whole: Path) -> None:
    state = status(whole)
    assert state["landscapes"][0]["scope"]["found"]
    assert state["points"] == state["points_done"] == entry(whole)["scope"]["evaluated"]  # type: ignore[index]
    assert "4 minima and 0 pairs in 4 components" in "\n".join(lines(state, whole))


def test_what_needs_the_whole_grid_says_so(study: Path, whole: Path) -> None:
    for words in (("topology", whole), ("sensitivity", study, "--out", whole)):
        done = command(*words)
        assert done.returncode == 2
        assert "only its lowest part is evaluated" in done.stderr


@pytest.mark.thorough
def test_a_folder_with_the_whole_grid_is_refused(study: Path, tmp_path: Path) -> None:
    text = study.read_text()
    (study.parent / "dense.yaml").write_text(text[: text.index("scope:")])
    run(study.parent / "dense.yaml", tmp_path / "run")
    done = command("run", study, *SERIAL, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "holds losses of the whole grid already; leave scope out, or choose another folder" in done.stderr


@pytest.mark.thorough
def test_a_loss_that_fails_is_told_with_its_error_and_gets_new_attempts(study: Path, tmp_path: Path) -> None:
    task = study.with_name("task.py").read_text()
    file = tmp_path / "study.yaml"
    for name in ("origin.pt", "axes.pt"):
        shutil.copy(study.with_name(name), tmp_path / name)
    file.write_text(study.read_text())
    fails = """
from pathlib import Path
_task = task
def task(n=2, tilt=0.1):
    made = _task(n, tilt)
    def loss(model, data):
        value = made.loss(model, data)
        if float(value.detach()) < 0 and Path(__file__).with_name("FAIL").exists():
            raise ArithmeticError("no value here")
        return value
    return Task(model=made.model, loss=loss, data=made.data)
"""
    file.with_name("task.py").write_text(task + fails)
    (tmp_path / "FAIL").touch()
    done = command("run", file, *SERIAL, "--out", tmp_path / "run")
    assert done.returncode == 1
    assert "failed 3 times and is quarantined" in done.stderr
    assert "ArithmeticError: no value here" in done.stderr
    (tmp_path / "FAIL").unlink()
    run(file, tmp_path / "run", "--retry-failed")
    assert entry(tmp_path / "run")["scope"]["n_minima"] == 4  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("scope={}",), "scope: give one of share (of the points), points (that are evaluated) and below (a loss)"),
        (("scope={share: 0.1, points: 900}",), "found share and points"),
        (("scope.share=2",), "scope.share: Input should be less than 1; found 2"),
        (("scope={points: 121}",), "begins with a lattice of 121 points; give more than that"),
        (("scope.climb=1",), "scope.climb: Input should be greater than or equal to 2; found 1"),
        (("scope.level=1",), "unknown key scope.level (value 1); valid keys there: share, points, below"),
        (("confirm=true", "data={batches: 2, then: all}"), "confirm: gradients are those of the few batches"),
        (("grid.refine=3",), "scope: grid.refine needs the whole grid"),
        (("data={batches: 2}",), "data: with scope give {batches: …, then: all}"),
        (("error_bars=true",), "scope: error_bars needs the whole grid"),
    ],
)
def test_what_cannot_be_is_one_sentence(study: Path, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    assert said in refusal(study, tmp_path / "run", options)


def test_a_sweep_of_lowest_parts_is_refused(study: Path, tmp_path: Path) -> None:
    done = command("sweep", study, "--set", "directions.seed=0,1", "--out", tmp_path / "sweep", *SERIAL)
    assert done.returncode == 2
    assert "scope: a sweep compares whole landscapes" in done.stderr


def test_what_is_asked_is_cut_for_those_who_have_no_search_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,000 searches by 1,024 workers every point was a sparse shard, where batches are of one."""
    found: dict[str, int] = {}

    def conduct(item: str, workers: int, *_: object) -> bool:
        found[item] = workers
        return True

    monkeypatch.setattr("landscaper_hpc.work.seeking.is_found", found.__contains__)
    monkeypatch.setattr("landscaper_hpc.work.seeking._conduct", conduct)
    assert seek_together(["a", "b", "c"], 0, 8, Stop(), None)
    assert found == {"a": 3, "b": 4, "c": 8}


@pytest.mark.thorough
def test_a_worker_alone_conducts_and_evaluates(study: Path, whole: Path, tmp_path: Path) -> None:
    site = Site(executor="serial")
    campaign = Campaign.of(Study.load(study), site, tmp_path / "run")
    with Bars() as bars:
        prepare_all(campaign.landscapes, SerialMapper(), bars)
        assert seek_together(campaign.landscapes, 0, 1, Stop(), bars)
    (item,) = campaign.landscapes
    (expected,) = Campaign.of(Study.load(study), site, whole).landscapes
    for found, known in zip(item.open().lowest_points(), expected.open().lowest_points(), strict=True):
        assert found.tobytes() == known.tobytes()
