"""Parts of a grid: which there are, that each is what evaluating it alone would give, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studies import command, wells

from landscaper_hpc.grid import Axis
from landscaper_hpc.store.landscape import open_landscape
from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.decided import decided_by
from landscaper_hpc.topology.metrics import mean_climb, smad
from landscaper_hpc.topology.sensitivity import parts, sensitivity, shared, widened
from landscaper_hpc.work.confirmed_parts import Slice


def test_parts_are_grids_of_their_own() -> None:
    """A part's points are those of a grid with that share of the range and that count, along its directions."""
    shape, at = (17, 33, 9), (8, 16, 4)
    whole = [Axis(-0.5, 0.5, k).coordinates() for k in shape]
    found = list(parts(shape, at))
    assert {part.directions for part in found} == {1, 2, 3}
    assert len({(p.directions, p.share, p.shape) for p in found}) == len(found)
    for part in found:
        for d, where in enumerate(part.region):
            if d < part.directions:
                mine = Axis(-0.5 * part.share, 0.5 * part.share, part.shape[d]).coordinates()
                np.testing.assert_allclose(whole[d][where], mine, atol=1e-15)
            else:
                assert where == at[d]
    assert [(p.share, p.shape) for p in found if p.directions == 3] == [
        (1.0, (17, 33, 9)),
        (1.0, (9, 17, 5)),
        (0.5, (9, 17, 5)),
    ]
    assert list(parts((4, 7), (0, 0))) == []


def test_numbers_are_those_of_the_slices() -> None:
    values = np.random.default_rng(0).random((17, 9))
    values[3, 3], values[5, 5] = np.nan, np.inf
    rows = {(r.directions, r.share, r.shape, r.connectivity): r for r in sensitivity(values, (8, 4))}
    for key, field in [
        ((2, 1.0, (17, 9), "full"), values),
        ((2, 1.0, (9, 5), "axis"), values[::2, ::2]),
        ((2, 0.5, (9, 5), "axis"), values[4:13, 2:7]),
        ((1, 1.0, (5,), "axis"), values[::4, 4]),
        ((1, 0.25, (5,), "freudenthal"), values[6:11, 4]),
    ]:
        tree = merge_tree(field, key[3])
        found = rows[key]
        assert (found.n_minima, found.mean_climb, found.smad) == (tree.n_minima, mean_climb(tree), smad(tree))
        assert found.smad_decided_by == decided_by(tree)
    assert {row.smad_decided_by for row in rows.values()} > {None, "one pair"}


@pytest.mark.thorough
def test_the_command_gives_a_table_and_a_figure_and_evaluates_nothing(tmp_path: Path) -> None:
    file, out = wells(tmp_path, count=9), tmp_path / "run"
    early = command("sensitivity", file, "--out", out)
    assert early.returncode != 0
    assert "there is no landscape" in early.stderr
    done = command("run", file, "--executor", "serial", "--out", out)
    assert done.returncode == 0, done.stderr
    losses = {p: p.stat().st_mtime_ns for p in (out / "study.zarr/origin/loss").rglob("*")}
    told = command("sensitivity", file, "--out", out)
    assert told.returncode == 0, told.stderr
    assert {p: p.stat().st_mtime_ns for p in (out / "study.zarr/origin/loss").rglob("*")} == losses
    table = pd.read_csv(out / "sensitivity.origin.csv")
    assert set(table["shape"]) == {"9", "5", "9x9", "5x5"}
    assert set(table["connectivity"]) == {"axis", "freudenthal", "full"}
    row = table.query("shape == '9x9' and connectivity == 'axis'")
    (entry,) = json.loads((out / "results.json").read_text())["landscapes"]
    assert row["n_minima"].item() == entry["topology"]["n_minima"]
    assert row["smad"].item() == pytest.approx(entry["topology"]["smad"], rel=1e-15)
    assert list(table.columns[4:]) == ["mean_climb", "smad", "smad_decided_by", "n_minima"]
    assert row["smad_decided_by"].fillna("–").item() == (entry["topology"]["smad_decided_by"] or "–")
    assert (out / "sensitivity.origin.png").read_bytes().startswith(b"\x89PNG")
    first = (out / "sensitivity.origin.png").read_bytes()
    assert command("sensitivity", file, "--out", out).returncode == 0
    assert (out / "sensitivity.origin.png").read_bytes() == first
    other = command("sensitivity", file, "--set", "grid.range=1.0", "--out", out)
    assert other.returncode != 0
    assert "another study" in other.stderr


@pytest.mark.parametrize("count", [5, 7, 9, 17, 41])
def test_a_larger_range_shares_every_second_point_of_the_smaller_one(count: int) -> None:
    smaller = Axis(-0.3, 0.7, count).coordinates()
    larger = widened(smaller)
    np.testing.assert_allclose(larger, Axis(-0.8, 1.2, count).coordinates(), rtol=0, atol=1e-15)
    (there,), (here,) = shared((count,))
    np.testing.assert_array_equal(larger[there], smaller[here])  # bit for bit
    inside = (larger > -0.3 - 1e-9) & (larger < 0.7 + 1e-9)
    assert np.flatnonzero(inside).tolist() == list(range(count))[there]


