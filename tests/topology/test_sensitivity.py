"""Parts of a grid: which there are, that each is what evaluating it alone would give, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studies import command, wells

from landscaper_hpc.grid import Axis
from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.metrics import mean_climb, smad
from landscaper_hpc.topology.sensitivity import parts, sensitivity


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
    assert (out / "sensitivity.origin.png").read_bytes().startswith(b"\x89PNG")
    first = (out / "sensitivity.origin.png").read_bytes()
    assert command("sensitivity", file, "--out", out).returncode == 0
    assert (out / "sensitivity.origin.png").read_bytes() == first
    other = command("sensitivity", file, "--set", "grid.range=1.0", "--out", out)
    assert other.returncode != 0
    assert "another study" in other.stderr


@pytest.mark.parametrize("name", ["axis", "full"])
def test_the_whole_grid_is_a_part(name: str) -> None:
    values = np.random.default_rng(1).random((9, 9))
    (row,) = [r for r in sensitivity(values, (4, 4)) if r.shape == (9, 9) and r.connectivity == name]
    assert row.smad == smad(merge_tree(values, name))
