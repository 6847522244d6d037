"""What a rank measures of itself, and its memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class RankStats:
    """What one rank did: seconds, peak memory and bytes sent until the end of each phase, rounds of following exits."""

    rank: int
    blocks: int = 0
    vertices: int = 0
    rounds: int = 0
    bytes_sent: int = 0
    phases: dict[str, dict[str, float]] = field(default_factory=dict)


def release() -> None:
    """Give freed memory back to the system. The C library keeps it, in pieces that the next larger array cannot use."""
    global _trim
    if _trim is None:
        try:
            _trim = ctypes.CDLL(None).malloc_trim
        except (OSError, AttributeError):  # another C library
            _trim = int
    _trim(0)


_trim: Callable[[int], int] | None = None


def peak_memory() -> int:
    """The largest resident set of this process so far, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
