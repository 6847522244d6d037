"""A grid of which some vertices are known: what has been evaluated, and the front from which a flood goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import Connectivity, stencil
from landscaper_hpc.sampling import kernels
from landscaper_hpc.topology.readers import array_of, in_working_type

Evaluate = Callable[[NDArray[np.int64]], Any]
"""The values at some vertices, whose flat ids grow and come once: an array of as many real numbers."""


class Sample:
    """The known part of a field on a grid. What is asked for next depends on the values alone, never on who asks.

    Attributes
    ----------
    values
        (vertices,) the field at those that are known, in float64.
    evaluated
        How many are known.
    neighbours
        Of a vertex amid the grid.
    ceiling
        Nothing at or above this level is asked about.

    Memory: nine bytes for every vertex of the grid, whether known or not.
    """

    def __init__(self, evaluate: Evaluate, shape: tuple[int, ...], connectivity: Connectivity) -> None:
        self.shape = shape
        self.connectivity = connectivity
        self.size = int(np.prod(shape, dtype=np.int64))
        self.values = np.empty(self.size)
        self.evaluated = 0
        self._evaluate = evaluate
        self._lengths = np.array(shape, np.int64)
        self._offsets = stencil(connectivity, len(shape))
        self.neighbours = len(self._offsets)
        self._state = np.zeros(self.size, np.uint8)
        self.ceiling = np.inf
        self._low: list[NDArray[np.int64]] = []  # what is known below the ceiling
        self._front = np.empty(0, np.int64)  # of it, what has neighbours that may be unknown

    def take(self, ids: NDArray[np.int64]) -> None:
        """Evaluate those of some vertices that are not known."""
        self._evaluate_asked(np.unique(ids[self._state[ids] == kernels.UNKNOWN]))

    def around(self, ids: NDArray[np.int64], stride: int = 1) -> NDArray[np.int64]:
        """Evaluate all neighbours of known vertices, at a multiple of the usual distance; the lowest of each and its
        neighbours."""
        asked = kernels.unknown_neighbours(ids, stride, self._state, self._lengths, self._offsets)
        self._evaluate_asked(np.sort(asked))
        lowest: NDArray[np.int64] = kernels.lowest_of(ids, stride, self.values, self._lengths, self._offsets)
        return lowest

    def flood(self, most: int, below: float = np.inf) -> int:
        """Evaluate all neighbours of the lowest vertices of the front, which leave it. Returns how many these are: at
        most so many, more where values are equal, none where none lies below a level."""
        values = self.values[self._front]
        level = np.partition(values, most - 1)[most - 1] if most < len(values) else np.inf
        lowest = (values <= level) & (values < below)
        ids, self._front = self._front[lowest], self._front[~lowest]
        self._state[ids] = kernels.FLOODED
        asked = kernels.unknown_neighbours(np.sort(ids), 1, self._state, self._lengths, self._offsets)
        self._evaluate_asked(np.sort(asked))
        return len(ids)

    def front_level(self) -> float:
        """The lowest value of the front: all that was found below it is complete."""
        return float(self.values[self._front].min(initial=np.inf))

    def low(self) -> NDArray[np.int64]:
        """The known vertices below the ceiling, in any order."""
        self._low = [np.concatenate([*self._low, np.empty(0, np.int64)])]
        return self._low[0]

    def like(self, ids: NDArray[np.int64], error: float) -> NDArray[np.int64]:
        """The known neighbours of known vertices whose values differ from theirs by an error at most."""
        near: NDArray[np.int64] = kernels.neighbours_within(
            ids, error, self.values, self._state, self._lengths, self._offsets
        )
        return near

    def known_within(self, level: float, error: float) -> NDArray[np.int64]:
        """The known vertices whose values differ from a level by an error at most."""
        ids = np.flatnonzero(self._state != kernels.UNKNOWN)
        with np.errstate(invalid="ignore"):
            return ids[np.abs(self.values[ids] - level) <= error]

    def lower_ceiling(self, level: float) -> None:
        """From now on nothing at or above this level is asked about."""
        if level < self.ceiling:
            self.ceiling = level
            self._low = [ids[self.values[ids] < level] for ids in self._low]
            self._front = self._front[self.values[self._front] < level]

    def is_flooded(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Of which vertices all neighbours were evaluated by `flood`."""
        flooded: NDArray[np.bool_] = self._state[ids] == kernels.FLOODED
        return flooded

    def first_saddle(self, minimum: int) -> tuple[int, NDArray[np.int64]]:
        """See `kernels.first_saddle`."""
        saddle, needed = kernels.first_saddle(minimum, self.values, self._state, self._lengths, self._offsets)
        return saddle, needed

    def next_tenth(self, ids: NDArray[np.int64]) -> int:
        """About how many evaluations it takes until a tenth more vertices are below a level, of those that are (`ids`,
        which grow): as if what lies around them grew with them as surfaces do."""
        near = np.zeros(self.size, np.uint8)
        near[ids] = kernels.ASKED
        around = len(kernels.unknown_neighbours(ids, 1, near, self._lengths, self._offsets))
        d = len(self.shape)
        return max(1, round((len(ids) + (d - 1) / d * around) / 10))

    def value_range(self) -> tuple[float, float]:
        """The smallest and the largest finite value that is known; NaN where there is none."""
        values = self.values[self._state != kernels.UNKNOWN]
        values = values[np.isfinite(values)]
        return (float(values.min()), float(values.max())) if len(values) else (np.nan, np.nan)

    def graph(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """See `kernels.graph_of`."""
        indptr, indices, way_out = kernels.graph_of(ids, self.values, self._lengths, self._offsets)
        return indptr, indices, way_out

    def _evaluate_asked(self, ids: NDArray[np.int64]) -> None:
        if not len(ids):
            return
        # a copy of the ids: they are whose values come back, whatever becomes of them there
        found = array_of(self._evaluate(ids.copy()), "what evaluate gave")
        if found.shape != ids.shape or found.dtype.kind not in "fiu":
            raise InputError(
                f"evaluate gave {found.dtype} values of shape {found.shape} for {len(ids)} vertices; give that many "
                "real numbers"
            )
        found = in_working_type(found, "what evaluate gave").astype(np.float64, copy=False)
        self.values[ids] = found
        self._state[ids] = kernels.KNOWN
        self.evaluated += len(ids)
        new = ids[found < self.ceiling]
        self._low.append(new)
        self._front = np.concatenate([self._front, new])
