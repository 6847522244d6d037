"""A worker that needs no scheduler: it takes shards out of the store until none is left.

Any number of them, started by anything (srun, a job array, MPI, Dask, a shell) share the work through leases.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from landscaper_hpc.errors import Stopped, WorkerLost
from landscaper_hpc.store.leases import LIFETIME
from landscaper_hpc.work.executor import Losses
from landscaper_hpc.work.landscape import Landscape, ShardItem, without_quarantined
from landscaper_hpc.work.tasks import evaluate_shard

log = logging.getLogger(__name__)

_GRACE = 20.0
"""Seconds after the warning in which what is short is still done, half a minute before the walltime at the least."""


class Stop:
    """When a worker has to end: a signal (TERM, USR2), or `seconds` from now by the `clock`, before the walltime.

    `taken_away`: it had to before its time was up.
    """

    def __init__(self, seconds: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deadline = float("inf") if seconds is None else clock() + seconds
        self._shard_began = 0.0
        self._at_once: BaseException | None = None
        self.taken_away = False

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        log.info("%s: ending", signal.Signals(number).name)
        # USR2 is the warning before the walltime, which comes before its TERM: another TERM is preemption or the like
        self.taken_away |= number == signal.SIGTERM and not self.requested
        self._deadline = min(self._deadline, self._clock())
        if self._at_once is not None:
            signal.signal(number, signal.SIG_IGN)  # once is enough
            raise Stopped if self.taken_away else self._at_once

    @contextmanager
    def soon(self) -> Iterator[None]:
        """Inside, work that keeps what it has done ends where it is a moment after the signal, if it has not yet."""
        if self._at_once is not None:
            yield
            return
        main = threading.main_thread().ident
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(0.5):
                if self.over and main is not None:
                    self._at_once = Stopped()
                    signal.pthread_kill(main, signal.SIGUSR2)
                    return

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield
        finally:
            ended.set()
            looking.join()
            self._at_once = None

    def at_once(self, why: BaseException | None = None) -> None:
        """From here on a signal ends the work where it is, as Ctrl-C does: with `why`, unless it was taken away."""
        self._at_once = why or Stopped()

    @property
    def requested(self) -> bool:
        return self._clock() >= self._deadline

    @property
    def over(self) -> bool:
        """Whether it is too late to begin anything, however short."""
        return self.requested and (self.taken_away or self._clock() - self._deadline > _GRACE)

    def check(self, done: int, total: int) -> None:
        """The progress of a shard, from 0 on: finish it where that takes a moment, drop it where it takes longer."""
        if not done:
            self._shard_began = self._clock()
        elif self.requested:
            left = (self._clock() - self._shard_began) * (total - done) / done
            if left > _GRACE:
                raise Stopped


def work(
    landscapes: Sequence[Landscape],
    *,
    place: int = 0,
    places: int = 1,
    stop: Stop | None = None,
    on_done: Callable[[ShardItem], None] = lambda task: None,
    on_evaluated: Callable[[Landscape], None] = lambda item: None,
    finished_already: Callable[[Landscape], bool] = lambda item: False,
) -> bool:
    """Evaluate shards until nothing is pending (True) or it is time to stop (False).

    A worker stays with a landscape to its end, since loading one is expensive; `place` of `places` says where it
    begins, so that workers meet as late as possible. Shards that failed too often are left out; those that others hold
    are waited for, and taken over from the dead. `on_evaluated` is called, by each worker that finds it so, with a
    landscape that has every shard; what is `finished_already` is not even listed. Holds one landscape's list of shards
    at a time.

    Where processes that hold the model with this one are lost, the next shard begins with new ones.

    Where the warning came a moment ago, while all was loaded, one shard is evaluated all the same (or dropped, if it
    takes long): a job that is started again and again gets on.
    """
    stop = stop or Stop()
    complete: set[int] = set()
    evaluated = False
    losses, since = Losses(), False
    while True:
        pending = finished = 0
        for number, begin in tour(len(landscapes), place, places):
            if number in complete:
                continue
            item = landscapes[number]
            if finished_already(item):
                complete.add(number)
                continue
            store, leases = item.open(), item.leases
            tasks = without_quarantined([ShardItem(item, shard) for shard in store.pending()])
            pending += len(tasks)
            first = int(begin * len(tasks))
            done: set[tuple[int, ...]] = set()
            for task in tasks[first:] + tasks[:first]:
                if stop.over or (stop.requested and evaluated):
                    return False
                if task.shard.index in done:
                    continue
                if store.is_done(task.shard):  # by another since: where one is, more are
                    done = store.done()
                    continue
                with leases.hold(task.key) as mine:
                    # done by another a moment ago?
                    if mine and not store.is_done(task.shard):
                        if not evaluated:  # killed while it loads, nobody would know that what it holds is nobody's
                            item.heartbeat.begin_phase(f"loading of {item.name}")
                        try:
                            evaluate_shard(task, stop.check)
                        except Stopped:
                            return False
                        except WorkerLost as lost:  # of those that hold the model with this one
                            losses.another(lost, since)
                            since = False
                            continue
                        finished += 1
                        evaluated = since = True
                        on_done(task)
            if store.n_done() == store.n_shards():
                complete.add(number)
                on_evaluated(item)
        if not pending:
            return True
        if stop.requested:
            return False
        if not finished:
            wait(stop, LIFETIME / 10)


def tour(count: int, place: int, places: int) -> Iterator[tuple[int, float]]:
    """The order in which a worker visits `count` landscapes, and at which part of its shards it begins in each.

    Workers begin at equal distances in the row of all shards; those who come to a landscape later, to help, begin at
    different parts of it.
    """
    if not count:
        return
    first, within = divmod(place * count, places)
    yield first, within / places
    for further in range(1, count):
        yield (first + further) % count, place / places


def wait(stop: Stop, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop.requested:
        time.sleep(min(0.2, seconds))
