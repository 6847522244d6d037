"""`data: {batches: …}`: points see a few batches, minima and saddles all of them, and what that changes is told."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
import pytest
import scipy
import torch

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.loading import load_objective, load_task
from landscaper_hpc.store.landscape import open_landscape
from landscaper_hpc.study.study import Study
from tests.studies import command, contents, wells_with

TASK = """
import torch
from torch import nn
from landscaper_hpc import Task

class Waves(nn.Module):
    def __init__(self):
        super().__init__()
        self.x = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self):
        return self.x

def task(mean=False, scale=0.3):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(117, 2, dtype=torch.float64, generator=generator)
    def loss(model, noise):
        waves = torch.cos(6 * model() + 0.5 * noise.flip(1)) * (torch.tensor([0.3, 0.05]) + scale * noise)
        losses = (0.1 * model().square() + waves).sum(dim=1)
        return losses.mean() if mean else losses
    return Task(model=Waves(), loss=loss, data=list(noise.split(5)))  # 24 batches, the last one smaller
"""


def waves(folder: Path, more: str = "data: {batches: 4}\n", options: str = "{}", precision: str = "float64") -> Path:
    return wells_with(folder, TASK, more, options, precision)


def run(study: Path, out: Path, *more: str) -> dict:
    done = command("run", study, "--out", out, "--executor", "serial", *more)
    assert done.returncode == 0, done.stderr
    told = json.loads((out / "results.json").read_text())["landscapes"][0]
    assert f"origin: {told['error_bars']['all_data']['sentence']}\n" in done.stdout
    return told


def losses_of_batches(folder: Path, alphas: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Of each batch the losses of its examples, (p, e), by a loop; which batches are the few."""
    task = load_task(folder / "task.py", {})
    found = []
    for batch in task.data:
        rows = []
        for alpha in alphas:
            with torch.no_grad():
                task.model.x.copy_(torch.from_numpy(alpha))
            rows.append(task.loss(task.model, batch).detach().numpy())
        found.append(np.array(rows))
    return found, np.sort(np.random.default_rng(0).choice(len(task.data), 4, replace=False))


