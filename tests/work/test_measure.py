"""What the topology stage makes beside a merge tree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from landscaper_hpc.store.landscape import open_landscape
from landscaper_hpc.topology import contour, contour_tree
from landscaper_hpc.topology.landscaper import smad_landscaper
from tests.studies import command, wells


@pytest.mark.thorough
def test_the_merge_tree_of_sublevel_sets_is_not_computed_again_for_the_contour_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    half = contour.half_of
    contour.compile_kernels()
    monkeypatch.setattr(contour, "half_of", lambda field, *rest: computed.append(field) or half(field, *rest))
    study = wells(tmp_path)
    assert command("run", study, "--out", tmp_path / "run", "--executor", "serial").returncode == 0
    values = open_landscape(tmp_path / "run").loss()
    (backwards,) = computed
    np.testing.assert_array_equal(backwards, -values[::-1, ::-1])
    told = json.loads((tmp_path / "run" / "results.json").read_text())["landscapes"][0]["topology"]
    assert told["smad_landscaper"] == smad_landscaper(contour_tree(values))
