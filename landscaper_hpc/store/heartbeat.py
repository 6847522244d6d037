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
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.util import Finalize
from pathlib import Path

import psutil

from landscaper_hpc.strict_json import parsed
from landscaper_hpc.variables import number

WINDOW = 300.0
"""Seconds over which a rate is taken."""

BETWEEN_WRITES = 5.0
_BETWEEN_MARKS = 15.0
_BETWEEN_LINES = 30.0
_CLOCKS_APART = 10.0
_JOB = "SLURM_JOB_ID"
_SILENT = 90.0
"""Seconds after its last beat that a worker of another host is taken to be at work."""

_SILENT_HERE = 3600.0
"""The same for a process that is seen to be there."""


@dataclass
class State:
    """What a heartbeat's file holds. Times are seconds since 1970 by the worker's clock; `marks` are (time, points,
    shards) of the last minutes, from the first shard on; `current` is what it works on, a shard or (`phase`) what is
    none. `pids` tells in which name space `pid` is one, `restart` how often `job` was started before, `ahead` how many
    seconds its clock is ahead of the file system's (as it is read: of the reader's), where they are far apart."""

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
    phase: bool = False
    pids: str = ""
    restart: int = 0
    ended: bool = False
    ahead: float = 0.0


class Heartbeat:
    """This process's heartbeat, into the folder `workers`."""

    def __init__(self, workers: Path, device: str) -> None:
        now = time.time()
        host = platform.node()
        self._file = workers / f"{host}.{os.getpid()}.{uuid.uuid4().hex[:6]}.json"
        self._state = State(host, os.getpid(), _job(), device, now, now, pids=_pids())
        self._state.restart = number("SLURM_RESTART_COUNT")
        self._marks: deque[tuple[float, int, int]] = deque()
        self._written = self._said = -float("inf")
        self._apart = now - time.monotonic()
        # one line per node and job, and none where a terminal shows bars
        self._says = _JOB in os.environ and os.environ.get("SLURM_LOCALID", "0") == "0" and not sys.stderr.isatty()

    def beat(self, current: str, partial: int = 0) -> None:
        """Alive and working on the shard `current`, of which `partial` points are evaluated."""
        clock = time.monotonic()
        if clock - self._written < BETWEEN_WRITES and not self._state.phase:
            return
        self._written = clock
        state, now = self._state, self._now()
        if self._marks and now - self._marks[-1][0] >= _BETWEEN_MARKS:
            self._marks.append((now, state.points + partial, state.shards))
            while now - self._marks[1][0] > WINDOW:
                self._marks.popleft()
        state.phase, state.ended = False, False
        state.now, state.current, state.marks = now, current, list(self._marks)
        self._write(partial)
        if self._says and clock - self._said >= _BETWEEN_LINES:
            self._said = clock
            rate = rate_of(state.marks, now, state.points + partial)
            print(
                f"{state.host}: {state.shards:,} shards, {state.points + partial:,} points by process {state.pid}, "
                f"{rate:.3g} points/s, at {current}",
                file=sys.stderr,
                flush=True,
            )

    def begin_phase(self, current: str) -> None:
        """Alive and working on what is no shard; to be called as often as one likes."""
        clock, state = time.monotonic(), self._state
        if state.current == current and state.phase and not state.ended and clock - self._written < BETWEEN_WRITES:
            return
        self._written = clock
        state.now, state.current, state.phase, state.ended = self._now(), current, True, False
        self._write()

    def still(self) -> None:
        """Still at the phase that was begun last; to be called as often as one likes."""
        if self._state.phase:
            self.begin_phase(self._state.current)

    def ready(self) -> None:
        """Everything is loaded: a rate is one of points from now on."""
        if not self._marks:
            self._marks.append((self._now(), self._state.points, self._state.shards))

    def end(self) -> None:
        """Works on nothing any more."""
        if self._written > 0 and not self._state.ended:
            self._state.ended = True
            self._state.now = self._now()
            self._marks.clear()
            self._write()

    def _now(self) -> float:
        """Now. Where the clock was set since, or the machine slept, the times that were written down move along: a rate
        is one of seconds, and this process began when it did."""
        now = time.time()
        step = now - time.monotonic() - self._apart
        if abs(step) > _CLOCKS_APART:
            self._apart += step
            self._state.began += step
            self._marks = deque((at + step, points, shards) for at, points, shards in self._marks)
        return now

    def _write(self, partial: int = 0) -> None:
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            aside = self._file.with_suffix(".partial")
            for _ in range(2):  # how far the clock is ahead is written, and can be known only once something is
                written = time.time()
                aside.write_text(json.dumps({**asdict(self._state), "points": self._state.points + partial}))
                aside.replace(self._file)
                ahead = written - self._file.stat().st_mtime
                if abs(ahead - self._state.ahead) < _CLOCKS_APART:
                    return
                self._state.ahead = ahead

    def shard_done(self, points: int) -> None:
        self._state.points += points
        self._state.shards += 1


