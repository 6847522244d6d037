"""The carrier of runs that one client conducts: a mapper does what can be done side by side, the client all else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from landscaper_hpc.progress import Bars
from landscaper_hpc.work import stages
from landscaper_hpc.work.answering import Question, answer_all
from landscaper_hpc.work.deal import Pool
from landscaper_hpc.work.executor import Mapper, until_done
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.points import Points, evaluate_points
from landscaper_hpc.work.scope import is_found, seek

T = TypeVar("T")


class Mapped:
    """`stages.Carrier` by a mapper."""

    def __init__(self, mapper: Mapper, bars: Bars) -> None:
        self._mapper = mapper
        self.bars = bars

    def each(self, items: Sequence[T], do: Callable[[Mapper, Sequence[T]], None]) -> None:
        do(self._mapper, items)

    def evaluate(self, shards: stages.Shards) -> None:
        pool = Pool(shards.plans, shards.apart, partial(self.bars.update, "points"))
        until_done(self._mapper, stages.do_item, pool.missing, on_progress=None, on_done=pool.on_done)

    def seek(self, landscapes: Sequence[Landscape]) -> None:
        for item in landscapes:
            if not is_found(item):
                seek(item, partial(self.deal, item=item), item.site.planned_workers(), self.bars)

    def deal(self, pieces: Sequence[Points], item: Landscape) -> None:
        """Have sparse shards of a landscape evaluated until none is open."""

        def missing() -> list[Points] | None:
            return [piece for piece in pieces if piece.is_open()] or None

        until_done(self._mapper, evaluate_points, missing, on_progress=None, on_done=lambda piece: None)
        stages.refuse_quarantined([item])

    def once(self, do: Callable[[], T]) -> T:
        return do()

    def release(self) -> None:
        self._mapper.close()

    def tree(self, item: Landscape) -> None:
        stages.topology(item, self.bars)

    def answer(self, questions: Sequence[Question], landscapes: Sequence[Landscape]) -> None:
        answer_all(questions, landscapes, self._mapper, self.bars, landscapes[0].site.planned_workers())
