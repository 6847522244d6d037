"""Error bars in a study: what is told is what the losses of its examples say, on every way to carry it, for ever."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
import pytest
import scipy
import torch

from landscaper_hpc.objective.loading import load_task
from landscaper_hpc.store.landscape import open_landscape
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

def task(batches=False, mean=False):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(160, 2, dtype=torch.float64, generator=generator)
    def loss(model, noise):
        # the noise of 160 examples hides the wells along the second axis, but not those along the first
        waves = torch.cos(6 * model()) * (torch.tensor([0.3, 0.05]) + 0.3 * noise)
        losses = (0.1 * model().square() + waves).sum(dim=1)
        return losses.mean() if mean else losses
    return Task(model=Waves(), loss=loss, data=list(noise.split(32)) if batches else noise)
"""


def waves(folder: Path, more: str = "error_bars: true\n", options: str = "{}", precision: str = "float64") -> Path:
    return wells_with(folder, TASK, more, options, precision)


def run(study: Path, out: Path, *more: str) -> dict:
    done = command("run", study, "--out", out, "--executor", "serial", *more)
    assert done.returncode == 0, done.stderr
    told = json.loads((out / "results.json").read_text())["landscapes"][0]
    assert f"origin: {told['error_bars']['sentence']}\n" in done.stdout
    return told


def losses_of_examples(task_file: Path, alphas: np.ndarray) -> np.ndarray:
    """(p, 160), by a loop."""
    task = load_task(task_file, {})
    rows = []
    for alpha in alphas:
        with torch.no_grad():
            task.model.x.copy_(torch.from_numpy(alpha))
        rows.append(task.loss(task.model, task.data).detach().numpy())
    return np.array(rows)


@pytest.mark.thorough
def test_minima_that_stand_are_those_of_a_paired_test(tmp_path: Path) -> None:
    told = run(waves(tmp_path), tmp_path / "run")["error_bars"]
    store = open_landscape(tmp_path / "run")
    tree, coordinates = store.tree(), store.grid.coordinates()[0]
    assert tree.n_minima > 3
    dies = tree.death >= 0
    at = [np.stack(np.unravel_index(ids, tree.shape), axis=1) for ids in (tree.minima[dies], tree.death[dies])]
    low, high = (losses_of_examples(tmp_path / "task.py", coordinates[index]) for index in at)
    p = scipy.stats.ttest_rel(high, low, axis=1, alternative="greater").pvalue
    order = np.argsort(p)
    rejected = np.cumprod(p[order] * np.arange(len(p), 0, -1) < 0.05).sum()
    assert 1 < told["stand"] == 1 + rejected < told["pairs"] == tree.n_minima
    error = ((high - low).std(axis=1, ddof=1) / 160**0.5).max()
    assert told["standard_error"] == pytest.approx(error, rel=0.3)  # of 64 groups
    assert told["units"] == 160
    heights = {tuple(one["minimum"]): one for one in told["heights"]}
    assert len(heights) == tree.n_minima
    assert sum(one["stands"] for one in heights.values()) == told["stand"]
    for i, minimum in enumerate(np.stack(np.unravel_index(tree.minima, tree.shape), axis=1).tolist()):
        one = heights[tuple(minimum)]
        assert one["loss"] == tree.values[i]
        assert (one["height"] is None) == (one["p_value"] is None) == (not dies[i])
        if dies[i]:
            j = int(dies[:i].sum())
            assert one["height"] == pytest.approx((high - low)[j].mean())
            assert one["standard_error"] == pytest.approx((high - low)[j].std(ddof=1) / 160**0.5, rel=0.3)
    assert max(one["standard_error"] or 0 for one in heights.values()) == told["standard_error"]
    assert "heights of minima, one by one" in (tmp_path / "run" / "report.html").read_text()
    assert told["rounding"] < 1e-14
    page = (tmp_path / "run" / "report.html").read_text()
    assert html.escape(told["sentence"]) in page
    assert f"{told['stand']} of all {tree.n_minima} minima" in told["sentence"]


@pytest.mark.parametrize("options", ["{batches: true}", "{batches: true, mean: true}"])
@pytest.mark.thorough
def test_batches_are_told_apart_where_examples_are_not(tmp_path: Path, options: str) -> None:
    told = run(waves(tmp_path, options=options), tmp_path / "run")["error_bars"]
    assert told["units"] == (5 if "mean" in options else 160)
    assert told["mean_climb"][0] < told["mean_climb"][1]


@pytest.mark.thorough
def test_rounding_is_that_of_the_precision(tmp_path: Path) -> None:
    told = run(waves(tmp_path, precision="float32"), tmp_path / "run")["error_bars"]
    assert 1e-9 < told["rounding"] < 1e-6


@pytest.mark.processes
def test_two_executors_and_a_later_question_give_the_same_bytes(tmp_path: Path) -> None:
    study = waves(tmp_path)
    run(study, tmp_path / "one")
    assert command("run", study, "--out", tmp_path / "two", "--executor", "local", "--workers", "2").returncode == 0
    plain = waves(tmp_path / "plain", more="")
    assert command("run", plain, "--out", tmp_path / "three", "--executor", "serial").returncode == 0
    assert json.loads((tmp_path / "three" / "results.json").read_text())["landscapes"][0]["error_bars"]["stand"] is None
    plain.write_text(study.read_text())
    run(plain, tmp_path / "three")
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "three")


def test_one_batch_and_its_mean_are_refused_before_anything_is_spent(tmp_path: Path) -> None:
    done = command("run", waves(tmp_path, options="{mean: true}"), "--out", tmp_path / "run", "--executor", "serial")
    assert done.returncode == 2
    assert "error_bars" in done.stderr
    assert "return per-example losses, or give the data as several batches" in done.stderr
    assert not (tmp_path / "run" / "study.zarr" / "origin").exists()
