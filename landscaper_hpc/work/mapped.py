"""The carrier of runs that one client conducts: a mapper does what can be done side by side, the client all else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from landscaper_hpc.progress import Bars
from landscaper_hpc.work import stages
from landscaper_hpc.work.deal import Pool
from landscaper_hpc.work.executor import Mapper, until_done
from landscaper_hpc.work.landscape import Landscape

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

    def once(self, do: Callable[[], T]) -> T:
        return do()

    def release(self) -> None:
        self._mapper.close()

    def tree(self, item: Landscape) -> None:
        stages.topology(item, self.bars)
