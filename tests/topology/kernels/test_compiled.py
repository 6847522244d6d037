"""Where compiled kernels are kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
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
    assert not named.stat().st_mode & 0o022
    for mode in (0o777, 0o1777, 0o775):  # others may put code there
        named.chmod(mode)
        assert compiled.cache_folder.__wrapped__().is_relative_to(home)
    named.chmod(0o755)
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


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes kernel(x) = 2 (x + 1), as a process has it that has just started; or with another number than 1."""
    monkeypatch.setattr(compiled, "cache_folder", lambda: tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    source = tmp_path / "kernels.py"

    def made(added: int = 1) -> Any:
        text = f"@jit\ndef inner(x):\n    return x + {added}\n\n@jit\ndef kernel(x):\n    return 2 * inner(x)\n"
        if not source.exists() or source.read_text() != text:
            source.write_text(text)
        names: dict[str, Any] = {"jit": compiled.jit, "__name__": "kernels", "__file__": str(source)}
        exec(compile(text, str(source), "exec"), names)
        return names["kernel"]

    return made


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The files on which somebody has waited for a turn to compile."""
    asked: list[int] = []
    monkeypatch.setattr(compiled.fcntl, "flock", lambda file, _: asked.append(file.fileno()))
    return asked


def test_who_compiles_takes_a_turn_and_who_loads_does_not(kernel: Callable[..., Any], locks: list[int]) -> None:
    assert kernel()(3) == 8
    assert len(set(locks)) == 2  # its own, and that of what it calls: others compile other kernels meanwhile
    assert kernel()(3) == 8
    assert len(locks) == 2
    assert kernel()(3.5) == 9.0
    assert len(locks) == 4


def test_a_kernel_is_compiled_where_the_users_code_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Callable[..., Any]
) -> None:
    monkeypatch.setattr(compiled.numba_config, "DISABLE_JIT", 1)
    assert kernel()(np.arange(3.0)).sum() == 12.0  # numba has arrays added by functions of its own
    assert compiled.numba_config.DISABLE_JIT == 1


def test_what_was_compiled_while_one_waited_is_loaded(
    kernel: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel()(3)
    cache, theirs = tmp_path / "cache", tmp_path / "theirs"
    cache.rename(theirs)
    cache.mkdir()
    monkeypatch.setattr(compiled.fcntl, "flock", lambda *_: shutil.copytree(theirs, cache, dirs_exist_ok=True))
    mine = kernel()
    assert mine(3) == 8
    assert (sum(mine.stats.cache_hits.values()), sum(mine.stats.cache_misses.values())) == (1, 0)


def test_killed_while_new_code_is_kept_nobody_loads_the_old(kernel: Callable[..., Any], locks: list[int]) -> None:
    assert kernel()(3) == 8
    changed = kernel(20)
    changed._cache._cache_file._save_data = lambda *_: None  # it ends between the index and the code
    assert changed(3) == 46
    assert kernel(20)(3) == 46
    assert len(locks) == 5


def test_the_lowest_bit_of_a_word() -> None:
    @numba.njit
    def lowest(words: Any) -> Any:
        return [compiled.lowest_bit(word) for word in words]

    words = [1, 2, 12, 2**63, 2**64 - 1, 2**40 + 2**39]
    twin = [bin(word)[::-1].index("1") for word in words]
    assert lowest(np.array(words, np.uint64)) == twin
