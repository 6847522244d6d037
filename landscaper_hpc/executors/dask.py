"""Dask: tasks go to the workers of a scheduler, wherever those come from. Needs the extra `dask`.

The workers' processes may be many; each does one task at a time. A worker that is lost loses only its tasks: Dask gives
them to others. Losing the scheduler ends a map with `WorkerLost`, and loses nothing that a task has published.
(Longer than most modules: how tasks are given, lost and given again is one state.)
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
import pickle
import queue
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, Protocol

from distributed import Client, Future
from distributed.client import ClosedClientError
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker
from distributed.versions import VersionMismatchWarning

from landscaper_hpc.errors import InputError, Interrupted, TaskFailed, WorkerLost
from landscaper_hpc.executors.dask_worker import Rest, stop, work
from landscaper_hpc.work.executor import Function, Item, stopping

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1:0"
"""Where dashboards listen, on any port: they show everything to anyone, and may run code."""

LOST = (CommClosedError, ClosedClientError, OSError, TimeoutError, RuntimeError)
"""What Dask raises where the other side of a connection is gone; and see `is_loss`."""

_TEND_SECONDS = 2.0
_WITHOUT_WORKERS_SECONDS = 300.0
_AHEAD = 8
_TASK_SECONDS = 0.2
_MOST_IN_A_TASK = 64
CONNECT_SECONDS = 30.0


class Workers(Protocol):
    """Where Dask's workers come from."""

    def connect(self) -> Client:
        """A client of their scheduler. `InputError` where there is none."""
        ...

    def tend(self, present: int, unfinished: float) -> None:
        """Called every few seconds while tasks run: `present` processes work on `unfinished` tasks, inf: on many."""
        ...

    def close(self, client: Client) -> None:
        """Close the client, and give back what `connect` began."""
        ...


class Given:
    """The workers of a scheduler that someone else runs, given by its address or its scheduler file.

    An address without a protocol is taken to be `tls://`; the certificates are those of Dask's own configuration
    (`distributed.comm.tls`). `tcp://` is not encrypted, and used only where it is asked for.
    """

    def __init__(self, scheduler: str) -> None:
        self._scheduler = scheduler
        self._seen = time.monotonic()

    def connect(self) -> Client:
        file = Path(self._scheduler)
        try:
            if file.is_file():
                client = Client(scheduler_file=str(file), timeout=CONNECT_SECONDS, set_as_default=False)
            elif file.suffix == ".json":
                raise InputError(f"dask.scheduler: there is no file {file}; the scheduler writes it when it starts")
            else:
                address = self._scheduler if "://" in self._scheduler else f"tls://{self._scheduler}"
                client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (*LOST, TypeError, ValueError) as error:
            raise InputError(
                f"dask.scheduler: no Dask scheduler answers at {self._scheduler} ({sentence(error)}); start it and run "
                "the same command again, everything finished so far is kept"
            ) from None
        if client.scheduler.address.startswith("tcp://"):
            log.warning("the connection to %s is not encrypted", client.scheduler.address)
        self._seen = time.monotonic()
        return client

    def tend(self, present: int, unfinished: float) -> None:
        if present:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > _WITHOUT_WORKERS_SECONDS:
            raise InputError(
                f"dask.scheduler: {self._scheduler} had no worker for {_WITHOUT_WORKERS_SECONDS:.0f} s; start some "
                "(`dask worker --nthreads 1`) and run the same command again, everything finished so far is kept"
            )

    def close(self, client: Client) -> None:
        with regardless_of_loss():  # the scheduler and its workers are not ours
            client.close(timeout=5)


