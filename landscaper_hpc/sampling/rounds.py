"""How far the search of the lowest part goes, and what it is told to evaluate at a time: floods and random descents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.sampling.descents import descend
from landscaper_hpc.sampling.sample import Sample

_DESCENTS = 300
_DESCENTS_SHARE = 0.01
_SURE = 0.8
"""Of the share that is asked for: up to that of the lattice's values the flood needs not be careful."""
_FEWEST = 64
_AT_ONCE = 4
"""Random descents that begin together, at the least: more of them where half of the room allows it, as a round of
evaluations takes a while however few they are."""

OnRound = Callable[[int, float], None]
"""Told after every round how many vertices are known, and the level below which all that was found is complete."""


class Rounds:
    """How far a flood goes, and what it is told to evaluate at a time."""

    def __init__(
        self, sample: Sample, share: float | None, below: float | None, points: int | None, on_round: OnRound | None
    ) -> None:
        self.evaluated: dict[str, int] = {}
        self._sample = sample
        self._share = share
        self._wanted = None if share is None else int(share * sample.size)
        self._points = points
        self._level = np.inf if below is None else below
        self._on_round = on_round

    def level(self) -> float:
        """The level up to which the flood goes as far as is known now; it only falls."""
        if self._points is not None:
            return self._sample.front_level()
        if self._wanted is not None:
            values = self._sample.values[self._sample.low()]
            if len(values) > self._wanted:
                self._level = float(np.partition(values, self._wanted)[self._wanted])
        self._sample.lower_ceiling(self._level)
        return self._level

    def flood(self, sure: NDArray[Any] | None = None) -> None:
        """Flood to the level. `sure`: values of the lattice, in order; with them a budget is not used up."""
        sample = self._sample
        if self._points is not None:
            budget = self._points if sure is None else int(_SURE * self._points)
            while (left := budget - sample.evaluated) >= sample.neighbours:
                if not self._one_round(max(1, left // (4 * sample.neighbours)), np.inf):
                    return
            return
        if self._share is not None and sure is not None:
            level = float(sure[int(_SURE * self._share * len(sure))])
            while self._one_round(sample.size, min(level, self.level())):
                pass
        while True:
            level = self.level()
            most = sample.size
            if self._wanted is not None:
                flooded = int(np.count_nonzero(sample.is_flooded(sample.low())))
                most = max(_FEWEST, (self._wanted - flooded) // 4)
            if not self._one_round(most, level):
                return

    def random_descents(self, asked: int | None, seed: int) -> tuple[int, int]:
        """How many there were, and how many ended in a minimum below the level that had not been met."""
        sample, level = self._sample, self.level()

        def is_met(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
            return sample.is_flooded(ids) & (sample.values[ids] < level)

        most = _DESCENTS if asked is None else asked
        starts = np.random.default_rng(seed).integers(sample.size, size=most)
        room = np.inf if asked is not None else sample.evaluated + _DESCENTS_SHARE * sample.size
        room = min(room, np.inf if self._points is None else self._points)
        done, missed, at_once, before = 0, 0, _AT_ONCE, sample.evaluated
        while done < most and sample.evaluated < room:
            some = starts[done : done + at_once]
            sample.take(some)
            ends = descend(sample, some, stop=is_met)
            done += len(some)
            missed += int(np.count_nonzero((sample.values[ends] < level) & ~is_met(ends)))
            each = max(1, sample.evaluated - before) / done
            at_once = int(min(most, max(_AT_ONCE, (room - sample.evaluated) / (2 * each))))
        return done, missed

    def end(self, phase: str) -> None:
        """Count what was evaluated since the last phase."""
        before = sum(self.evaluated.values())
        self.evaluated[phase] = self.evaluated.get(phase, 0) + self._sample.evaluated - before

    def _one_round(self, most: int, level: float) -> int:
        count = self._sample.flood(most, level)
        if count and self._on_round is not None:
            self._on_round(self._sample.evaluated, self._sample.front_level())
        return count
