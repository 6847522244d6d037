"""What hangs where there are no shards yet, or before a process may begin with them, is refused in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from landscaper_hpc.errors import InputError
from landscaper_hpc.progress import Progress
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.watch import TIMES_THE_MEDIAN, Hung, Limit, watched
from landscaper_hpc.work.watchdog import Place

if TYPE_CHECKING:
    from landscaper_hpc.objective.objective import Objective

PATIENCE = 3600.0
"""Seconds that a call of the loss may take before anybody knows how long one takes, where the site does not say."""

_TIMES = 20  # as long as a shard, where the site says how long one may take

SOME = "some losses away from the checkpoint"
RECORDED = "losses that were recorded when the study began"


@contextmanager
def refused_if_it_hangs(
    landscape: Landscape, objective: Objective, what: str = SOME, hung: Path | None = None
) -> Iterator[Callable[[], None]]:
    """`InputError` where the loss, or a step of what says that it gets on, takes much longer than the site lets a shard
    take. In a process that cannot go on the file `hung` is left, and whoever does the same next is refused."""
    limit = Limit(landscape.site, PATIENCE / (_TIMES * TIMES_THE_MEDIAN), _TIMES)
    place = Place(hung or landscape.inside.resume / f"{landscape.name}.hung", f"{what}: ")
    if (why := place.taken()) is not None:
        raise hangs(landscape, why)
    try:
        with watched(limit, place) as gets_on:

            def tell() -> None:
                gets_on()
                own.still()

            own, objective.gets_on = landscape.heartbeat, tell
            yield gets_on
    except Hung as caught:
        raise hangs(landscape, f"{what}: {caught}") from None


def hangs(what: object, why: str) -> InputError:
    """The refusal of what hangs: `why` is where, with the way there in the lines below."""
    first, *stack = why.splitlines() or ["it hangs"]
    error = InputError(f"{what}: {first}; mend what hangs in the task, or give it more time")
    error.traceback = "\n".join(stack)
    return error


def getting_on(gets_on: Callable[[], None], progress: Progress) -> Progress:
    """A progress that also says so to who watches."""

    def report(done: int, total: int) -> None:
        gets_on()
        progress(done, total)

    return report