class _ToOurLog(logging.Handler):
    """What Dask has to say belongs to the study's log, tracebacks and all, and not on the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        log.debug("%s: %s", record.name, self.format(record))


_DASK_LOGS = ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application", "bokeh")


class DaskMapper:
    """Tasks on Dask's workers. What they report comes back as Dask's events, their results never."""

    def __init__(self, workers: Workers) -> None:
        for name in _DASK_LOGS:
            logging.getLogger(name).handlers[:] = [_ToOurLog()]
        self._workers = workers
        self._client: Client | None = None
        self._present = 0
        self._fitting: frozenset[str] = frozenset()
        self._tended = -float("inf")

    def map_unordered(
        self,
        function: Function[Item],
        items: Iterable[Item],
        on_progress: Callable[[Item, int, int], None] | None = None,
    ) -> Generator[Item, None, None]:
        upcoming, given_back = iter(items), deque[Item]()
        unfinished = math.inf  # until the last one is taken
        client = self._connected()
        run = f"landscaper-hpc-{uuid.uuid4().hex}"
        numbers = itertools.count()
        under_way: dict[str, list[Item]] = {}
        futures: dict[str, Future] = {}
        finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
        size = TaskSize()
        if on_progress is not None:
            client.subscribe_topic(run, functools.partial(_pass_on, on_progress, under_way))
        try:
            while True:
                # a window instead of everything at once: the scheduler stays small, whatever the number of tasks
                window = _AHEAD * max(1, self._present)
                if len(under_way) <= window // 2:
                    each = size.now(self._present)
                    asked = each * (window - len(under_way))
                    batch = [given_back.popleft() for _ in range(min(asked, len(given_back)))]
                    batch += itertools.islice(upcoming, asked - len(batch))
                    if len(batch) < asked:
                        unfinished = sum(map(len, under_way.values())) + len(batch)
                    new = {f"{run}-{next(numbers)}": batch[i : i + each] for i in range(0, len(batch), each)}
                    under_way.update(new)
                    tasks = [pickle.dumps((function, items)) for items in new.values()]
                    keys = list(new)
                    tell = on_progress is not None
                    for future in client.map(work, keys, tasks, key=keys, pure=False, run=run, tell=tell):
                        futures[future.key] = future
                        future.add_done_callback(finished.put)
                if not under_way:
                    break
                self._tend(unfinished)
                with suppress(queue.Empty):
                    future = finished.get(timeout=_TEND_SECONDS)
                    del futures[future.key]
                    took = under_way.pop(future.key)
                    done = _done(future, took)
                    given_back.extend(took[done:])
                    size.finished += done
                    unfinished -= done
                    yield from took[:done]
            _stop_all(client, run, [])
        except BaseException as why:
            with stopping(why, min(len(under_way), max(1, self._present)), _interrupt):
                _stop_all(client, run, list(futures.values()))
            if is_loss(why):
                raise WorkerLost(f"the connection to Dask's scheduler was lost ({sentence(why)})") from None
            raise
        finally:
            if on_progress is not None:
                with regardless_of_loss():
                    client.unsubscribe_topic(run)

    def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            self._workers.close(client)

    def _connected(self) -> Client:
        if self._client is not None and self._client.status != "running":
            self.close()
        if self._client is None:
            with warnings.catch_warnings(action="ignore", category=VersionMismatchWarning):
                self._client = self._workers.connect()
            refuse_other_versions(self._client)
            self._fitting = frozenset()
            self._tended = -float("inf")
        return self._client

    def _tend(self, unfinished: float) -> None:
        if self._client is not None and time.monotonic() - self._tended > _TEND_SECONDS:
            here = frozenset(self._client.ncores())
            if not here <= self._fitting:  # whoever joins is asked, also in the place of one that is lost
                refuse_other_versions(self._client)
            self._present, self._fitting = len(here), here
            self._workers.tend(self._present, unfinished)
            self._tended = time.monotonic()


_AS_HERE = ("dask", "distributed")
_OWN = "landscaper_hpc"


def refuse_other_versions(client: Client) -> None:
    """`InputError` where the scheduler or a worker has another Dask or Python than this process, or a worker not this
    package: what one sends the other may not understand, and ends."""
    found = client.get_versions(packages=[_OWN])
    own = _deciding(found["client"])
    for who, told in {"the scheduler": found["scheduler"], **(found["workers"] or {})}.items():
        theirs = _deciding(told)
        if differing := [name for name in own if theirs[name] != own[name]]:
            raise InputError(
                f"dask.scheduler: {who} has {', '.join(f'{name} {theirs[name]}' for name in differing)}, and here is "
                f"{', '.join(f'{name} {own[name]}' for name in differing)}; use the same versions for all, everything "
                "finished so far is kept"
            )
    for who, told in (found["workers"] or {}).items():
        if told["packages"][_OWN] is None:
            raise InputError(
                f"dask.scheduler: the worker {who} has no landscaper_hpc; install the same there as here, everything "
                "finished so far is kept"
            )


def _deciding(told: Mapping[str, Any]) -> dict[str, str | None]:
    packages = told["packages"]
    return {name: packages.get(name) for name in _AS_HERE} | {"Python": ".".join(packages["python"].split(".")[:2])}


class TaskSize:
    """How many items make a task: the scheduler costs milliseconds a task, so quick items go together."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.finished = 0
        self._clock = clock
        self._since = clock()
        self._size = 1

    def now(self, workers: int) -> int:
        """By what was finished since the last call; grows by steps, as what comes first is no measure of the rest."""
        now = self._clock()
        if self.finished:
            quick = _TASK_SECONDS * self.finished / (max(1, workers) * (now - self._since))
            self._size = max(1, min(int(quick), 2 * self._size, _MOST_IN_A_TASK))
        self.finished, self._since = 0, now
        return self._size


