"""The whole of it on one machine: closed forms, every sharding and executor the same bytes, kill -9 and resume."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Forked
from studies import Gate, contents, network, wells

from landscaper_hpc import InputError, Site, Study, open_landscape, run
from landscaper_hpc.errors import WorkerLost
from landscaper_hpc.executors import local
from tests.kinds import kinds, slow, thorough

SERIAL = Site(executor="serial", shard_points=5)


def go(file: Path, folder: Path, *overrides: str, site: Site = SERIAL) -> dict:
    return run(Study.load(file, overrides), site, folder)


@pytest.mark.parametrize("n", [thorough(1), 2, thorough(3)])
def test_double_wells_have_their_minima_saddles_and_smad(tmp_path: Path, n: int) -> None:
    """sum_i i (x_i² - 1)² without tilt: 2ⁿ minima of value 0 at (±1, …), lowest passes where one x_i crosses 0."""
    count = 13 if n < 3 else 7  # range 1.5: ±1 is on the grid
    results = go(wells(tmp_path, n, tilt=0.0, count=count), tmp_path / "run")
    store = open_landscape(tmp_path / "run")
    grids = np.meshgrid(*store.grid.coordinates(), indexing="ij")
    expected = sum((i + 1) * (x**2 - 1) ** 2 for i, x in enumerate(grids))
    np.testing.assert_allclose(store.loss(), expected, rtol=1e-13, atol=1e-13)
    tree = store.tree()
    places = {tuple(np.round(g.flat[v], 12) for g in grids) for v in tree.minima}
    assert places == set(product((-1.0, 1.0), repeat=n))
    # every minimum first meets its neighbour across x_1, the lowest barrier; barrier i has height i
    np.testing.assert_allclose(tree.first_saddle_value, 1.0, rtol=1e-12)
    deaths = np.sort(tree.persistence().deaths)
    np.testing.assert_allclose(deaths, np.repeat(np.arange(1.0, n + 1), 2 ** np.arange(n)[::-1]), rtol=1e-12)
    (landscape,) = results["landscapes"]
    assert landscape["topology"]["n_minima"] == 2**n
    span = expected.max() - expected.min()
    assert landscape["topology"]["smad_normalized"] == pytest.approx(1 / span, rel=1e-12)
    assert landscape["topology"]["smad"] == pytest.approx(1 / span / 2**n, rel=1e-12)
    assert landscape["loss"] == pytest.approx(n * (n + 1) / 2)


def test_a_single_well_has_one_minimum_and_smad_zero(tmp_path: Path) -> None:
    results = go(wells(tmp_path), tmp_path / "run", "grid.range=[0.5, 1.5]")
    (landscape,) = results["landscapes"]
    assert landscape["topology"]["n_minima"] == 1
    assert landscape["topology"]["smad"] == 0
    assert landscape["topology"]["persistence"]["pairs"] == 0


def test_more_of_the_hessian_on_demand(tmp_path: Path) -> None:
    """On the wells the Hessian at the origin is diag(-4 i) exactly."""
    study = wells(tmp_path, n=3, tilt=0.0, count=3)
    overrides = ["directions={kind: hessian, n: 2, which: negative, normalization: unit}", "hessian.trace_products=6"]
    results = go(study, tmp_path / "run", *overrides, "hessian.density_probes=2", "hessian.density_steps=3")
    (landscape,) = results["landscapes"]
    np.testing.assert_allclose(landscape["directions"]["eigenvalues"], [-12, -8], rtol=1e-9)
    value, error = landscape["hessian"]["trace"]
    assert value == pytest.approx(-24, rel=1e-9)
    assert error == pytest.approx(0, abs=1e-9)
    nodes = np.array(landscape["hessian"]["density_nodes"])
    np.testing.assert_allclose(np.sort(nodes, axis=1), [[-12, -8, -4]] * 2, rtol=1e-9)
    np.testing.assert_allclose(np.sum(landscape["hessian"]["density_weights"], axis=1), 1)
    assert not (tmp_path / "run/resume").exists()


@pytest.mark.thorough
def test_directions_of_a_training_run_and_of_the_gradient(tmp_path: Path) -> None:
    file = wells(tmp_path, n=2, tilt=0.5, count=5)
    torch.save({"x": torch.tensor([2.0, 0.0], dtype=torch.float64)}, tmp_path / "one.pt")
    torch.save({"x": torch.tensor([0.0, -1.0], dtype=torch.float64)}, tmp_path / "two.pt")
    trajectory = "directions={kind: trajectory, n: 2, normalization: unit, trajectory: [one.pt, two.pt]}"
    results = go(file, tmp_path / "run", trajectory)
    found = open_landscape(tmp_path / "run").directions().vectors["x"]
    np.testing.assert_allclose(found, np.eye(2), atol=1e-12)
    (entry,) = results["landscapes"]
    np.testing.assert_allclose(entry["directions"]["explained"], [0.8, 0.2], rtol=1e-12)
    places = {place["file"]: (place["point"], place["on_grid"]) for place in entry["trajectory"]["checkpoints"]}
    assert places["two.pt"] == (pytest.approx([0, -1], abs=1e-12), True)
    assert places["one.pt"] == (pytest.approx([2, 0], abs=1e-12), False)  # the range is 1.5
    assert "hold 80 % and 20 % of the run's squared distances" in (tmp_path / "run/report.html").read_text()
    go(file, tmp_path / "gradient", "directions={kind: gradient, n: 1, normalization: unit}")
    found = open_landscape(tmp_path / "gradient").directions().vectors["x"]
    np.testing.assert_allclose(found, [[0.5**0.5] * 2], rtol=1e-12)  # at the origin only the tilt acts


@pytest.mark.thorough
def test_a_plane_through_three_checkpoints_and_a_run_shown_later(tmp_path: Path) -> None:
    file = wells(tmp_path, n=2, count=5)
    torch.save({"x": torch.tensor([1.0, 1.0], dtype=torch.float64)}, tmp_path / "one.pt")
    torch.save({"x": torch.tensor([-1.0, 1.0], dtype=torch.float64)}, tmp_path / "two.pt")
    plane = "directions={kind: plane, n: 2, normalization: unit, through: [one.pt, two.pt]}"
    with pytest.raises(InputError, match=r"grid.range: one.pt lies at α = .* give a range of 1.768 or more"):
        go(file, tmp_path / "plane", plane, "grid.range=1.4")
    (entry,) = go(file, tmp_path / "plane", plane, "grid.range=1.5")["landscapes"]
    assert [place["share"] for place in entry["trajectory"]["checkpoints"]] == pytest.approx([1, 1])
    assert "the checkpoints that the directions lead through" in (tmp_path / "plane/report.html").read_text()
    go(file, tmp_path / "run")  # a finished study, in other directions, to which a run is added
    before = contents(tmp_path / "run/study.zarr/origin/loss")
    (entry,) = go(file, tmp_path / "run", "trajectory=[two.pt, one.pt]")["landscapes"]
    assert [place["point"] for place in entry["trajectory"]["checkpoints"]] == [[-1, 1], [1, 1]]
    assert contents(tmp_path / "run/study.zarr/origin/loss") == before
    assert "joined in their order" in (tmp_path / "run/report.html").read_text()


@pytest.mark.thorough
def test_only_named_parameters_move(tmp_path: Path) -> None:
    results = go(network(tmp_path / "study"), tmp_path / "run", "only=['2.*']", "grid.count=3")
    store = open_landscape(tmp_path / "run", "trained")
    assert sorted(store.directions().vectors) == ["2.bias", "2.weight"]
    assert results["landscapes"][0]["loss"] > 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A small study and what an undisturbed serial run leaves of it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    file = network(folder / "study")
    go(file, folder / "run")
    return file, contents(folder / "run")


def test_what_a_run_leaves(undisturbed: tuple[Path, dict[str, str]]) -> None:
    file, _ = undisturbed
    folder = file.parent.parent / "run"
    assert (folder / "report.html").stat().st_size > 10_000
    results = json.loads((folder / "results.json").read_text())
    assert [item["name"] for item in results["landscapes"]] == ["untrained", "trained"]
    for item in results["landscapes"]:
        assert max(item["directions"]["residuals"]) <= 1e-4
        mode = "vmap; bias in the product; tanh by sigmoid"
        assert item["evaluation"] == {"precision": "float64", "batch": 4, "mode": mode}
        store = open_landscape(folder, item["name"])
        assert store.loss_at_checkpoint() == item["loss"]
    assert results["landscapes"][1]["loss"] < results["landscapes"][0]["loss"]


def test_again_changes_nothing(undisturbed: tuple[Path, dict[str, str]]) -> None:
    file, expected = undisturbed
    folder = file.parent.parent / "run"
    stamp = (folder / "study.zarr/trained/loss").stat().st_mtime_ns
    go(file, folder)
    assert contents(folder) == expected
    assert (folder / "study.zarr/trained/loss").stat().st_mtime_ns == stamp


@pytest.mark.processes
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_processes_give_the_same_bytes(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path, workers: int) -> None:
    file, expected = undisturbed
    go(file, tmp_path / "run", site=Site(executor="local", workers=workers, shard_points=5))
    assert contents(tmp_path / "run") == expected


@pytest.mark.thorough
@pytest.mark.parametrize("points", kinds([3, 1, 5, 14, 1000], 14))
def test_shardings_give_the_same_values(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path, points: int) -> None:
    file, expected = undisturbed
    go(file, tmp_path / "run", site=Site(executor="serial", shard_points=points))
    found = contents(tmp_path / "run")
    assert found["results.json"] == expected["results.json"]
    for name in ("untrained", "trained"):
        values = open_landscape(tmp_path / "run", name).loss()
        assert values.tobytes() == open_landscape(file.parent.parent / "run", name).loss().tobytes()


@pytest.mark.processes
def test_kill_9_at_any_moment_and_resume(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """The orchestrator and all its workers are killed again and again, later each time, until a run gets through."""
    file, expected = undisturbed
    copy = tmp_path / "study"
    shutil.copytree(file.parent, copy)
    shutil.rmtree(copy / "made")
    words = ["run", copy / "study.yaml", "--out", tmp_path / "r", "--site", copy / "site.yaml"]
    generator = random.Random(5)
    killed = 0
    for patience in range(100):
        process = Forked(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        try:
            _, errors = process.communicate(timeout=generator.uniform(0.3, 1) * 2.0**patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
            continue
        assert process.returncode == 0, errors.decode()
        break
    assert killed >= 2
    assert contents(tmp_path / "r") == expected


@pytest.mark.thorough
def test_damage_is_evaluated_again(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    file, expected = undisturbed
    shutil.copytree(file.parent.parent / "run", tmp_path / "run")
    chunks = sorted((tmp_path / "run/study.zarr/trained/loss").glob("c.*"))
    content = bytearray(chunks[3].read_bytes())
    content[11] ^= 64
    chunks[3].write_bytes(content)
    chunks[5].unlink()
    (tmp_path / "run/results.json").unlink()
    go(file, tmp_path / "run")
    assert contents(tmp_path / "run") == expected
    assert "2 shards were torn or altered" in (tmp_path / "run/logs/run.log").read_text()


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The same for a study that a `Gate` can stop."""
    folder = tmp_path_factory.mktemp("gated")
    file = network(folder / "study", slow=0.001)
    go(file, folder / "run")
    return file, contents(folder / "run")


