"""Ranges that are found by how far the loss rises, on functions whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from problems import function
from studies import command, wells

from landscaper_hpc import InputError, Study, open_landscape
from landscaper_hpc.directions.directions import Directions
from landscaper_hpc.losses.bracket import POINTS, reaches, rises
from landscaper_hpc.study.study import Quantile, Rise


def axes(n: int) -> Directions:
    eye = torch.eye(n, dtype=torch.float64)
    return Directions({"x": eye}, kind="file", normalization="unit", gram=np.eye(n))


def test_a_quadratic() -> None:
    """A rise of R lies at the square root of R over the curvature, whatever the scale."""
    d = torch.tensor([1e-4, 1.0, 1e6], dtype=torch.float64)
    bowl = function(lambda x: (d * x.square()).sum() + 7, torch.zeros(3, dtype=torch.float64))
    found = reaches(bowl, axes(3), [10.0, None, 0.5])
    assert found[1] is None
    assert found[0] == pytest.approx((10.0 / 1e-4) ** 0.5, rel=0.01)
    assert found[2] == pytest.approx((0.5 / 1e6) ** 0.5, rel=0.01)
    assert reaches(bowl, axes(3), [10.0, None, 0.5]) == found


def test_the_flatter_side_decides_and_what_is_not_finite_has_risen() -> None:
    lopsided = function(lambda x: torch.where(x > 0, 100 * x, -x).sum(), torch.zeros(1, dtype=torch.float64))
    assert reaches(lopsided, axes(1), [2.0]) == [pytest.approx(2.0, rel=0.01)]
    wall = function(lambda x: (1 / (1 - x.square()).clamp(min=0)).sum(), torch.zeros(1, dtype=torch.float64))
    assert reaches(wall, axes(1), [1e9]) == [pytest.approx(1.0, rel=0.01)]


def test_a_loss_that_does_not_rise_is_told_in_one_sentence() -> None:
    slope = function(lambda x: x.sum(), torch.zeros(2, dtype=torch.float64))
    with pytest.raises(InputError, match=r"grid\.range: along direction 2 the loss does not rise by 10 above 0"):
        reaches(slope, axes(2), [None, 10.0])


@pytest.mark.parametrize("beside", [100.0, torch.nan, torch.inf])
def test_a_loss_that_jumps_at_the_checkpoint_is_told_in_one_sentence(beside: float) -> None:
    jump = function(lambda x: torch.where(x != 0, beside, x).sum(), torch.zeros(2, dtype=torch.float64))
    with pytest.raises(InputError, match=r"along direction 2 the loss lies 10 or more above 0, .* at ±1e-10 already"):
        reaches(jump, axes(2), [None, 10.0])
    steep = function(lambda x: 1e18 * x.square().sum(), torch.zeros(1, dtype=torch.float64))
    assert reaches(steep, axes(1), [10.0]) == [pytest.approx(10**0.5 * 1e-9, rel=0.01)]


@pytest.mark.thorough
def test_a_study_finds_its_range_and_records_it(tmp_path: Path) -> None:
    file = wells(tmp_path, count=5)
    override = "grid.axes=[{range: {rise: 3}, count: 5}, {range: 1.5, count: 5}]"
    done = command("run", file, "--set", override, "--executor", "serial", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    store = open_landscape(tmp_path / "run")
    found = store.grid.axes[0]
    assert found.lower == -found.upper
    at_the_ends = store.loss()[[0, -1], 2] - store.loss()[2, 2]
    assert at_the_ends.min() == pytest.approx(3.0, rel=0.03)
    assert (store.grid.axes[1].lower, store.grid.axes[1].upper) == (-1.5, 1.5)
    assert store.attributes["science"]["grid"] == [["rise", 3.0, 5], [-1.5, 1.5, 5]]
    again = command("run", file, "--set", override, "--executor", "serial", "--out", tmp_path / "run")
    assert again.returncode == 0, again.stderr
    other = command(
        "run", file, "--set", override.replace("3}", "4}"), "--executor", "serial", "--out", tmp_path / "run"
    )
    assert other.returncode != 0
    assert "grid differ" in str(other.stderr)


@pytest.mark.thorough
def test_a_quantile_is_that_of_the_same_random_points_and_is_reached_at_both_ends(tmp_path: Path) -> None:
    """Of a bowl over a disk: where the loss is q of the way up the sorted losses of the points."""
    d = torch.tensor([1.0, 4.0], dtype=torch.float64)
    bowl = function(lambda x: (d * x.square()).sum() + 7, torch.zeros(2, dtype=torch.float64))
    points = 0.5 * np.random.default_rng(0).uniform(-1, 1, (POINTS, 2))
    values = np.sort((d.numpy() * points**2).sum(axis=1))
    for q, place in ((0.5, 128), (0.9, 231), (0.999, 256)):  # ⌈256 q⌉
        by = Quantile(quantile=q, within=0.5)
        heights = rises(bowl, axes(2), [by, Rise(rise=3.0)])
        assert heights == [pytest.approx(values[place - 1], rel=1e-12), 3.0]
        assert reaches(bowl, axes(2), heights)[0] == pytest.approx(values[place - 1] ** 0.5, rel=0.01)

    file = wells(tmp_path, count=5)
    override = "grid.range={quantile: 0.9, within: 2.0}"
    done = command("run", file, "--set", override, "--executor", "serial", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    store = open_landscape(tmp_path / "run")
    assert store.attributes["science"]["grid"] == [["quantile", 0.9, 2.0, 5]] * 2
    points = 2.0 * np.random.default_rng(0).uniform(-1, 1, (POINTS, 2))
    losses = (np.array([1, 2]) * (points**2 - 1) ** 2 + 0.1 * points).sum(axis=1)
    height = np.sort(losses)[230]
    ends = store.loss()[[0, -1], 2], store.loss()[2, [0, -1]]
    for end in ends:  # along each axis the lower one has just reached it, the ranges themselves differ
        assert height <= end.min() == pytest.approx(height, rel=0.03)
    assert store.grid.axes[0].upper > store.grid.axes[1].upper


def test_a_quantile_that_gives_no_range_is_told_in_one_sentence() -> None:
    peak = function(lambda x: -x.square().sum(), torch.zeros(2, dtype=torch.float64))
    wall = function(lambda x: (1 / (0.1 - x.square()).clamp(min=0)).sum(), torch.zeros(2, dtype=torch.float64))
    for loss in (peak, wall):
        with pytest.raises(InputError, match=r"grid\.range: the 0\.9-quantile of the losses within 2 is"):
            rises(loss, axes(2), [None, Quantile(quantile=0.9, within=2.0)])
    nan = function(lambda x: torch.where(x[0] < 0, torch.nan, x.square().sum()), torch.zeros(2, dtype=torch.float64))
    assert rises(nan, axes(2), [Quantile(quantile=0.3, within=1.0)])[0] < 2
    with pytest.raises(InputError, match="is inf"):  # half of the points are NaN
        rises(nan, axes(2), [Quantile(quantile=0.7, within=1.0)])


def test_bad_rises_are_named(tmp_path: Path) -> None:
    file = wells(tmp_path)
    for override, words in [
        ("grid.range={rise: 0}", "rise: height of the loss"),
        ("grid.range={rize: 1}", "rise: height of the loss"),
        ("grid.range={rise: x}", "rise: height of the loss"),
        ("grid.range={quantile: 0.5}", "quantile: between 0 and 1"),
        ("grid.range={quantile: 1, within: 1}", "quantile: between 0 and 1"),
        ("grid.range={quantile: 0.5, within: 0}", "quantile: between 0 and 1"),
        ("grid={range: {quantile: 0.5, within: 1}, scale: curvature}", "grid.scale"),
        ("grid={range: {rise: 1}, scale: curvature}", "grid.scale"),
    ]:
        with pytest.raises(InputError, match=words):
            Study.load(file, [override])
    assert Study.load(file, ["grid.range={rise: 1}"]).found() == [Rise(rise=1.0)] * 2
