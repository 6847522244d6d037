"""SHA-256 of values and of files, the latter remembered for as long as a file does not change."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def canonical_sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


SEAL = "sha256"


def with_seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a file is to hold, with the SHA-256 of all of it as its last key."""
    own = {key: value for key, value in content.items() if key != SEAL}
    return {**own, SEAL: canonical_sha256(own)}


def is_sealed(content: Mapping[str, Any]) -> bool:
    """Whether what a file holds is what was written `with_seal`."""
    return bool(content.get(SEAL) == with_seal(content)[SEAL])


_DIGEST = hashlib.sha256().digest_size


def with_digest(content: bytes) -> bytes:
    """Bytes of a file, with their SHA-256 before them."""
    return hashlib.sha256(content).digest() + content


def without_digest(content: bytes) -> bytes | None:
    """The bytes that were written `with_digest`; None where they are others."""
    body = content[_DIGEST:]
    return body if hashlib.sha256(body).digest() == content[:_DIGEST] else None


SETTLED = 3 * 10**9  # nanoseconds: more than the clock of any file system ticks


def combined_sha256(files: Sequence[Path]) -> str:
    """SHA-256 over the names and bytes of files, in this order."""
    return hashlib.sha256(
        "".join(f"{file.name}\0{content_sha256(file)}\0" for file in files).encode(errors="surrogateescape")
    ).hexdigest()


_Stamp = tuple[int, ...]


_digests: dict[_Stamp, str] = {}


def content_sha256(file: Path) -> str:
    """SHA-256 of one file, read once per process as long as nothing about it changes: checkpoints may be large."""
    with file.open("rb") as stream:
        stamp = _stamp(stream.fileno())
        if stamp in _digests:
            return _digests[stamp]
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        # a file written a moment ago may be written again within one tick of its clock: not remembered
        if stamp == _stamp(stream.fileno()) and time.time_ns() - max(stamp[-2:]) > SETTLED:
            _digests[stamp] = digest
        return digest


def _stamp(descriptor: int) -> _Stamp:
    """Which file this is and in which state. The change time cannot be set back, as the modification time can."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


State = list[list[int]]
"""Of files: which each is, and in which state, whatever number a machine gives to the file system."""


def state_of(files: Sequence[Path]) -> State | None:
    """None where one was written a moment ago, and may be written again within one tick of its clock."""
    found = [file.stat() for file in files]
    newest = max((max(one.st_mtime_ns, one.st_ctime_ns) for one in found), default=0)
    if time.time_ns() - newest <= SETTLED:
        return None
    return [[one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns] for one in found]
