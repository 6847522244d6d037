"""What hangs where there are no shards yet, or before a process may begin with them, is refused in words."""

from __future__ import annotations

import glob
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.errors import InputError
from landscaper_hpc.progress import Progress
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.watch import TIMES_THE_MEDIAN, Hung, Limit, watched
from landscaper_hpc.work.watchdog import Place

if TYPE_CHECKING:
    from landscaper_hpc.objective.objective import Objective

log = logging.getLogger(__name__)

PATIENCE = 3600.0
"""Seconds that a call of the loss may take before anybody knows how long one takes, where the site does not say."""

_TIMES = 20  # as long as a shard, where the site says how long one may take

LOADING = "loading the task, its data and the checkpoint"
TOLD_AFTER = 60.0
"""Seconds of loading after which it is told that it takes long: until it has ended, nothing else is told."""
SOME = "some losses away from the checkpoint"
RECORDED = "losses that were recorded when the study began"


@contextmanager
def refused_if_it_hangs(
    landscape: Landscape, objective: Objective | None, what: str = SOME, hung: Path | None = None
) -> Iterator[Callable[[], None]]:
    """`InputError` where the loss, or a step of what says that it gets on, takes much longer than the site lets a shard
    take. In a process that cannot go on a file named like `hung` is left, and whoever does the same next is refused,
    unless the study, its task or the time that it may take has changed since."""
    limit = Limit(landscape.site, PATIENCE / (_TIMES * TIMES_THE_MEDIAN), _TIMES)
    place = Place(left_of(landscape, hung or landscape.inside.resume / landscape.name), f"{what}: ")
    if (why := place.taken()) is not None:
        raise hangs(landscape, why, before=True)
    try:
        with watched(limit, place) as gets_on:

            def tell() -> None:
                gets_on()
                own.still()

            own = landscape.heartbeat
            if objective is not None:
                objective.gets_on = tell
            yield gets_on
    except Hung as caught:
        raise hangs(landscape, f"{what}: {caught}") from None


@contextmanager
def loading_in_time(landscape: Landscape) -> Iterator[None]:
    """`InputError` where what is loaded inside takes much longer than the site lets a shard take."""
    told = threading.Timer(TOLD_AFTER, log.warning, ("%s: %s takes long, and is waited for", landscape, LOADING))
    told.daemon = True
    told.start()
    try:
        with refused_if_it_hangs(landscape, None, LOADING):
            yield
    finally:
        told.cancel()


def left_of(landscape: Landscape, name: Path) -> Path:
    """The file that is left of what hung, by all that may be mended; those left before a change are removed."""
    own = name.with_name(f"{name.name}.{_decides(landscape)}.hung")
    for other in name.parent.glob(f"{glob.escape(name.name)}.{'?' * 16}.hung"):
        if other != own:
            with suppress(OSError):  # gone, or another user's
                other.unlink()
    return own


@lru_cache(maxsize=8)
def _decides(landscape: Landscape) -> str:
    study = landscape.study
    return canonical_sha256([study.model_dump(mode="json"), study.task_sha256(), str(landscape.site.shard_timeout)])[
        :16
    ]


def hangs(what: object, why: str, before: bool = False) -> InputError:
    """The refusal of what hangs: `why` is where, with the way there in the lines below. `before`: in another process,
    which had to be ended."""
    first, *stack = why.splitlines() or ["it hangs"]
    then = ", and run the same command again: a process before this one was ended for it" if before else ""
    said = f"{what}: {first}; mend what hangs in the task, or give it more time{then}"
    return InputError(said, "\n".join(stack))


def getting_on(gets_on: Callable[[], None], progress: Progress) -> Progress:
    """A progress that also says so to who watches."""

    def report(done: int, total: int) -> None:
        gets_on()
        progress(done, total)

    return report