@pytest.mark.parametrize(
    "moment",
    [
        "made",
        slow("study.zarr"),
        slow("study.zarr/trained/done/sha256"),  # as the executors' contract does
    ],
)
@pytest.mark.processes
def test_a_killed_worker_costs_only_its_tasks(gated: tuple[Path, dict[str, str]], tmp_path: Path, moment: str) -> None:
    """All workers are killed as soon as something appears: while training, while finding directions, between shards."""
    file, expected = gated
    slow = tmp_path / "study"
    shutil.copytree(file.parent, slow)
    shutil.rmtree(slow / "made")
    gate = Gate(slow / "study.yaml")
    words = ["run", slow / "study.yaml", "--out", tmp_path / "run", "--site", slow / "site.yaml"]
    process = Forked(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    sign = (slow if moment == "made" else tmp_path / "run") / moment
    gate.until(moment, lambda: sign.is_dir() and _workers(process.pid))
    for worker in _workers(process.pid):
        os.kill(worker, signal.SIGKILL)
    gate.close()
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert contents(tmp_path / "run") == expected


@pytest.mark.processes
def test_workers_that_always_die_end_the_run_with_advice(
    undisturbed: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = undisturbed
    go(file, tmp_path / "run")
    (tmp_path / "run/study.zarr/trained/done/sha256/c.1.0.0").unlink()

    def dies(*_: object) -> object:
        raise WorkerLost("a worker process died")
        yield

    monkeypatch.setattr(local.SerialMapper, "map_unordered", dies)
    with pytest.raises(InputError, match=r"3 times in a row.*--workers"):
        go(file, tmp_path / "run")


def test_another_study_in_the_same_folder_is_refused_before_anything_is_spent(
    undisturbed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, expected = undisturbed
    shutil.copytree(file.parent.parent / "run", tmp_path / "run")
    with pytest.raises(InputError, match=r"another study \(grid differ\)"):
        go(file, tmp_path / "run", "grid.count=9")
    assert contents(tmp_path / "run") == expected


def test_two_runs_in_one_folder_are_refused(undisturbed: tuple[Path, dict[str, str]]) -> None:
    import fcntl

    file, _ = undisturbed
    with (file.parent.parent / "run/.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another run is at work there"):
            go(file, file.parent.parent / "run")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("task.py", "def task(slow=0.0): return 1", "task"),
        ("task.py", "def tusk(): pass", "task"),
        ("task.py", "import nothing_of_this_name", "nothing_of_this_name"),
        ("task.py", "def task(:", "task"),
        ("untrained.pt", "not a checkpoint", "untrained.pt"),
        ("train.py", "def trane(): pass", "no function train"),
        ("train.py", "def train(path, progress, **options): pass", "did not write"),
    ],
)
def test_bad_files_end_in_one_sentence(
    undisturbed: tuple[Path, dict[str, str]], tmp_path: Path, name: str, text: str, words: str
) -> None:
    file, _ = undisturbed
    shutil.copytree(file.parent, tmp_path / "study")
    if name == "train.py":
        shutil.rmtree(tmp_path / "study/made")
    (tmp_path / "study" / name).write_text(text)
    with pytest.raises(InputError) as raised:
        go(tmp_path / "study/study.yaml", tmp_path / "run")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "run").glob("study.zarr/*/loss"))


def test_a_failing_trainer_shows_its_own_traceback(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    file, _ = undisturbed
    shutil.copytree(file.parent, tmp_path / "study")
    shutil.rmtree(tmp_path / "study/made")
    (tmp_path / "study/train.py").write_text("def train(path, progress, **options):\n    1 / 0\n")
    with pytest.raises(InputError, match=r"train\.py, line \d+: ZeroDivisionError"):
        go(tmp_path / "study/study.yaml", tmp_path / "run")


def _workers(pid: int) -> list[int]:
    """Those that were forked, and the process that forks them is none."""
    import psutil

    server = [
        child for child in psutil.Process(pid).children() if "forkserver" in " ".join((child.name(), *child.cmdline()))
    ]
    return [worker.pid for each in server for worker in each.children()]
