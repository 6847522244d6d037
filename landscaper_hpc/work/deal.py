"""One pool of shards of many studies: what is missing is found as it is asked for, and never listed in full."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from landscaper_hpc.work.campaign import Plan
from landscaper_hpc.work.landscape import ShardItem

WorkItem = ShardItem | Plan
"""A shard to evaluate, or a study with all its shards to finish."""


class Deal:
    """Deals items from rows. Whoever takes from a row goes on with it, and helps others when no row is left untouched.

    An executor that knows its workers asks with `take(place)`, any other iterates; both may be told of items that come
    before all others while they go on.
    """

    def __init__(self, rows: Iterable[Iterator[WorkItem]], urgent: deque[WorkItem]) -> None:
        self._untouched = iter(rows)
        self._urgent = urgent
        self._at: dict[int, Iterator[WorkItem]] = {}

    def take(self, place: int) -> WorkItem | None:
        """The next item for the worker at `place`; None where there is none now."""
        if self._urgent:
            return self._urgent.popleft()
        if place in self._at and (item := next(self._at[place], None)) is not None:
            return item
        for row in itertools.chain(self._untouched, list(self._at.values())):
            if (item := next(row, None)) is not None:
                self._at[place] = row
                return item
        return None

    def __iter__(self) -> Iterator[WorkItem]:
        while (item := self.take(0)) is not None:
            yield item


class Pool:
    """The shards of `plans`, and with `finish` also the finishing of each as soon as its last shard is there: up to its
    merge trees where more is asked for."""

    def __init__(self, plans: Sequence[Plan], finish: bool, on_points: Callable[[int, int], None]) -> None:
        """`on_points(done, total)` is called with the number of points."""
        self._plans = {plan.folder: plan for plan in plans}
        self._finish = finish
        self._on_points = on_points
        self._left: dict[Path, int] = {}
        self._urgent: deque[WorkItem] = deque()
        self._points = self._total = 0

    def missing(self) -> Deal | None:
        """What is missing now, or None where nothing is. Shards that failed too often are left out."""
        self._points = self._total = 0
        self._left.clear()
        self._urgent.clear()
        pending = []
        for plan in self._plans.values():
            if self._finish and plan.grown():
                size = plan.study.make_grid().size * len(plan.landscapes)
                self._points += size
                self._total += size
                continue
            stores = [item.open() for item in plan.landscapes]
            counts = [(store.n_done(), store.n_shards(), store.grid.size) for store in stores]
            self._total += sum(size for _, _, size in counts)
            # shards differ in size only at the edges
            self._points += sum(size * done // shards for done, shards, size in counts)
            if left := sum(shards - done for done, shards, _ in counts):
                self._left[plan.folder] = left
                pending.append(plan)
            elif self._finish:
                self._urgent.append(plan)
        self._on_points(self._points, self._total)
        deal = Deal((plan.pending() for plan in pending), self._urgent)
        first = deal.take(0)
        if first is None:
            return None
        self._urgent.appendleft(first)
        return deal

    def on_done(self, item: WorkItem) -> None:
        """Count, and let a study be finished that has all its shards."""
        if isinstance(item, Plan):
            return
        self._points = min(self._points + item.shard.size, self._total)
        self._on_points(self._points, self._total)
        folder = item.landscape.inside.path
        self._left[folder] -= 1
        # a shard that failed was counted and is not there
        if self._finish and not self._left[folder] and self._plans[folder].evaluated():
            self._urgent.append(self._plans[folder])
