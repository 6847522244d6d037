"""`landscaper-hpc network`: minima of a study's loss without a grid."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.studies import command, wells


def test_four_wells_by_scattered_points(tmp_path: Path) -> None:
    study = wells(tmp_path)
    done = command("network", study, "--points", "64", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    minima = found["network"]["minima"]
    assert [one["kind"] for one in minima] == ["interior"] * 4
    np.testing.assert_allclose(np.abs([one["alpha"] for one in minima]), 1, atol=0.03)
    assert [one["death"] is None for one in minima] == [True, False, False, False]
    assert found["network"]["missed_by_last"] == 0
    assert found["network"]["unmet_at_most"] == pytest.approx(1 - (0.05 / 4) ** (1 / 50))
    assert found["sample"]["n_minima_of_halves"][0] >= 1
    assert not (tmp_path / "runs").exists()


def test_sixteen_directions_without_minima(tmp_path: Path) -> None:
    study = wells(tmp_path, n=16, count=3)
    done = command("network", study, "--points", "100", "--minima", "0", "--sampling", "latin")
    assert done.returncode == 0, done.stderr
    assert "origin: the graph of 100 points" in done.stdout
    assert "cannot be known at that density" in done.stdout
    assert "dies at" not in done.stdout


def test_a_checkpoint_that_there_is_not(tmp_path: Path) -> None:
    done = command("network", wells(tmp_path), "--checkpoint", "other")
    assert done.returncode == 2
    assert "'other' is no checkpoint of" in done.stderr
