"""What every working process tells of itself while it works: one small file each, for `status`.

Nothing depends on it: a heartbeat that cannot be written is left out, and results hold nothing of it.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

WINDOW = 300.0
"""Seconds over which a rate is taken."""

_BETWEEN_WRITES = 5.0
_BETWEEN_MARKS = 15.0
_BETWEEN_LINES = 30.0
_JOB = "SLURM_JOB_ID"


@dataclass
class State:
    """What a heartbeat's file holds. Times are seconds since 1970 by the worker's clock; `marks` are (time, points,
    shards) of the last minutes, `current` is what it works on."""

    host: str
    pid: int
    job: str | None
    device: str
    began: float
    now: float
    points: int = 0
    shards: int = 0
    current: str = ""
    marks: list[tuple[float, int, int]] = field(default_factory=list)


class Heartbeat:
    """This process's heartbeat, into the folder `workers`."""

    def __init__(self, workers: Path, device: str) -> None:
        now = time.time()
        host = platform.node()
        self._file = workers / f"{host}.{os.getpid()}.{uuid.uuid4().hex[:6]}.json"
        self._state = State(host, os.getpid(), os.environ.get(_JOB), device, now, now)
        self._marks = deque([(now, 0, 0)])
        self._written = self._said = -float("inf")
        # one line per node and job, and none where a terminal shows bars
        self._says = _JOB in os.environ and os.environ.get("SLURM_LOCALID", "0") == "0" and not sys.stderr.isatty()

    def beat(self, current: str, partial: int = 0) -> None:
        """Alive and working on `current`, of which `partial` points are evaluated."""
        clock = time.monotonic()
        if clock - self._written < _BETWEEN_WRITES:
            return
        self._written = clock
        state, now = self._state, time.time()
        if now - self._marks[-1][0] >= _BETWEEN_MARKS:
            self._marks.append((now, state.points + partial, state.shards))
            while now - self._marks[1][0] > WINDOW:
                self._marks.popleft()
        state.now, state.current, state.marks = now, current, list(self._marks)
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            aside = self._file.with_suffix(".partial")
            aside.write_text(json.dumps({**asdict(state), "points": state.points + partial}))
            aside.replace(self._file)
        if self._says and clock - self._said >= _BETWEEN_LINES:
            self._said = clock
            rate = rate_of(state.marks, now, state.points + partial)
            print(
                f"{state.host}: {state.shards:,} shards, {state.points + partial:,} points by process {state.pid}, "
                f"{rate:.3g} points/s, at {current}",
                file=sys.stderr,
                flush=True,
            )

    def shard_done(self, points: int) -> None:
        self._state.points += points
        self._state.shards += 1


def rate_of(marks: list[tuple[float, int, int]], now: float, points: int) -> float:
    """Points per second since the first of the marks."""
    began, before, _ = marks[0]
    return (points - before) / max(now - began, 1e-9)


def read_heartbeats(workers: Path) -> list[State]:
    """All heartbeats that were left in `workers`, by file name."""
    found = []
    for file in sorted(workers.glob("*.json")):
        with suppress(OSError, ValueError, TypeError):  # a file system may tear what is not synced
            found.append(State(**json.loads(file.read_bytes())))
    return found


_heartbeats: dict[Path, Heartbeat] = {}


def heartbeat(workers: Path, device: str) -> Heartbeat:
    """This process's heartbeat for that folder."""
    if workers not in _heartbeats:
        _heartbeats[workers] = Heartbeat(workers, device)
    return _heartbeats[workers]


def whereabouts() -> str:
    """This process, as an error names it: its host, and its job and array task under Slurm."""
    parts = [platform.node(), f"process {os.getpid()}"]
    if _JOB in os.environ:
        array = os.environ.get("SLURM_ARRAY_JOB_ID")
        parts.append(f"job {os.environ[_JOB]}" + (f" ({array}_{os.environ['SLURM_ARRAY_TASK_ID']})" if array else ""))
    return ", ".join(parts)
