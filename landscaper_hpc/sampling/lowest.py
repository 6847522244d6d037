"""The lowest part of a landscape without evaluating the rest: a lattice, descents from its minima, and a flood.

Evaluating every neighbour of every known vertex below a level, until none is left, makes every component that was met
complete: its minima, its basins and its pairs below the level are those of the whole grid. Whether every component was
met, only the whole grid could say; random descents bound what was not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import LATTICE, Connectivity, lattice_size
from landscaper_hpc.sampling.descents import descend
from landscaper_hpc.sampling.restricted import restricted_tree
from landscaper_hpc.sampling.sample import Evaluate, Sample
from landscaper_hpc.topology.merge import merge_tree
from landscaper_hpc.topology.tree import MergeTree

_DESCENTS = 300
_DESCENTS_SHARE = 0.01
_CONFIDENCE = 0.95
_SURE = 0.8
"""Of the share that is asked for: up to that of the lattice's values the flood needs not be careful."""
_FEWEST = 64
_DESCENTS_AT_ONCE = 4

OnRound = Callable[[int, float], None]
"""Told after every round how many vertices are known, and the level below which all that was found is complete."""


@dataclass(frozen=True)
class Lowest:
    """What lies below a level of a landscape, as far as it was met.

    Attributes
    ----------
    tree
        The merge tree within the scope {v : f(v) < level}, see `restricted_tree`.
    level
        In the values' own unit.
    evaluated
        How many vertices are known, by what they were asked for: "lattice", "descents", "flood", "random descents".
    descents, missed
        How many random descents there were, and how many of them ended in a minimum below the level that had not been
        met before. What they found is in the tree.
    unmet
        At most this share of the grid's vertices descends to minima below the level that had not been met before the
        random descents, with a probability of 0.95 (Clopper and Pearson).
    ids, values
        The known vertices below the level, and the field there.
    next_tenth
        About how many more evaluations it takes until there are a tenth more vertices below the level, if what lies
        around these grows with them as surfaces do.
    """

    tree: MergeTree
    level: float
    evaluated: dict[str, int]
    descents: int
    missed: int
    unmet: float
    ids: NDArray[np.int64]
    values: NDArray[np.float64]
    next_tenth: int

    def sentence(self, vertices: int) -> str:
        """What was found, of a grid of so many vertices, and what is known of the rest."""
        known = sum(self.evaluated.values())
        minima, pairs = self.tree.n_minima, int(np.count_nonzero(self.tree.parent >= 0))
        said = (
            f"in the scope, below {self.level:.6g}, {_count(minima, 'minimum', 'minima')} and "
            f"{_count(pairs, 'pair')} were met, and are exact, with {known:,} of {vertices:,} points evaluated"
        )
        if not self.descents:
            return f"{said}; how much was not met is not known, as there were no random descents"
        ended = "none" if not self.missed else f"{self.missed:,}"
        return (
            f"{said}; {ended} of {_count(self.descents, 'random descent')} ended in a minimum below the level that had "
            f"not been met: before them at most {self.unmet:.1%} of the grid descended to such, with a probability of "
            "0.95"
        )


