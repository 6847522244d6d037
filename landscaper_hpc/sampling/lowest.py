"""The lowest part of a landscape without evaluating the rest: a lattice, descents from its minima, and a flood.

Evaluating every neighbour of every known vertex below a level, until none is left, makes every component that was met
complete: its minima, its basins and its pairs below the level are those of the whole grid. Whether every component was
met, only the whole grid could say; random descents bound what was not.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import LATTICE, Connectivity, lattice_size
from landscaper_hpc.sampling.bounds import at_most
from landscaper_hpc.sampling.descents import descend
from landscaper_hpc.sampling.restricted import restricted_tree
from landscaper_hpc.sampling.rounds import OnRound, Rounds
from landscaper_hpc.sampling.sample import Evaluate, Sample
from landscaper_hpc.topology.merge import merge_tree
from landscaper_hpc.topology.readers import array_of
from landscaper_hpc.topology.tree import MergeTree


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
    ids, values, labels
        The known vertices below the level, the field there, and which of the tree's minima each descends to.
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
    labels: NDArray[np.int64]
    next_tenth: int

    def sentence(self, vertices: int) -> str:
        """What was found, and what is known of the rest, in words.

        Parameters
        ----------
        vertices
            Of the whole grid.

        Returns
        -------
        str
        """
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
    begun = array_of(start, "start").reshape(-1)
    if begun.size and (begun.dtype.kind not in "iu" or begun.min() < 0 or begun.max() >= math.prod(shape)):
        raise InputError(f"start is {list(begun[:5])}; give flat ids of vertices, from 0 to {math.prod(shape) - 1}")
    sample = Sample(evaluate, shape, connectivity)
    return search(sample, share, below, points, begun.astype(np.int64), descents, seed, on_round)


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
    rounds = Rounds(sample, share, below, points, on_round)
    lattice = lattice_of(sample.shape)
    sample.take(np.concatenate([lattice.reshape(-1), started]))
    rounds.end("lattice")
    seek_minima(sample, lattice)
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
    tree, labels = restricted_tree(sample, ids, level)
    return Lowest(
        tree,
        level,
        rounds.evaluated,
        done,
        missed,
        at_most(missed, done),
        ids,
        values,
        labels,
        sample.next_tenth(ids),
    )


def seek_minima(sample: Sample, lattice: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where descents end that begin at the minima of a lattice, of which what is not known is evaluated."""
    sample.take(lattice.reshape(-1))
    seeds = merge_tree(sample.values[lattice], sample.connectivity).minima
    return descend(sample, lattice.reshape(-1)[seeds], LATTICE)


def lattice_of(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The vertices with which the search begins, as an array of as many dimensions as the grid."""
    steps = np.cumprod((1, *shape[:0:-1]), dtype=np.int64)[::-1]
    along = [step * np.arange(0, k, LATTICE) for k, step in zip(shape, steps, strict=True)]
    return functools.reduce(np.add.outer, along)


def _is_count(count: object) -> bool:
    return isinstance(count, int | np.integer) and not isinstance(count, bool) and bool(count >= 1)


def refuse_bad_scope(
    shape: tuple[int, ...], share: float | None, below: float | None, points: int | None, descents: int | None
) -> None:
    """`InputError` for a scope that `lowest` does not take."""
    given = {"share": share, "below": below, "points": points}
    named = [f"{name}={value}" for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise InputError(f"{' and '.join(named) or 'no scope'} given; give one of share, below and points")
    if not isinstance(shape, tuple | list) or not shape or not all(_is_count(count) for count in shape):
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
