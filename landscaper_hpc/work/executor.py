"""What carries a run: a mapper maps a function over items for one client, a launcher starts processes that do stages.

Both are registered by name (`landscaper_hpc.registry.EXECUTORS`); a site's `executor:` names one.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from landscaper_hpc.errors import InputError, WorkerLost
from landscaper_hpc.progress import Progress

if TYPE_CHECKING:
    from landscaper_hpc.study.site import Site
    from landscaper_hpc.work.campaign import Campaign

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Dealt = TypeVar("Dealt", covariant=True)
Made = TypeVar("Made")

Function = Callable[[Item, Progress], None]
"""What is done with an item: picklable, idempotent, returns nothing; its results go to files that appear whole."""

_LOST_IN_A_ROW = 3


@runtime_checkable
class Dealer(Protocol[Dealt]):
    """Items for mappers that know which of their workers asks: some items suit some workers better than others."""

    def take(self, place: int) -> Dealt | None:
        """An item for the worker at `place` (0, 1, …), None where there is none now; one that ends may bring more."""
        ...


class Losses:
    """Of workers that went on with what is missing, or were begun anew, so far."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def another(self, lost: WorkerLost, advanced: bool) -> None:
        """One more; `advanced`: whether a task has been finished since the one before. `InputError` after a few in a
        row without."""
        log.warning("%s; going on with what is missing", lost)
        self._in_a_row = 0 if advanced else self._in_a_row + 1
        if self._in_a_row == _LOST_IN_A_ROW:
            raise InputError(lost.again_and_again(self._in_a_row)) from None


@contextmanager
def stopping(why: BaseException, tasks: int, at_once: Callable[[], object]) -> Iterator[None]:
    """Inside, what is under way is waited for; Ctrl-C does `at_once` whenever it comes, and after a first one that is
    said. A consumer's Ctrl-C closes the iterator: then it is the context of `why`."""
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGINT, lambda *_: at_once())
    try:
        if tasks and (isinstance(why, KeyboardInterrupt) or isinstance(why.__context__, KeyboardInterrupt)):
            count = f"{tasks} task{'s' if tasks > 1 else ''}"
            waits = f"stopping when what is under way has ended ({count}); Ctrl-C again: at once, without it"
            print(f"landscaper-hpc: {waits}", file=sys.stderr, flush=True)
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


class Mapper(Protocol):
    """Maps a function over items: in this process, in others, or on other machines."""

    def map_unordered(
        self,
        function: Function[Item],
        items: Iterable[Item],
        on_progress: Callable[[Item, int, int], None] | None = None,
    ) -> Generator[Item, None, None]:
        """Run `function(item, progress)` for every item at least once and yield each item when it has finished.

        `on_progress(item, done, total)` is called with what is reported of it. `InputError` from the function is
        raised as it is; anything else as `TaskFailed`; a dead worker as `WorkerLost`. Closing the iterator lets
        running items finish and starts no more; so does Ctrl-C, and a second one ends them where they are.
        """
        ...

    def close(self) -> None:
        """Give back what the mapper holds. It may be used again."""
        ...


@dataclass(frozen=True)
class Asked:
    """What a user asks of a run beside its result.

    `retry_failed`: quarantined shards get new attempts. `part`: one part only (`stages.PARTS`). `detach`: end as soon
    as others go on by themselves.
    """

    retry_failed: bool = False
    part: str | None = None
    detach: bool = False


@runtime_checkable
class Launcher(Protocol):
    """Has processes do the stages of a run, or conducts the jobs that do them."""

    def launch(self, campaign: Campaign, site: Site, asked: Asked) -> bool:
        """Run a campaign to its end, or as far as is asked; whether that was reached, and this process is the one to
        tell. `InputError` for what is asked and cannot be had this way."""
        ...

    def broadcast(self, make: Callable[[Callable[[], bool] | None], Made]) -> Made:
        """What one of the processes that run this program makes, in all of them.

        `make` is given what tells it to stop waiting for another run in its folder; None: not to wait at all.
        """
        ...


def until_done(
    mapper: Mapper,
    function: Function[Item],
    missing: Callable[[], Iterable[Item] | None],
    on_progress: Callable[[Item, int, int], None] | None,
    on_done: Callable[[Item], None],
) -> None:
    """Map over what is missing and ask again, until nothing is; a worker that dies takes nothing else with it."""
    losses = Losses()
    while (items := missing()) is not None:
        finished = 0
        try:
            with closing(mapper.map_unordered(function, items, on_progress)) as results:
                for item in results:
                    finished += 1
                    on_done(item)
        except WorkerLost as lost:
            losses.another(lost, bool(finished))
