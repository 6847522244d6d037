"""What a study asks for beside its merge trees: work of small batches, dealt out, and the answer that is made of them.

A batch is a task like a shard: picklable, idempotent, its arrays appear whole in the folder `resume`, by a name that is
a hash of all that decides them. A run that was stopped goes on from there.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.digests import canonical_sha256, with_digest, without_digest
from landscaper_hpc.errors import InputError, RankRaised, WorkerLost
from landscaper_hpc.files import publish
from landscaper_hpc.progress import Bars, Progress, silent
from landscaper_hpc.store.answers import Answer
from landscaper_hpc.store.layout import METRICS
from landscaper_hpc.work.executor import Function, Item, Losses, Mapper, until_done
from landscaper_hpc.work.group import in_time
from landscaper_hpc.work.hangs import hangs
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.loaded import worker_for
from landscaper_hpc.work.ranks_say import RankFailed
from landscaper_hpc.work.watch import Hung, Limit
from landscaper_hpc.work.watchdog import Place

log = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Batch(ABC):
    """Some points of one landscape, `starts` (k, …), what is done with them (`what`), and what else decides it."""

    landscape: Landscape
    what: str
    starts: NDArray[np.float64]
    decides: tuple[Any, ...]

    @cached_property
    def file(self) -> Path:
        """The file that gets what is found."""
        starts = np.ascontiguousarray(self.starts, "<f8")
        own = [*self.decides, self.what, list(starts.shape), hashlib.sha256(starts.tobytes()).hexdigest()]
        name = f"{self.landscape.name}.{self.what.replace(' ', '_')}.{canonical_sha256(own)[:16]}.npz"
        return self.landscape.inside.resume / name

    @abstractmethod
    def find(self) -> Arrays:
        """What is asked: this process says what is `computed`."""

    def computed(self, function: Callable[..., T], points: float, *given: Any) -> T:
        """`function(landscape, *given)` in this process, and in all that hold the model with it: as much work as so
        many losses. Raise `Hung` in what takes much longer than the site lets a shard take; where that is not possible,
        leave why for the next one to do this batch, before the process ends."""
        usual = worker_for(self.landscape).limit.usual  # where it is loaded, that is watched itself
        times = max(1, math.ceil(points / self._points_of_a_shard))
        return in_time(function, self.landscape, Limit(self.landscape.site, usual, times), self.hung, *given)

    @cached_property
    def _points_of_a_shard(self) -> int:
        return math.prod(self.landscape.open().shard_shape)

    @property
    def hung(self) -> Place:
        """Where it is left that it hung, and in what."""
        return Place(self.file.with_suffix(f".{self.landscape.site.shard_timeout}.hung"), "")

    def read(self) -> Arrays | None:
        """What was found, where it is there as it was written. What is damaged is removed, and so done again."""
        content = without_digest(self.file.read_bytes()) if self.file.exists() else b""
        if content:
            with np.load(io.BytesIO(content), allow_pickle=False) as found:
                return dict(found)
        if content is None:
            log.warning("%s: is damaged; what it held is done again", self.file)
            self.file.unlink(missing_ok=True)
        return None

    def __str__(self) -> str:
        return f"{self.landscape}, {self.what}"


Deal = Callable[[Sequence[Batch]], list[Arrays]]
"""Has batches done, and reads what they found, in their order."""


class Question(NamedTuple):
    """`name`: of its group in the store (`store.layout.ANSWERS`), and the origin of its rows among the quantities.
    `answer` makes the answer for a landscape that has its merge tree."""

    name: str
    answer: Callable[[Landscape, Deal], Answer]


_MANY = 4
"""So many landscapes for each process keep all busy to the end, near enough."""


def answer_all(
    questions: Sequence[Question], landscapes: Sequence[Landscape], mapper: Mapper, bars: Bars, processes: int = 1
) -> None:
    """Answer what is asked of finished landscapes, by a mapper with so many processes: with batches of one landscape
    after another dealt out, or with whole landscapes where there are many, as each has to be loaded where it is worked
    on."""
    if 1 < processes * _MANY <= len(landscapes):
        _answer_each(questions, landscapes, mapper, bars)
    else:
        answer_by(questions, landscapes, dealt_by(mapper, bars))


def dealt_by(mapper: Mapper, bars: Bars) -> Deal:
    """Has batches done by a mapper."""
    return partial(_deal, mapper=mapper, bars=bars)


def _answer_each(questions: Sequence[Question], landscapes: Sequence[Landscape], mapper: Mapper, bars: Bars) -> None:
    open_ones = partial(_unanswered, questions)
    _do_all(mapper, partial(_answer_one, questions), landscapes, open_ones, bars, "landscapes with their answers")


def _answer_one(questions: Sequence[Question], item: Landscape, progress: Progress) -> None:
    _answer(questions, item, done_here)


def answer_by(questions: Sequence[Question], landscapes: Sequence[Landscape], deal: Deal) -> None:
    """Answer what is asked of finished landscapes, with batches dealt out as `deal` does; of the last one first, which
    processes hold that have evaluated all of them in order."""
    for item in reversed(landscapes):
        _answer(questions, item, deal)


def done_here(batches: Sequence[Batch]) -> list[Arrays]:
    """Do batches in this process, and read what they found. Where one of those that hold the model with it is lost, a
    batch is done again, with others."""
    losses, advanced = Losses(), False

    def done(batch: Batch) -> Arrays:
        nonlocal advanced
        while (found := batch.read()) is None:
            try:
                do_batch(batch, silent)
                advanced = True
            except WorkerLost as lost:
                losses.another(lost, advanced)
                advanced = False
        return found

    return list(map(done, batches))


def do_batch(batch: Batch, progress: Progress) -> None:
    """Do a batch and publish what it finds. Does nothing where that is there. `InputError` where it hangs, or did so in
    a process that could not go on."""
    if batch.file.exists():
        return
    if (why := batch.hung.taken()) is not None:
        raise hangs(batch, why, before=True)
    batch.landscape.heartbeat.begin_phase(f"{batch.what} of {batch.landscape.name}")
    content = io.BytesIO()
    try:
        arrays: dict[str, Any] = batch.find()
    except Hung as hung:
        raise hangs(batch, str(hung)) from None
    except (RankFailed, RankRaised) as error:
        raise InputError(f"{batch}: {error}", error.traceback) from None
    np.savez(content, **arrays)
    publish(batch.file, with_digest(content.getvalue()))


def label_of(batches: Sequence[Batch]) -> str:
    """What progress of batches is called."""
    return f"{batches[0].what} of {batches[0].landscape.name}"


def _deal(batches: Sequence[Batch], mapper: Mapper, bars: Bars) -> list[Arrays]:
    if not batches:
        return []
    found: list[Arrays | None] = [None]
    while any(one is None for one in found):
        _do_all(mapper, do_batch, batches, lambda batch: not batch.file.exists(), bars, label_of(batches))
        found = [batch.read() for batch in batches]
    return [one for one in found if one is not None]


def _do_all(
    mapper: Mapper,
    function: Function[Item],
    items: Sequence[Item],
    is_open: Callable[[Item], object],
    bars: Bars,
    label: str,
) -> None:
    """Have a mapper do those of the items that are open, until none is."""
    done = 0

    def missing() -> list[Item] | None:
        nonlocal done
        left = [item for item in items if is_open(item)]
        done = len(items) - len(left)
        bars.update(label, done, len(items))
        return left or None

    def on_done(item: Item) -> None:
        nonlocal done
        done += 1
        bars.update(label, min(done, len(items)), len(items))

    until_done(mapper, function, missing, None, on_done)


def _answer(questions: Sequence[Question], item: Landscape, deal: Deal) -> None:
    asked = item.study.asked()
    for question in _unanswered(questions, item):
        item.inside.resume.mkdir(parents=True, exist_ok=True)
        item.open().write_answer(question.name, asked[question.name], question.answer(item, deal))


def _unanswered(questions: Sequence[Question], item: Landscape) -> list[Question]:
    asked = item.study.asked()
    return [one for one in questions if one.name in asked and not _is_answered(item, one.name, asked[one.name])]


def _is_answered(item: Landscape, name: str, asked: dict[str, Any]) -> bool:
    """Whether the answer is there with all numbers that this version tells."""
    from landscaper_hpc.report import quantities

    store = item.open()
    stored = store.answer(name, asked)
    none = () if store.metrics else (f"{name}.{METRICS}.",)  # an earlier version told nothing of metrics
    told = {row.key for row in quantities.ROWS if row.origin == name and not row.key.startswith(none)}
    return stored is not None and stored.numbers.keys() >= told
