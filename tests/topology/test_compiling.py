"""What the first run of a machine compiles is compiled by a process beside it, once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from landscaper_hpc.topology import compiling

PROGRAM = """
import numpy as np
from landscaper_hpc.topology import compiling, contour_tree, landscape_profile, merge_tree
assert compiling.is_compiled()
field = np.random.default_rng(0).random((9, 8))
tree = merge_tree(field, labels=True)
contour_tree(field, tree=tree).as_landscaper
contour_tree(field, tree=tree).branches
landscape_profile(field, tree)
"""


@pytest.fixture
def nothing_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "cache_folder", lambda: tmp_path)
    return tmp_path


@pytest.mark.processes
def test_one_process_compiles_beside_whoever_asks(nothing_compiled: Path) -> None:
    told: list[str] = []
    before = set(psutil.Process().children())
    with compiling.compiled_beside(told.append):
        (process,) = set(psutil.Process().children()) - before
        with compiling.compiled_beside(told.append):
            assert set(psutil.Process().children()) - before == {process}
        assert process.is_running()
        assert len(told) == 2
        assert "once on this machine" in told[0]
    assert not process.is_running()
    assert compiling.is_compiled()


def test_where_it_was_done_nobody_is_told(nothing_compiled: Path) -> None:
    compiling.marker().touch()
    told: list[str] = []
    with compiling.compiled_beside(told.append):
        assert told == []


@pytest.mark.slow
def test_all_that_numbers_need_is_compiled(nothing_compiled: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(nothing_compiled)}
    subprocess.run([sys.executable, "-m", "landscaper_hpc.topology.compiling"], env=environment, check=True)
    compiled = sorted(nothing_compiled.rglob("*.nbc"))
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True)
    assert sorted(nothing_compiled.rglob("*.nbc")) == compiled
    assert len(compiled) > 50
