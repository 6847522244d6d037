"""What every mapper promises: a function is mapped over items, by this process, by others, or by other machines."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Protocol, TypeVar, runtime_checkable

from landscaper_hpc.progress import Progress

Item = TypeVar("Item")
Dealt = TypeVar("Dealt", covariant=True)

Function = Callable[[Item, Progress], None]
"""What is done with an item: picklable, idempotent, returns nothing; its results go to files that appear whole."""


@runtime_checkable
class Dealer(Protocol[Dealt]):
    """Items for mappers that know which of their workers asks: some items suit some workers better than others."""

    def take(self, place: int) -> Dealt | None:
        """An item for the worker at `place` (0, 1, …), None where there is none now; one that ends may bring more."""
        ...


class WorkerLost(Exception):
    """A worker died (killed, out of memory) and took unfinished items with it; the others may have finished."""


class Mapper(Protocol):
    def map_unordered(
        self,
        function: Function[Item],
        items: Iterable[Item],
        on_progress: Callable[[Item, int, int], None] | None = None,
    ) -> Generator[Item, None, None]:
        """Run `function(item, progress)` for every item at least once and yield each item when it has finished.

        `on_progress(item, done, total)` is called with what is reported of it. `InputError` from the function is
        raised as it is; anything else as `TaskFailed`; a dead worker as `WorkerLost`. Closing the iterator lets
        running items finish and starts no more.
        """
        ...

    def close(self) -> None:
        """Give back what the mapper holds. It may be used again."""
        ...
