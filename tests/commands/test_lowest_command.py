"""`landscaper-hpc lowest` against the dense landscape of the same study; stopped, resumed, raised, damaged."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from studies import command, need_jobqueue, process, wells

from landscaper_hpc.errors import Interrupted
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.metrics import mean_climb
from landscaper_hpc.topology.scope import below
from landscaper_hpc.topology.tree import MergeTree

LOWEST = ("--share", "0.1", "--descents", "20", "--executor", "serial")


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
    return wells(tmp_path_factory.mktemp("study"), n=2, count=41)


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("lowest.origin.json", "lowest.origin.npz")}


def evaluated(file: Path) -> int:
    return int(sum(json.loads(file.read_text())["evaluated"].values()))


def test_it_says_what_the_dense_landscape_says(study: Path, tmp_path: Path) -> None:
    done = command("lowest", study, *LOWEST, "--climb", "200", "--out", tmp_path / "part")
    assert done.returncode == 0, done.stderr
    assert "of the grid's" in done.stdout
    assert "0 of 20 random descents" in done.stdout
    dense = command("run", study, "--executor", "serial", "--out", tmp_path / "dense")
    assert dense.returncode == 0, dense.stderr
    store = LandscapeStore(tmp_path / "dense/study.zarr", "origin")
    with np.load(tmp_path / "part/lowest.origin.npz") as found:
        tree = MergeTree.from_arrays(dict(found))
        np.testing.assert_array_equal(found["losses"], store.loss().reshape(-1)[found["ids"]])
    numbers = json.loads((tmp_path / "part/lowest.origin.json").read_text())
    assert (numbers["minima"], numbers["points_below"]) == (4, tree.n_vertices)
    assert numbers["share_evaluated"] < 0.5
    whole = merge_tree(store.loss(), labels=True)
    assert whole.labels is not None
    expected = below(whole, store.loss(), whole.labels, numbers["level"])
    assert "mean climb of the whole grid" in done.stdout
    low, high = numbers["whole_grid"]["interval"]
    assert low <= mean_climb(whole, normalize=False) <= high
    for name in ("minima", "values", "basin_size"):
        np.testing.assert_array_equal(getattr(tree, name), getattr(expected, name))


def test_every_executor_and_every_size_of_batches_gives_the_same_bytes(study: Path, tmp_path: Path) -> None:
    assert command("lowest", study, *LOWEST, "--out", tmp_path / "a").returncode == 0
    more = ("--set-site", "shard_points=7", "--out", tmp_path / "b")
    assert command("lowest", study, *LOWEST, *more).returncode == 0
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.processes
def test_a_pool_of_processes_gives_the_same_bytes(study: Path, tmp_path: Path) -> None:
    assert command("lowest", study, *LOWEST, "--out", tmp_path / "a").returncode == 0
    pool = ("--executor", "local", "--workers", "2", "--out", tmp_path / "b")
    assert command("lowest", study, *LOWEST[:4], *pool).returncode == 0
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.processes
def test_dask_gives_the_same_bytes(study: Path, tmp_path: Path) -> None:
    need_jobqueue()
    from tests.executors.test_dask import Dask

    assert command("lowest", study, *LOWEST, "--out", tmp_path / "a").returncode == 0
    with closing(Dask(tmp_path)) as dask:
        where = ("--executor", "dask", "--set-site", f"dask.scheduler={dask.file}", "--out", tmp_path / "b")
        done = process("lowest", study, *LOWEST[:4], *where, env={**os.environ, **dask.tls})
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_stopped_in_the_midst_it_goes_on_without_what_was_evaluated(
    study: Path, tmp_path: Path, asked: list[NDArray[np.float64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("lowest", study, *LOWEST, "--out", tmp_path / "whole").returncode == 0
    total, rounds = sum(map(len, asked)), len(asked)
    asked.clear()
    import landscaper_hpc.work.lowest as work

    publish, left = work.do_batch, [rounds // 2]

    def stops(*arguments: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Interrupted
        publish(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(work, "do_batch", stops)
        stopped = command("lowest", study, *LOWEST, "--out", tmp_path / "stopped")
    assert stopped.returncode == 130
    assert "everything finished so far is kept" in stopped.stderr
    before = sum(map(len, asked))
    assert 0 < before < total
    damaged = next(iter((tmp_path / "stopped/lowest/origin").glob("*/*.npz")))
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert command("lowest", study, *LOWEST, "--out", tmp_path / "stopped").returncode == 0
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")
    assert total < sum(map(len, asked)) < total + before


def test_a_higher_level_goes_on_from_a_lower_one(study: Path, tmp_path: Path, asked: list[NDArray[np.float64]]) -> None:
    def lowest(share: str, folder: str) -> int:
        asked.clear()
        options = ("--share", share, *LOWEST[2:], "--out", tmp_path / folder)
        assert command("lowest", study, *options).returncode == 0
        return sum(map(len, asked))

    low, high = lowest("0.02", "raised"), lowest("0.2", "raised")
    at_once = lowest("0.2", "at_once")
    assert high < at_once
    assert low + high <= 1.1 * at_once
    assert files(tmp_path / "raised") == files(tmp_path / "at_once")
    assert lowest("0.2", "raised") < 20  # what proves that the worker computes the recorded losses


def test_no_point_is_evaluated_twice(study: Path, tmp_path: Path, asked: list[NDArray[np.float64]]) -> None:
    assert command("lowest", study, *LOWEST, "--climb", "100", "--out", tmp_path / "run").returncode == 0
    points = np.concatenate(asked)
    assert len(points) - len(np.unique(points, axis=0)) < 40  # what proves that this process computes the losses


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--share", "0.1", "--climb", "1"), "from 1 random points; give at least 2"),
        ((), "no scope given; give one of share, below and points"),
        (("--share", "2"), "share is 2.0; give a share of the points between 0 and 1"),
        (("--share", "0.1", "--points", "900"), "share=0.1 and points=900 given"),
        (("--share", "0.1", "--executor", "slurm"), "site.executor: slurm does not deal out single points"),
    ],
)
def test_what_cannot_be_is_one_sentence(study: Path, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    done = command("lowest", study, *options, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not (tmp_path / "run").exists()
