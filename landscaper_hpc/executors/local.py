"""This machine: one process, or a pool of them."""

from __future__ import annotations

import itertools
import multiprocessing as mp
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_handles
from typing import Any

from landscaper_hpc.device import LOCAL_RANK
from landscaper_hpc.errors import InputError, TaskFailed
from landscaper_hpc.executors.base import Function, Item, WorkerLost
from landscaper_hpc.progress import Progress, silent


class SerialExecutor:
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


class LocalExecutor:
    """A pool of `workers` processes, started fresh (spawn), so that no thread or GPU context is inherited.

    The processes stay from one `map_unordered` to the next, until `close`.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
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
        upcoming = iter(items)
        futures: dict[Future[None], Item] = {}
        numbers = []
        try:
            while True:
                # a short window instead of everything at once: closing the iterator leaves little to wait for
                while len(futures) < 2 * self.workers and (item := next(upcoming, None)) is not None:
                    number = next(self._numbers)
                    if on_progress is not None:
                        numbers.append(number)
                        self._listening[number] = _bind(on_progress, item)
                    futures[self._started_pool().submit(_work, function, number, item)] = item
                if not futures:
                    return
                finished, _ = wait(futures, return_when=FIRST_COMPLETED)
                for future in finished:
                    item = futures.pop(future)
                    future.result()
                    yield item
        except BrokenProcessPool:
            self.close()
            raise WorkerLost(f"a worker process died with {len(futures) + 1} tasks under way") from None
        finally:
            for future in futures:
                future.cancel()
            wait(futures)
            if numbers:
                self._hear_out()
            for number in numbers:
                del self._listening[number]

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._reports.put(None)
            assert self._listener is not None
            self._listener.join()
            self._reports.close()
            self._pool = None

    def _started_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = mp.get_context("spawn")
            self._reports = context.SimpleQueue()
            self._listener = threading.Thread(target=self._listen, args=(self._reports,), daemon=True)
            self._listener.start()
            ranks = context.SimpleQueue()
            for rank in range(self.workers):
                ranks.put(rank)
            self._pool = ProcessPoolExecutor(
                self.workers, context, initializer=_start_worker, initargs=(self._reports, ranks)
            )
        return self._pool

    def _hear_out(self) -> None:
        """Wait until every report that finished tasks sent has been passed on: what is put now comes after them."""
        if self._pool is not None:
            heard = threading.Event()
            number = next(self._numbers)
            self._listening[number] = lambda done, total: heard.set()
            self._reports.put((number, 0, 0))
            heard.wait(10)
            del self._listening[number]

    def _listen(self, reports: Any) -> None:
        while (report := reports.get()) is not None:
            number, done, total = report
            progress = self._listening.get(number)
            if progress is not None:
                progress(done, total)


_reports: Any = None


def _start_worker(reports: Any, ranks: Any) -> None:
    global _reports
    _reports = reports
    os.environ[LOCAL_RANK] = str(ranks.get())
    # Ctrl-C reaches the whole process group: the client decides, workers finish their task
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A pool whose client was killed would wait for tasks for ever."""
    parent = mp.parent_process()
    if parent is not None:
        wait_for_handles([parent.sentinel])
        os._exit(1)


def _work(function: Function[Any], number: int, item: Any) -> None:
    progress: Progress = silent
    if _reports is not None:

        def progress(done: int, total: int) -> None:
            _reports.put((number, done, total))

    _call(function, item, progress)


def _call(function: Function[Item], item: Item, progress: Progress) -> None:
    try:
        function(item, progress)
    except InputError:
        raise
    except Exception:
        raise TaskFailed(f"{item}\n{traceback.format_exc()}") from None


def _bind(on_progress: Callable[[Item, int, int], None], item: Item) -> Progress:
    return lambda done, total: on_progress(item, done, total)