def _count(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def lowest(
    evaluate: Evaluate,
    shape: tuple[int, ...],
    *,
    share: float | None = None,
    below: float | None = None,
    points: int | None = None,
    connectivity: Connectivity = "axis",
    start: ArrayLike = (),
    descents: int | None = None,
    seed: int = 0,
    on_round: OnRound | None = None,
) -> Lowest:
    """The lowest part of a landscape, exact in what was met, from a small part of its points.

    Parameters
    ----------
    evaluate
        Gives the field at some vertices: called with (m,) int64 flat ids (C order) that grow and never come twice,
        returns (m,) real values in any unit.
    shape
        Of the grid.
    share
        Up to the level below which this share of all vertices lies, as far as they are met.
    below
        Up to this level, in the values' own unit.
    points
        As far up as so many evaluations lead, those of lattice and descents among them.
    connectivity
        Which vertices are neighbours.
    start
        Flat ids of vertices whose basins are to be met: the checkpoint's.
    descents
        Number of random descents by which the unmet part is bounded; by default 300, or fewer where those evaluate
        more than a hundredth of the grid.
    seed
        Of their starts.
    on_round
        Called after every round of evaluations.

    Returns
    -------
    Lowest
        The same for any way in which `evaluate` works.

    Raises
    ------
    InputError
        Unless exactly one scope is given, and for values out of range.

    References
    ----------
    Clopper and Pearson, *The use of confidence or fiducial limits illustrated in the case of the binomial* (1934).

    Examples
    --------
    >>> field = np.add.outer(np.linspace(-1, 1, 41) ** 2, np.linspace(-1, 1, 41) ** 2).reshape(-1)
    >>> found = lowest(lambda ids: field[ids], (41, 41), share=0.05)
    >>> found.tree.n_minima, found.tree.n_vertices
    (1, 84)
    """
    refuse_bad_scope(shape, share, below, points, descents)
    sample = Sample(evaluate, shape, connectivity)
    return search(sample, share, below, points, np.asarray(start, np.int64).reshape(-1), descents, seed, on_round)


def search(
    sample: Sample,
    share: float | None,
    below: float | None,
    points: int | None,
    started: NDArray[np.int64],
    descents: int | None,
    seed: int,
    on_round: OnRound | None,
) -> Lowest:
    """`lowest` in a sample that nothing is known of."""
    rounds = _Rounds(sample, share, below, points, on_round)
    lattice = lattice_of(sample.shape)
    sample.take(np.concatenate([lattice.reshape(-1), started]))
    rounds.end("lattice")
    seeds = merge_tree(sample.values[lattice], sample.connectivity).minima
    descend(sample, lattice.reshape(-1)[seeds], LATTICE)
    descend(sample, started)
    rounds.end("descents")
    rounds.flood(sure=np.sort(sample.values[lattice], axis=None))
    rounds.end("flood")
    done, missed = rounds.random_descents(descents, seed)
    rounds.end("random descents")
    rounds.flood()
    rounds.end("flood")
    level = rounds.level()
    sample.lower_ceiling(level)
    ids = np.sort(sample.low())
    values = sample.values[ids]
    return Lowest(
        restricted_tree(sample, ids, level),
        level,
        rounds.evaluated,
        done,
        missed,
        _at_most(missed, done),
        ids,
        values,
        sample.next_tenth(ids),
    )


class _Rounds:
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
        done = missed = 0
        for some in np.split(starts, range(_DESCENTS_AT_ONCE, most, _DESCENTS_AT_ONCE)):
            if sample.evaluated >= room:
                break
            sample.take(some)
            ends = descend(sample, some, stop=is_met)
            done += len(some)
            missed += int(np.count_nonzero((sample.values[ends] < level) & ~is_met(ends)))
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


def lattice_of(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The vertices with which the search begins, as an array of as many dimensions as the grid."""
    steps = np.cumprod((1, *shape[:0:-1]), dtype=np.int64)[::-1]
    along = [step * np.arange(0, k, LATTICE) for k, step in zip(shape, steps, strict=True)]
    return functools.reduce(np.add.outer, along)


def _at_most(missed: int, descents: int) -> float:
    """The upper end of the one-sided interval for a share of which a sample is known."""
    from scipy.stats import beta

    if missed == descents:
        return 1.0
    return float(beta.ppf(_CONFIDENCE, missed + 1, descents - missed))


def refuse_bad_scope(
    shape: tuple[int, ...], share: float | None, below: float | None, points: int | None, descents: int | None
) -> None:
    """`InputError` for a scope that `lowest` does not take."""
    given = {"share": share, "below": below, "points": points}
    named = [f"{name}={value}" for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise InputError(f"{' and '.join(named) or 'no scope'} given; give one of share, below and points")
    if not shape or min(shape) < 1:
        raise InputError(f"shape is {shape}; give the number of points along each axis, at least 1")
    if share is not None and not 0 < share < 1:
        raise InputError(f"share is {share}; give a share of the points between 0 and 1")
    if below is not None and np.isnan(below):
        raise InputError("below is NaN; give a level")
    least = lattice_size(shape)
    if points is not None and points <= least:
        raise InputError(f"points is {points}; give more than the {least} of the lattice with which the search begins")
    if descents is not None and descents < 0:
        raise InputError(f"descents is {descents}; give a number of random descents, 0 or more")
