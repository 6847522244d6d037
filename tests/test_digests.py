"""Hashes of files: right after every kind of change, and read once while nothing changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from landscaper_hpc import digests
from landscaper_hpc.digests import content_sha256


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    real = hashlib.file_digest

    def counting(stream, name):
        seen.append(stream.name)
        return real(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    return seen


def test_a_file_is_read_once(tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "SETTLED", -(10**12))
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"one")
    linked = tmp_path / "link.pt"
    linked.symlink_to(path)
    assert {content_sha256(p) for p in (path, path, linked)} == {sha256(b"one")}
    assert len(reads) == 1


def test_a_file_that_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "SETTLED", -(10**12))
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"one")
    content_sha256(path)
    path.write_bytes(b"longer")
    assert content_sha256(path) == sha256(b"longer")
    before = path.stat()
    aside = tmp_path / "aside"
    aside.write_bytes(b"twotwo")
    os.utime(aside, ns=(before.st_atime_ns, before.st_mtime_ns))
    aside.rename(path)  # same name, size and modification time, another file
    assert content_sha256(path) == sha256(b"twotwo")
    path.unlink()
    with pytest.raises(FileNotFoundError):
        content_sha256(path)


def test_what_was_just_written_is_not_remembered(tmp_path: Path, reads: list[str]) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"one")
    os.utime(path, (0, 0))  # an old modification time says nothing
    for _ in range(2):
        content_sha256(path)
    assert len(reads) == 2