@pytest.mark.thorough
def test_larger_ranges_are_evaluated_where_they_share_nothing_and_only_if_asked_for(tmp_path: Path) -> None:
    file, out = wells(tmp_path, count=9), tmp_path / "run"
    assert command("run", file, "--executor", "serial", "--out", out).returncode == 0
    asked = ["sensitivity", file, "--out", out, "--set-site", "executor=serial", "--larger"]
    planned = command(*asked, 2, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "112 to evaluate, of larger ranges" in planned.stdout
    assert not list(out.glob("sensitivity*"))
    told = command(*asked, 1)
    assert told.returncode == 0, told.stderr
    assert "200 %" in told.stdout
    files = {file: file.stat().st_mtime_ns for file in (out / "resume").iterdir()}
    told = command(*asked, 2)
    assert told.returncode == 0, told.stderr
    assert files.items() < {file: file.stat().st_mtime_ns for file in (out / "resume").iterdir()}.items()
    table = pd.read_csv(out / "sensitivity.origin.csv")
    assert sorted(table["share_of_range"].unique()) == [0.5, 1, 2, 4]
    half = open_landscape(out).grid.axes[0].upper
    for share in (1, 2, 4):
        x, y = np.meshgrid(*[Axis(-share * half, share * half, 9).coordinates()] * 2, indexing="ij")
        tree = merge_tree((x**2 - 1) ** 2 + 2 * (y**2 - 1) ** 2 + 0.1 * (x + y))
        row = table.query(f"shape == '9x9' and connectivity == 'axis' and share_of_range == {share}")
        assert row["n_minima"].item() == tree.n_minima
        assert row["mean_climb"].item() == pytest.approx(mean_climb(tree), rel=1e-12)
    assert (out / "sensitivity.origin.png").read_bytes().startswith(b"\x89PNG")
    refused = command(*[word if word != "executor=serial" else "executor=mpi" for word in asked], 1)
    assert refused.returncode == 2
    assert "give --set-site executor=local" in refused.stderr


@pytest.mark.slow
def test_minima_of_parts_are_followed_where_the_study_says_confirm(tmp_path: Path) -> None:
    """The wells lie near ±1 along each direction: within the whole range, and outside of its middle half."""
    file, out = wells(tmp_path, count=17), tmp_path / "run"
    file.write_text(file.read_text() + "confirm: true\n")
    assert command("run", file, "--executor", "serial", "--out", out).returncode == 0
    told = command("sensitivity", file, "--out", out)
    assert told.returncode == 0, told.stderr
    assert "confirmed" in told.stdout
    table = pd.read_csv(out / "sensitivity.origin.csv")
    assert list(table.columns[4:]) == ["mean_climb", "smad", "smad_decided_by", "n_minima", "confirmed_minima"]
    assert set(table["shape"]) == {"17", "9", "5", "17x17", "9x9", "5x5"}
    for row in table.itertuples():
        expected = 2**row.directions if row.share_of_range == 1 else 0
        assert row.confirmed_minima == expected, row
    whole = table.query("shape == '17x17' and connectivity == 'axis'")
    (entry,) = json.loads((out / "results.json").read_text())["landscapes"]
    assert whole["confirmed_minima"].item() == entry["confirmed"]["interior"] == 4
    figure = (out / "sensitivity.origin.png").read_bytes()
    assert command("sensitivity", file, "--out", out).returncode == 0
    assert (out / "sensitivity.origin.png").read_bytes() == figure


def test_a_slice_has_the_derivatives_of_its_directions() -> None:
    class Quadratic:
        rounding = 2e-16
        H = np.array([[2.0, 0.5, 1.0], [0.5, 3.0, -1.0], [1.0, -1.0, 4.0]])

        def gradients(self, points):
            return np.einsum("bi,ij,bj->b", points, self.H, points) / 2, points @ self.H

        def hessians(self, points):
            return np.broadcast_to(self.H, (len(points), 3, 3))

    points = np.array([[0.3, -0.2], [1.0, 2.0]])
    whole, part = Quadratic(), Slice(Quadratic(), np.array([0.7]))
    at = np.hstack([points, np.full((2, 1), 0.7)])
    np.testing.assert_array_equal(part.gradients(points)[0], whole.gradients(at)[0])
    np.testing.assert_array_equal(part.gradients(points)[1], whole.gradients(at)[1][:, :2])
    np.testing.assert_array_equal(part.hessians(points), np.broadcast_to(whole.H[:2, :2], (2, 2, 2)))


@pytest.mark.parametrize("name", ["axis", "full"])
def test_the_whole_grid_is_a_part(name: str) -> None:
    values = np.random.default_rng(1).random((9, 9))
    (row,) = [r for r in sensitivity(values, (4, 4)) if r.shape == (9, 9) and r.connectivity == name]
    assert row.smad == smad(merge_tree(values, name))