def _done(future: Future, items: list[Item]) -> int:
    """How many of the task's items are done; raises what one of them raised."""
    if future.status in ("finished", "lost"):
        return len(items)  # lost: finished, but its worker died before the client knew; the result is a file
    if future.status == "cancelled":
        raise WorkerLost("the Dask scheduler was lost with its tasks under way")
    error = future.exception()
    if isinstance(error, Rest):
        return int(error.args[0])
    words = f"{items[0]}" + (f" and {len(items) - 1} that go with it" if len(items) > 1 else "")
    if isinstance(error, KilledWorker):
        raise WorkerLost(f"{words}: {error.allowed_failures + 1} workers died, one after the other")
    if isinstance(error, InputError | TaskFailed | WorkerLost):
        raise error
    raise TaskFailed(f"{words}\n{type(error).__name__}: {error}")


def _pass_on(
    on_progress: Callable[[Any, int, int], None], under_way: dict[str, list[Any]], event: tuple[float, Any]
) -> None:
    _, (key, number, done, total) = event
    if key in under_way:
        on_progress(under_way[key][number], done, total)


def _interrupt() -> NoReturn:
    raise Interrupted


def _stop_all(client: Client, run: str, futures: list[Future]) -> None:
    """Start no more tasks of this run, and wait for those that are running; where it works, nobody does any more."""
    if client.status != "running":
        return
    with regardless_of_loss():
        client.cancel(futures)
        while any(client.run(stop, run, on_error="ignore").values()):
            time.sleep(0.1)


def is_loss(error: BaseException) -> bool:
    """Whether the other side of a connection is gone. Where it closes before TLS begins, tornado says so by a
    ValueError."""
    return isinstance(error, LOST) or (isinstance(error, ValueError) and str(error).startswith("IOStream is not idle"))


@contextmanager
def regardless_of_loss() -> Iterator[None]:
    """What is done within ends where the other side of the connection is gone."""
    try:
        yield
    except (*LOST, ValueError) as error:
        if not is_loss(error):
            raise


def sentence(error: BaseException | str) -> str:
    """An error of Dask's or Slurm's on one line."""
    return " ".join(str(error).split()) or type(error).__name__
