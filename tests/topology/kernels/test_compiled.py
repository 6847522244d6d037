"""Where compiled kernels are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from landscaper_hpc.topology.kernels import compiled


def test_code_is_not_loaded_from_somebody_elses_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, home = tmp_path / "named", tmp_path / "home"
    monkeypatch.setattr(compiled._config, "CACHE_DIR", str(named))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setattr(compiled.tempfile, "tempdir", str(tmp_path))
    assert compiled.cache_folder.__wrapped__() == named
    (tmp_path / "file").touch()
    monkeypatch.setattr(compiled._config, "CACHE_DIR", str(tmp_path / "file/cannot be made"))
    assert compiled.cache_folder.__wrapped__().is_relative_to(home)
    monkeypatch.setattr(compiled._config, "CACHE_DIR", str(named))
    us = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: us + 1)  # all that is there is somebody else's
    found = compiled.cache_folder.__wrapped__()
    assert found.parent == tmp_path
    assert found not in (named, home)
    assert found.name != f"landscaper-hpc-{us + 1}"
    assert list(found.iterdir()) == []
