"""What a rank measures of itself, and its memory."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from landscaper_hpc.parallel.comm import Comm, agree

Phases = dict[str, dict[str, float]]
"""Of each phase its seconds, and the peak memory (MB) and bytes sent until its end."""


@dataclass(frozen=True)
class RankStats:
    """What one rank did: seconds, peak memory and bytes sent until the end of each phase, rounds of following exits."""

    rank: int
    blocks: int
    vertices: int
    rounds: int
    bytes_sent: int
    phases: Phases


@contextmanager
def phase(comm: Comm, phases: Phases, name: str, together: bool = False) -> Iterator[None]:
    """Time a phase and note it; at its end all ranks agree that it went well, or stop. Where ranks talk to each other
    within the phase (`together`), the others may be waiting for one that fails, so it ends them at once."""
    start, sent = time.perf_counter(), comm.bytes_sent
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        if together:
            comm.abort(caught)
        error = caught
    agree(comm, error)
    phases[name] = {
        "seconds": time.perf_counter() - start,
        "peak_rss_mb": peak_memory() / 1e6,
        "bytes_sent": comm.bytes_sent - sent,
    }


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
