"""The lowest part of a landscape of all data, from losses on few of them: all are evaluated where a value decides.

What all data add to the loss of few varies slowly, and is interpolated between the vertices where both are known. The
search goes by the loss of few corrected so; then all data are evaluated at what its tree stands on, and at what cannot
be told apart from that: its minima and saddles, their neighbours as high within the error, and the vertices at the
level within the error. That is repeated until nothing of this is left, so that the tree no longer changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscaper_hpc.grid import Connectivity
from landscaper_hpc.sampling.lowest import Lowest, refuse_bad_scope, search
from landscaper_hpc.sampling.rounds import OnRound
from landscaper_hpc.sampling.sample import Evaluate, Sample

_FIRST, _PROBES = 16, 4
"""Vertices below the level that are drawn at random: in the first round, and in every later one."""
_GROWS = 2
"""A round evaluates up to a share 1 / 2 of what is known, of what it might need: the error falls meanwhile."""
_SURE = 2.0
"""Errors are taken to be so many times their root mean square."""
_CENTRES = 3000
"""Of an interpolation by all known vertices; with more the nearest ones are taken."""
_NEAREST = 32


@dataclass(frozen=True)
class OfAllData:
    """The lowest part of a landscape of all data.

    Attributes
    ----------
    lowest
        As it was found: its minima and saddles, and what decides about them, have their losses on all data.
    ids, losses
        The vertices where all data were evaluated, which grow, and what was found.
    evaluated
        At how many vertices the few data were evaluated.
    error
        What the corrected losses of the other vertices are off by: twice the root mean square at those that the last
        round evaluated, before it knew them.
    """

    lowest: Lowest
    ids: NDArray[np.int64]
    losses: NDArray[np.float64]
    evaluated: int
    error: float

    @property
    def sure(self) -> int:
        """Pairs more persistent than twice the error: no field that is off by no more lacks them (Cohen-Steiner,
        Edelsbrunner, Harer, *Stability of persistence diagrams*, 2007)."""
        tree = self.lowest.tree
        return int(np.count_nonzero((tree.parent >= 0) & (tree.death_value - tree.values > 2 * self.error)))

    def sentence(self) -> str:
        """What all data were evaluated at, and what that is good for, in words."""
        return (
            f"all data were evaluated at {len(self.ids):,} points whose losses decide, few batches at "
            f"{self.evaluated:,}, whose corrected losses are off by {self.error:.3g}: that may hide or move pairs that "
            f"are no more persistent than twice that, and move the level; {self.sure:,} are"
            " more persistent"
        )


def lowest_of_all_data(
    few: Evaluate,
    whole: Evaluate,
    shape: tuple[int, ...],
    *,
    share: float | None = None,
    below: float | None = None,
    connectivity: Connectivity = "axis",
    start: ArrayLike = (),
    descents: int | None = None,
    seed: int = 0,
    watch: Callable[[Sample], OnRound] | None = None,
) -> OfAllData:
    """The lowest part of a landscape, of all data, from losses on few of them and all of them where that decides.

    Parameters
    ----------
    few, whole
        The losses on few of the data, and on all, as in `lowest`: neither is asked for a vertex twice.
    shape, share, below, connectivity, start, descents, seed
        As in `lowest`.
    watch
        Gives, for the sample of each search, what is called after every round of evaluations.

    Returns
    -------
    OfAllData
        The same for any way in which `few` and `whole` work.

    Raises
    ------
    InputError
        As `lowest`.
    """
    refuse_bad_scope(shape, share, below, None, descents)
    known = _Remembered(few, shape)
    corrected = _Corrected(known, whole, shape)
    generator = np.random.default_rng(seed)
    started = np.asarray(start, np.int64).reshape(-1)
    while True:
        corrected.fit()
        sample = Sample(corrected, shape, connectivity)
        found = search(sample, share, below, None, started, descents, seed, watch and watch(sample))
        asked = _deciding(sample, found, corrected, generator)
        if not len(asked):
            return OfAllData(found, corrected.ids, corrected.losses, known.evaluated, corrected.error)
        corrected.learn(asked, sample.values[asked])


def _deciding(
    sample: Sample, found: Lowest, corrected: _Corrected, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Where all data are to be evaluated next; nowhere once nothing is left that decides."""
    tree, error = found.tree, corrected.error
    critical = np.concatenate([tree.minima, tree.death, tree.first_saddle])
    critical = np.unique(critical[critical >= 0])
    must = critical[~corrected.has(critical)]
    rest = np.setdiff1d(found.ids, np.concatenate([corrected.ids, must]), assume_unique=True)
    if not len(corrected.ids):
        return np.union1d(must, _some(rest, _FIRST, generator))
    may = np.concatenate([sample.like(critical, error), sample.known_within(found.level, error)])
    may = np.setdiff1d(may, np.concatenate([corrected.ids, must]))
    asked = np.union1d(must, _some(may, max(_FIRST, len(corrected.ids) // _GROWS), generator))
    return np.union1d(asked, _some(np.setdiff1d(rest, asked), _PROBES, generator)) if len(asked) else asked


def _some(ids: NDArray[np.int64], most: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return ids if len(ids) <= most else generator.choice(ids, most, replace=False)


class _Remembered:
    """Losses at vertices that are asked for again and again, each evaluated once."""

    def __init__(self, evaluate: Evaluate, shape: tuple[int, ...]) -> None:
        self._evaluate = evaluate
        self._values = np.empty(int(np.prod(shape, dtype=np.int64)))
        self._known = np.zeros(len(self._values), bool)
        self.evaluated = 0

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        new = ids[~self._known[ids]]
        if len(new):
            self._values[new] = self._evaluate(new)
            self._known[new] = True
            self.evaluated += len(new)
        found: NDArray[np.float64] = self._values[ids]
        return found


class _Corrected:
    """The losses on all data where they are known, elsewhere those on few with the difference interpolated."""

    def __init__(self, few: Evaluate, whole: Evaluate, shape: tuple[int, ...]) -> None:
        self._few, self._whole, self._shape = few, whole, shape
        self.ids, self.losses, self.error = np.empty(0, np.int64), np.empty(0), np.inf
        self._difference = np.empty(0)

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        values: NDArray[np.float64] = self._few(ids) + self._interpolated(ids)
        there = self.has(ids)
        values[there] = self.losses[np.searchsorted(self.ids, ids[there])]
        return values

    def has(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """At which vertices all data were evaluated."""
        return np.isin(ids, self.ids)

    def learn(self, ids: NDArray[np.int64], expected: NDArray[np.float64]) -> None:
        """Evaluate all data at vertices that are not known, of which something was expected."""
        losses = np.asarray(self._whole(ids), np.float64)
        with np.errstate(invalid="ignore"):
            off = losses - expected
            difference = losses - self._few(ids)
        off = off[np.isfinite(off)]
        centre = 0.0 if len(self.ids) or not len(off) else float(off.mean())
        self.error = _SURE * float(np.sqrt(np.mean((off - centre) ** 2))) if len(off) else 0.0
        order = np.argsort(np.concatenate([self.ids, ids]), kind="stable")
        self.ids = np.concatenate([self.ids, ids])[order]
        self.losses = np.concatenate([self.losses, losses])[order]
        self._difference = np.concatenate([self._difference, difference])[order]

    def fit(self) -> None:
        """Interpolate between all that is known now."""
        from scipy.interpolate import RBFInterpolator

        finite = np.isfinite(self._difference)
        places, values = self._places(self.ids[finite]), self._difference[finite]
        nearest = None if len(values) <= _CENTRES else _NEAREST
        self._rbf: RBFInterpolator | None = None
        if len(values) > len(self._shape) + 1:
            try:
                self._rbf = RBFInterpolator(places, values, kernel="cubic", neighbors=nearest)
                self._rbf(places[:1])
                return
            except np.linalg.LinAlgError:  # all in one plane, where a linear part is not told
                pass
        if len(values):
            self._rbf = RBFInterpolator(places, values, kernel="linear", degree=0, neighbors=nearest)

    def _interpolated(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        if self._rbf is None or not len(ids):
            return np.zeros(len(ids))
        found: NDArray[np.float64] = self._rbf(self._places(ids))
        return found

    def _places(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.stack(np.unravel_index(ids, self._shape), axis=1).astype(np.float64)
