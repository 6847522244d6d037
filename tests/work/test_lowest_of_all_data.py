"""`data: {batches: 4, then: all}` with `scope`, by `run`: the lowest part of all data, stopped, raised, by whoever."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from landscaper_hpc.errors import Interrupted
from landscaper_hpc.progress import Progress
from landscaper_hpc.store.landscape import open_landscape
from landscaper_hpc.work.points import Points
from tests.studies import command, contents
from tests.work.test_few_batches import waves

MORE = "data: {batches: 4, then: all}\nscope: {share: 0.2, descents: 5}\n"


def run(study: Path, out: Path, *more: str) -> dict:
    done = command("run", study, "--out", out, "--executor", "serial", "--set", "grid.count=41", *more)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "results.json").read_text())["landscapes"][0]["scope"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return waves(tmp_path_factory.mktemp("study"), MORE, "{scale: 0.1}")


@pytest.fixture(scope="module")
def told(study: Path) -> dict:
    return run(study, study.parent / "run")


@pytest.mark.thorough
def test_its_minima_and_pairs_are_those_of_all_data(study: Path, told: dict, tmp_path: Path) -> None:
    whole = study.parent / "whole.yaml"
    whole.write_text(study.read_text().replace("data: {batches: 4, then: all}\n", ""))
    of_all = run(whole, tmp_path / "whole")
    for name in ("n_minima", "pairs", "components", "lowest", "largest_persistence"):
        assert told[name] == of_all[name], name
    assert of_all["pairs"] > 0
    assert told["all_data"]["points"] < told["evaluated"]
    assert of_all["all_data"]["points"] is None
    store = open_landscape(study.parent / "run")
    points, losses = open_landscape(tmp_path / "whole").lowest_points()
    ids, on_all = store.lowest_points(all_data=True)
    there = np.isin(ids, points)
    assert there.mean() > 0.8
    np.testing.assert_array_equal(on_all[there], losses[np.searchsorted(points, ids[there])])
    assert f"few batches at {len(store.lowest_points()[0]):,}, whose" in told["all_data"]["sentence"]
    page = (study.parent / "run/report.html").read_text()
    assert "origin is of all data: all data were evaluated at" in page


@pytest.mark.thorough
def test_a_larger_share_goes_on_and_leaves_the_bytes_of_one_go(study: Path, told: dict, tmp_path: Path) -> None:
    run(study, tmp_path / "run", "--set", "scope.share=0.1")
    run(study, tmp_path / "run", "--set-site", "shard_points=7")
    mine, whole = contents(tmp_path / "run"), contents(study.parent / "run")
    assert {k for k in whole if mine.get(k) != whole[k]} <= {
        k for k in whole if "zarr.json" in k or k.startswith("report")
    }
    assert not (tmp_path / "run/points").exists() or not list((tmp_path / "run/points").rglob("*.ids"))


@pytest.mark.thorough
def test_stopped_again_and_again_it_leaves_the_bytes_of_one_go(
    study: Path, told: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among the points of few batches and among those of all."""
    import landscaper_hpc.work.mapped as mapped

    evaluate = mapped.evaluate_points

    def stops(task: Points, progress: Progress) -> None:
        if task.all_data == moment["all_data"]:
            moment["left"] -= 1
            if moment["left"] < 0:
                raise Interrupted
        evaluate(task, progress)

    for all_data, left in ((False, 1), (True, 0), (False, 3), (True, 2)):
        moment = {"all_data": all_data, "left": left}
        with monkeypatch.context() as patch:
            patch.setattr(mapped, "evaluate_points", stops)
            where = ("--out", tmp_path / "run", "--executor", "serial", "--set", "grid.count=41")
            assert command("run", study, *where).returncode == 130
    run(study, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(study.parent / "run")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("data.then=null",), "data: with scope give {batches: …, then: all}"),
        (("scope=null",), "data.then goes with scope"),
        (("scope={points: 500}",), "scope: with data give share or below"),
        (("scope.climb=10",), "scope: with data give share or below, and leave points and climb out"),
    ],
)
def test_what_does_not_go_together_is_refused(study: Path, tmp_path: Path, more: tuple[str, ...], said: str) -> None:
    done = command("run", study, "--out", tmp_path / "run", *(word for one in more for word in ("--set", one)))
    assert done.returncode == 2
    assert said in done.stderr