def standing(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which pairs stand, by a paired test of examples with Holm's correction."""
    p = scipy.stats.ttest_rel(high, low, axis=1, alternative="greater").pvalue
    order = np.argsort(p)
    found = np.zeros(len(p), bool)
    found[order] = np.logical_and.accumulate(p[order] * np.arange(len(p), 0, -1) < 0.05)
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The folder of a study and of its run, and what that tells."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, run(waves(folder), folder / "run")


@pytest.mark.thorough
def test_points_see_the_few_and_what_all_data_change_is_what_a_loop_over_them_finds(
    finished: tuple[Path, dict],
) -> None:
    folder, told = finished
    store = open_landscape(folder / "run")
    tree, coordinates = store.tree(), store.grid.coordinates()[0]
    grid = np.stack(np.meshgrid(coordinates, coordinates, indexing="ij"), axis=-1).reshape(-1, 2)
    batches, few = losses_of_batches(folder, grid)
    assert few[0] > 0 or few[-1] < 23
    on_few = np.concatenate([batches[i] for i in few], axis=1)
    on_all = np.concatenate(batches, axis=1)
    np.testing.assert_allclose(store.loss().reshape(-1), on_few.mean(axis=1), rtol=1e-12)

    dies = np.flatnonzero(tree.death >= 0)
    low, high, older = tree.minima[dies], tree.death[dies], tree.minima[tree.parent[dies]]
    bars, change = told["error_bars"], told["error_bars"]["all_data"]
    assert change["batches"] == [4, 24]
    assert bars["units"] == 117
    assert bars["pairs"] == tree.n_minima > 4
    whole, part = on_all.mean(axis=1), on_few.mean(axis=1)
    other = ~((whole[low] < whole[high]) & (whole[older] <= whole[low]))
    assert 0 < change["other_pairs"] == other.sum() < len(dies)
    moved = np.abs((whole[high] - whole[low]) - (part[high] - part[low])).max()
    assert change["height"] == pytest.approx(moved, rel=1e-9)
    first = tree.first_saddle
    climbs = np.clip(whole[first] - whole[tree.minima], 0, None)[first >= 0] * tree.basin_size[first >= 0]
    climb = climbs.sum() / tree.n_vertices / (part.max() - part.min())
    assert change["mean_climb"] == pytest.approx(climb, rel=1e-9)
    assert change["smad"] == pytest.approx(climb / tree.n_minima, rel=1e-9)
    assert change["mean_climb"] != pytest.approx(told["topology"]["mean_climb"], rel=1e-2)
    assert html.escape(change["sentence"]) in (folder / "run" / "report.html").read_text()


@pytest.mark.thorough
def test_minima_that_stand_are_those_of_a_paired_test_on_the_few_and_on_all(tmp_path: Path) -> None:
    told = run(waves(tmp_path, "data: {batches: 6}\nerror_bars: {pairs: 1000}\n", "{scale: 0.15}"), tmp_path / "run")
    tree, grid = open_landscape(tmp_path / "run").tree(), open_landscape(tmp_path / "run").grid.coordinates()[0]
    dies = np.flatnonzero(tree.death >= 0)
    at = [np.stack(np.unravel_index(ids, tree.shape), axis=1) for ids in (tree.minima[dies], tree.death[dies])]
    task = (tmp_path / "task.py").read_text().replace("scale=0.3", "scale=0.15")
    (tmp_path / "task.py").write_text(task)
    low, high = (losses_of_batches(tmp_path, grid[index])[0] for index in at)
    few = np.sort(np.random.default_rng(0).choice(24, 6, replace=False))
    by_few = standing(*(np.concatenate([one[i] for i in few], axis=1) for one in (low, high)))
    by_all = standing(*(np.concatenate(one, axis=1) for one in (low, high)))
    change = told["error_bars"]["all_data"]
    assert change["stood"] == 1 + by_few.sum()
    assert told["error_bars"]["stand"] == 1 + by_all.sum()
    assert change["other_verdicts"] == (by_few != by_all).sum() > 0


@pytest.mark.processes
def test_float32_batches_of_means_give_the_same_bytes_on_two_executors(tmp_path: Path) -> None:
    study = waves(tmp_path, options="{mean: true}", precision="float32")
    told = run(study, tmp_path / "run")["error_bars"]
    assert told["units"] == 24
    assert 1e-9 < told["rounding"] < 1e-6
    assert command("run", study, "--out", tmp_path / "two", "--executor", "local", "--workers", "2").returncode == 0
    assert contents(tmp_path / "run") == contents(tmp_path / "two")


@pytest.mark.thorough
def test_how_many_batches_is_part_of_the_science_and_of_the_identity_all_data_are(
    finished: tuple[Path, dict], tmp_path: Path
) -> None:
    folder, _ = finished
    study = folder / "study.yaml"
    ids = {Study.load(study, [f"data.batches={count}"]).study_id() for count in (4, 5)}
    plain = Study.load(study, ["data=null"])
    assert "data" not in plain.science(plain.checkpoints[0])
    assert len(ids | {plain.study_id()}) == 3
    other = command("run", study, "--set", "data.batches=5", "--out", folder / "run", "--executor", "serial")
    assert other.returncode == 2
    assert "data differ" in str(other.stderr)
    found = open_landscape(folder / "run").attributes["identity"]["data_sha256"]
    run(waves(tmp_path / "five", "data: {batches: 5}\n"), tmp_path / "five" / "run", "--set", "grid.count=7")
    assert found == open_landscape(tmp_path / "five" / "run").attributes["identity"]["data_sha256"]


def test_the_loss_on_all_data_shares_the_model_and_is_the_loss_without_few(tmp_path: Path) -> None:
    study = waves(tmp_path)
    checkpoint = study.parent / "origin.pt"
    task = tmp_path / "task.py"
    few, plain = (load_objective(task, checkpoint, few=n) for n in (4, None))
    assert plain.on_all_data is plain
    assert few.on_all_data.model is few.model
    assert (len(few.batches), sum(few.examples)) in {(4, 20), (4, 17)}
    assert float(few.on_all_data.loss(few.parameters)) == float(plain.loss(plain.parameters))
    assert float(few.loss(few.parameters)) != float(plain.loss(plain.parameters))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("data={batches: 1}", "data.batches"),
        ("data={batches: x}", "data.batches"),
        ("data=8", "data"),
        ("data={batches: 8, batch: 8}", "unknown key data.batch"),
        ("error_bars=false", "leave error_bars: false out"),
    ],
)
def test_bad_values_are_refused_in_one_sentence(tmp_path: Path, key: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        Study.load(waves(tmp_path), [key])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("batches", [24, 1000])
def test_more_batches_than_there_are_few_of_are_refused_before_anything_is_spent(tmp_path: Path, batches: int) -> None:
    study = waves(tmp_path, f"data: {{batches: {batches}}}\n")
    done = command("run", study, "--out", tmp_path / "run", "--executor", "serial")
    assert done.returncode == 2
    assert f"data.batches: {batches} are no few of the batches" in done.stderr
    assert "has 24" in done.stderr
    assert not (tmp_path / "run" / "study.zarr" / "origin").exists()