def rate_of(marks: list[tuple[float, int, int]], now: float, points: int) -> float:
    """Points per second since the first of the marks."""
    if not marks:
        return 0.0
    began, before, _ = marks[0]
    return (points - before) / max(now - began, 1e-9)


def read_heartbeats(workers: Path) -> list[State]:
    """All heartbeats that were left in `workers`, by file name."""
    found = []
    for file in sorted(workers.glob("*.json")):
        with suppress(OSError, ValueError, TypeError):  # a file system may tear what is not synced
            state = State(**parsed(file.read_bytes()))
            if _is_whole(state):
                found.append(state)
    if any((state.ahead or state.host != platform.node()) and not state.ended for state in found):
        own = _ahead(workers)
        for state in found:
            state.ahead -= own
    return found


def _ahead(folder: Path) -> float:
    """How many seconds this machine's clock is ahead of that which stamps the files of a folder; 0 where that is near,
    or cannot be told."""
    probe = folder / f".now.{platform.node()}.{os.getpid()}"
    try:
        written = time.time()
        probe.touch()
        ahead = written - probe.stat().st_mtime
        probe.unlink(missing_ok=True)
    except OSError:  # a folder that is only read
        return 0.0
    return 0.0 if abs(ahead) < _CLOCKS_APART else ahead


def _is_whole(state: State) -> bool:
    numbers = (state.pid, state.began, state.now, state.points, state.shards, state.restart, state.ahead)
    marks = [number for time, points, shards in state.marks for number in (time, points, shards)]
    texts = (state.host, state.device, state.current, state.pids)
    return (
        all(isinstance(number, int | float) for number in (*numbers, *marks))
        and all(isinstance(text, str) for text in texts)
        and isinstance(state.job, str | None)
    )


def at_work(states: Sequence[State], over: Collection[str]) -> list[State]:
    """Those whose process works, as far as can be told: not of jobs that are `over`, nor of a job's former starts."""
    latest: dict[str | None, int] = {}
    for state in states:
        latest[state.job] = max(state.restart, latest.get(state.job, 0))
    return [
        state
        for state in states
        if not state.ended and state.job not in over and state.restart == latest[state.job] and _alive(state)
    ]


def _alive(state: State) -> bool:
    silent = time.time() - (state.now - state.ahead)
    if not state.pids or (state.host, state.pids) != (platform.node(), _pids()):
        return silent < _SILENT
    try:
        process = psutil.Process(state.pid)
        there = process.create_time() < state.began - state.ahead + 2 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
    return there and silent < _SILENT_HERE


def _pids() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _job() -> str | None:
    """This process's job as Slurm's lists have it: `17`, or `15_2` for a task of an array."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get(_JOB)


_heartbeats: dict[Path, Heartbeat] = {}


def heartbeat(workers: Path, device: str) -> Heartbeat:
    """This process's heartbeat for that folder."""
    if workers not in _heartbeats:
        if not _heartbeats:
            Finalize(None, end_heartbeats, exitpriority=1)  # also where `multiprocessing` ends the process
        _heartbeats[workers] = Heartbeat(workers, device)
    return _heartbeats[workers]


def end_heartbeats() -> None:
    """This process works no more, as far as anybody watches."""
    for own in _heartbeats.values():
        own.end()


def whereabouts() -> str:
    """This process, as an error names it: its host, and its job and array task under Slurm."""
    parts = [platform.node(), f"process {os.getpid()}"]
    if _JOB in os.environ:
        job = _job()
        parts.append(f"job {os.environ[_JOB]}" + (f" ({job})" if job != os.environ[_JOB] else ""))
    return ", ".join(parts)
