"""A shard that hangs is ended: nothing that calls the user's code may wait for it for ever.

One thread of each process looks every second whether the shard under way has taken longer than it may. Where it runs in
the main thread, as it does on every way but Dask's, a signal raises `Hung` in the midst of it, and the process goes on
with other shards. What cannot be interrupted (another thread, compiled code that does not return) is quarantined as
well, and ends its process with exit code 75: whatever started that replaces it. Where the interpreter's lock is never
given back this thread does not run either: that is for the `watchdog`. Seconds are counted while the process runs: one
that Slurm suspends is not late, nor is one that waits for a processor on a busy machine.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from landscaper_hpc.errors import Ending, user_stack
from landscaper_hpc.study.site import Site
from landscaper_hpc.work.watchdog import GRACE, Place, Watchdog, say, sentence, without_processor

TIMES_THE_MEDIAN = 20.0
FLOOR = 600.0
"""Seconds and multiples of the median shard's duration that a shard may take where the site does not say."""

TICK = 1.0
_SIGNAL = signal.SIGVTALRM  # nobody else's: ALRM and USR1 are people's own


class Hung(Ending):
    """A shard took longer than it may; `stack` says where it was. No `Exception`: the user's code must not catch it."""

    def __init__(self, seconds: float, stack: str) -> None:
        super().__init__(sentence(seconds, stack))

    @classmethod
    def elsewhere(cls, why: str) -> Hung:
        """What another process has told of it."""
        return cls.__new__(cls, why)


class Limit:
    """How long a shard of one landscape may take: what the site says, or by what this process's shards have taken."""

    def __init__(self, site: Site, first: float, times: int = 1) -> None:
        """`first`: how long the first one will take, as well as is known; `times`: as many shards' work this is."""
        self._given = site.shard_timeout
        self.times = times
        self._first = first
        self._took: deque[float] = deque(maxlen=101)

    @property
    def usual(self) -> float:
        """Seconds that a shard takes, as well as is known."""
        return statistics.median(self._took) if self._took else self._first

    @property
    def seconds(self) -> float:
        if self._given != "auto":
            return self.times * self._given
        return max(FLOOR, TIMES_THE_MEDIAN * self.times * self.usual)

    def took(self, seconds: float) -> None:
        self._took.append(seconds)


@dataclass
class _Watched:
    thread: int
    seconds: float
    place: Place
    task: int
    ticks: float = 0.0
    stack: str = ""


_watched: _Watched | None = None
_began = threading.Event()
_watching: int | None = None
_watchdog: Watchdog | None = None


@contextmanager
def watched(limit: Limit, place: Place) -> Iterator[Callable[[], None]]:
    """Raise `Hung` in what takes longer than `limit`. Where that is not possible, it is left at a place why, and the
    process ends. What is yielded says that it gets on: from there it may take as long again."""
    global _watched, _watching, _watchdog
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(_SIGNAL) is not _raise:
        signal.signal(_SIGNAL, _raise)
    if _watching != os.getpid():  # threads are not inherited
        threading.Thread(target=_watch, daemon=True, name="watch").start()
        _watchdog, _watching = Watchdog(), os.getpid()
    assert _watchdog is not None
    watchdog, thread, began, open_ = _watchdog, threading.get_ident(), time.monotonic(), True
    task = threading.get_native_id()

    def gets_on() -> None:
        global _watched
        if open_ and threading.get_ident() == thread:
            _watched = _Watched(thread, limit.seconds, place, task)
            watchdog.begin(thread, limit.seconds, place)
            _began.set()

    gets_on()
    try:
        yield gets_on
        limit.took(time.monotonic() - began)
    finally:
        open_ = False
        _watched = None
        watchdog.end()


def in_time() -> bool:
    """Whether what this process works on has not hung: its lease is worth renewing."""
    now = _watched
    return now is None or now.ticks <= now.seconds


def _raise(number: int, frame: FrameType | None) -> None:
    now = _watched
    if now is not None and now.ticks > now.seconds:
        raise Hung(now.seconds, now.stack)


def _watch() -> None:
    while True:
        _began.wait()
        now = _watched
        if now is None:
            _began.clear()
            if _watched is None:  # none has begun meanwhile
                continue
            _began.set()
            continue
        tick, had = min(TICK, now.seconds / 4), without_processor(os.getpid(), now.task)
        time.sleep(tick)
        if now is not _watched:
            continue
        now.ticks += max(0.0, tick - (without_processor(os.getpid(), now.task) - had))
        if now.ticks <= now.seconds:
            continue
        if not now.stack:
            now.stack = user_stack(sys._current_frames().get(now.thread))
        main = threading.main_thread().ident
        if now.thread == main and now.ticks <= now.seconds + GRACE:
            signal.pthread_kill(main, _SIGNAL)  # again and again: code may swallow what is raised in it
        elif now is _watched:
            _leave(now)


def _leave(now: _Watched) -> NoReturn:
    why = sentence(now.seconds, now.stack)
    with suppress(Exception):
        now.place.leave(why)
    say(why)
    os._exit(75)
