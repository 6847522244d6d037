"""Where compiled kernels are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from landscaper_hpc.topology.kernels import compiled


def test_code_is_not_loaded_from_somebody_elses_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, home = tmp_path / "named", tmp_path / "home"
    monkeypatch.setattr(compiled.numba_config, "CACHE_DIR", str(named))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setattr(compiled.tempfile, "tempdir", str(tmp_path))
    assert compiled.cache_folder.__wrapped__() == named
    (tmp_path / "file").touch()
    monkeypatch.setattr(compiled.numba_config, "CACHE_DIR", str(tmp_path / "file/cannot be made"))
    assert compiled.cache_folder.__wrapped__().is_relative_to(home)
    monkeypatch.setattr(compiled.numba_config, "CACHE_DIR", str(named))
    us = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: us + 1)  # all that is there is somebody else's
    found = compiled.cache_folder.__wrapped__()
    assert found.parent == tmp_path
    assert found not in (named, home)
    assert found.name != f"landscaper-hpc-{us + 1}"
    assert list(found.iterdir()) == []


@pytest.mark.timeout(60)
def test_who_compiles_does_not_hold_up_another_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "cache_folder", lambda: tmp_path)
    with compiled.compiling():
        monkeypatch.setattr(compiled, "__file__", "/elsewhere/compiled.py")
        with compiled.compiling():
            assert len(list(tmp_path.iterdir())) == 2


def test_the_lowest_bit_of_a_word() -> None:
    @numba.njit
    def lowest(words: Any) -> Any:
        return [compiled.lowest_bit(word) for word in words]

    words = [1, 2, 12, 2**63, 2**64 - 1, 2**40 + 2**39]
    twin = [bin(word)[::-1].index("1") for word in words]
    assert lowest(np.array(words, np.uint64)) == twin
