"""This machine: one process, or a pool of them."""

from __future__ import annotations

import itertools
import multiprocessing as mp
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait as wait_for_handles
from types import FrameType
from typing import Any

from landscaper_hpc import streams
from landscaper_hpc.errors import InputError, TaskFailed, WorkerLost, ends_work, user_traceback
from landscaper_hpc.objective.device import LOCAL_RANK
from landscaper_hpc.progress import Progress, silent
from landscaper_hpc.study.site import Site
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.executor import Dealer, Function, Item, stopping
from landscaper_hpc.work.preloaded import start_loading

START_SECONDS, _FIRST_START = 0.5, 2.0
"""Seconds that another process takes until it helps, where the first, with torch to load, takes so many until it can be
given work: on a busy machine both take longer."""


class SerialMapper:
    """Every task in this process, in order: the reference."""

    def map_unordered(
        self,
        function: Function[Item],
        items: Iterable[Item],
        on_progress: Callable[[Item, int, int], None] | None = None,
    ) -> Generator[Item, None, None]:
        for item in items:
            progress = silent if on_progress is None else _bind(on_progress, item)
            _call(function, item, progress)
            yield item

    def close(self) -> None:
        """Nothing was started."""


class LocalMapper:
    """A pool of `workers` processes, forked from one that has torch (`landscaper_hpc.work.preloaded`).

    The processes stay from one `map_unordered` to the next, until `close`. The first does alone what takes it no longer
    than others would take to start.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pools: list[ProcessPoolExecutor] = []  # of one process each: a worker gets what suits it
        self._used: set[int] = set()  # those whose process has been started
        self._slowness = 1.0  # of this machine now
        self._reports: Any = None
        self._listener: threading.Thread | None = None
        self._listening: dict[int, Callable[[int, int], None]] = {}
        self._numbers = itertools.count()

    def map_unordered(
        self,
        function: Function[Item],
        items: Iterable[Item],
        on_progress: Callable[[Item, int, int], None] | None = None,
    ) -> Generator[Item, None, None]:
        take = items.take if isinstance(items, Dealer) else _in_turn(items)
        running: dict[Future[None], tuple[int, Item]] = {}
        numbers = []
        began = time.monotonic()
        try:
            while True:
                busy = {place for place, _ in running.values()}
                alone = (
                    began + START_SECONDS * self._slowness - time.monotonic() if len(self._used) < self.workers else 0.0
                )
                for place in range(self.workers):
                    if place in busy or (alone > 0 and self._used and place not in self._used):
                        continue
                    if (item := take(place)) is None:
                        break
                    number = None
                    if on_progress is not None:
                        number = next(self._numbers)
                        numbers.append(number)
                        self._listening[number] = _bind(on_progress, item)
                    with later(signal.SIGINT):  # a process starts with what is blocked here
                        pool = self._started_pools()[place]
                        if not self._used:
                            self._time_start(pool)
                        running[pool.submit(_work, function, number, item)] = place, item
                    self._used.add(place)
                if not running:
                    return
                finished, _ = wait(running, alone if alone > 0 else None, FIRST_COMPLETED)
                for future in finished:
                    _, item = running.pop(future)
                    future.result()
                    yield item
        except (BrokenProcessPool, EOFError, ConnectionError):  # the last two: it died where processes are forked from
            self._kill()
            self.close()
            raise WorkerLost(f"a worker process died with {len(running) + 1} tasks under way") from None
        except BaseException as why:
            with stopping(why, len(running), self._kill):
                wait(running)
            raise
        finally:
            if numbers:
                self._hear_out()
            for number in numbers:
                del self._listening[number]

    def close(self) -> None:
        if self._pools:
            # all at once, and each waited for: a second call of `shutdown` would wait for nothing
            with ThreadPoolExecutor(len(self._pools)) as waiting:
                list(waiting.map(lambda pool: pool.shutdown(cancel_futures=True), self._pools))
            self._pools = []
            self._used.clear()
            if self._listener is None:
                self._reports._writer.close()  # the last one: the end is heard, whatever lock was never given back
            else:
                self._reports.put(None)
                self._listener.join()
                self._reports.close()

    def _kill(self) -> None:
        """End all processes: one that died may have held the lock of what all report through."""
        self._listener = None
        for pool in self._pools:
            for process in list((pool._processes or {}).values()):
                process.kill()

    def _started_pools(self) -> list[ProcessPoolExecutor]:
        if not self._pools:
            context = mp.get_context("forkserver")
            start_loading()
            self._reports = context.SimpleQueue()
            self._listener = threading.Thread(target=self._listen, args=(self._reports,), daemon=True)
            self._listener.start()
            self._pools = [
                ProcessPoolExecutor(
                    1, context, initializer=_start_worker, initargs=(self._reports, rank, dict(os.environ))
                )
                for rank in range(self.workers)
            ]
        return self._pools

    def _time_start(self, pool: ProcessPoolExecutor) -> None:
        """Measure how long the first process takes until it can be given work."""
        asked = time.monotonic()

        def started(_: Future[None]) -> None:
            self._slowness = max(1.0, (time.monotonic() - asked) / _FIRST_START)

        pool.submit(_nothing).add_done_callback(started)

    def _hear_out(self) -> None:
        """Wait until every report that finished tasks sent has been passed on: what is put now comes after them."""
        if self._pools and self._listener is not None:
            heard = threading.Event()
            number = next(self._numbers)
            self._listening[number] = lambda done, total: heard.set()
            self._reports.put((number, 0, 0))
            heard.wait(10)
            del self._listening[number]

    def _listen(self, reports: Any) -> None:
        with suppress(EOFError):
            while (report := reports.get()) is not None:
                number, done, total = report
                progress = self._listening.get(number)
                if progress is not None:
                    progress(done, total)


def serial_mapper(site: Site, campaign: Campaign) -> SerialMapper:
    """For a site with `executor: serial`."""
    return SerialMapper()


def local_mapper(site: Site, campaign: Campaign) -> LocalMapper:
    """For a site with `executor: local`."""
    workers = site.worker_count()
    _room_for(workers)
    return LocalMapper(workers)


_FILES_BESIDE, _FILES_OF_EACH = 200, 8  # 8 are open in the client for each process, and some beside


def _room_for(workers: int) -> None:
    """As many open files as the processes need, where the usual limit is less than what may be; `InputError` where they
    need more."""
    asked = _FILES_BESIDE + _FILES_OF_EACH * workers
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != usual < asked:
        if resource.RLIM_INFINITY != most < asked:
            fit = max(1, (most - _FILES_BESIDE) // _FILES_OF_EACH)
            raise InputError(
                f"workers: {workers} processes need {asked:,} open files, and a process may have {most:,} here; use "
                f"{fit} or fewer (--workers), or raise the limit (ulimit -n)"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (asked, most))


_reports: Any = None


@contextmanager
def later(number: signal.Signals) -> Iterator[None]:
    """A signal that comes inside is handled at the end, and not at all by processes that are started inside."""
    came: list[FrameType | None] = []
    handler = None
    if threading.current_thread() is threading.main_thread():
        handler = signal.signal(number, lambda _, frame: came.append(frame))  # another thread may have it unblocked
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if handler is not None:
            signal.signal(number, handler)
        if came and callable(handler):
            handler(number, came[0])


def _in_turn(items: Iterable[Item]) -> Callable[[int], Item | None]:
    upcoming = iter(items)
    return lambda place: next(upcoming, None)


def _start_worker(reports: Any, rank: int, environment: dict[str, str]) -> None:
    global _reports
    _reports = reports
    os.environ.clear()  # that of the process which was forked may be of an earlier run
    os.environ.update(environment)
    os.environ[LOCAL_RANK] = str(rank)
    streams.steady()
    # Ctrl-C reaches the whole process group: the client decides, workers finish their task
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A pool whose client was killed would wait for tasks for ever."""
    parent = mp.parent_process()
    if parent is not None:
        wait_for_handles([parent.sentinel])
        os._exit(1)


def _nothing() -> None:
    """What a process does as soon as it has started."""


def _work(function: Function[Any], number: int | None, item: Any) -> None:
    progress: Progress = silent
    if number is not None and _reports is not None:

        def progress(done: int, total: int) -> None:
            _reports.put((number, done, total))

    _call(function, item, progress)


def _call(function: Function[Item], item: Item, progress: Progress) -> None:
    try:
        function(item, progress)
    except (InputError, WorkerLost):
        raise
    except BaseException as error:  # a task that ends the process would pass for done
        if ends_work(error):
            raise
        raise TaskFailed(f"{item}\n{user_traceback(error)}") from None


def _bind(on_progress: Callable[[Item, int, int], None], item: Item) -> Progress:
    return lambda done, total: on_progress(item, done, total)
