"""The grid: axes, points, shards and stencils. Pure geometry, in one place; numpy only.

Points are numbered in C order (the last axis runs fastest) with int64 flat ids. The coordinate of a point is the
displacement alpha that is used, nothing else: theta(alpha) = theta* + sum_i alpha_i u_i.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.registry import CONNECTIVITIES

Connectivity = str
"""Which vertices of a grid are neighbours: one of the names in `CONNECTIVITIES`."""
MOST_NEIGHBOURS = 7_000
"""Of a point. Beyond, a merge tree looks at more neighbours than such a grid has points."""


@dataclass(frozen=True)
class Axis:
    """Equally spaced coordinates, both ends included.

    Attributes
    ----------
    lower, upper
        Of the range, as alphas: in units of the direction.
    count
        How many there are.
    """

    lower: float
    upper: float
    count: int

    def __post_init__(self) -> None:
        if not isinstance(self.count, int | np.integer) or isinstance(self.count, bool) or self.count < 1:
            raise InputError(f"count is {self.count!r}; give a whole number of points, 1 or more")
        for name in ("lower", "upper"):
            bound = getattr(self, name)
            if not isinstance(bound, float | int | np.floating | np.integer) or not np.isfinite(bound):
                raise InputError(f"{name} is {bound!r}; give a finite number")

    @classmethod
    def of_landscaper(cls, distance: float, count: int) -> Axis:
        """The points at which Landscaper 1.3.1 evaluates, but for the rounding of its sums.

        They are (i − count // 2) · distance / (count / 2). For an odd count its ends lie at (count − 1) / count of the
        distance that it writes on the axis.

        Parameters
        ----------
        distance
            As Landscaper calls it, in units of the direction.
        count
            How many steps.

        Returns
        -------
        Axis
        """
        step = distance / (count / 2)
        return cls(-(count // 2) * step, (count - 1 - count // 2) * step, count)

    def coordinates(self) -> NDArray[np.float64]:
        """The coordinates.

        Returns
        -------
        (count,) alphas. Exactly antisymmetric for a symmetric range, so that an odd count has an exact 0 in the middle;
        a single point lies in the middle of the range.
        """
        if self.count == 1:
            return np.array([(self.lower + self.upper) / 2])
        weights = np.arange(self.count) / (self.count - 1)
        coordinates: NDArray[np.float64] = weights[::-1] * self.lower + weights * self.upper
        return coordinates


def nested_steps(shape: tuple[int, ...]) -> list[int]:
    """Steps between the points of the grids that are nested in one of this shape, the coarsest first and 1 last.

    Each grid has half the intervals of the next along every axis, an odd number of points, so that the middle stays,
    and at least 5.
    """
    steps = [1]
    while all((k - 1) % (4 * steps[-1]) == 0 and (k - 1) // (2 * steps[-1]) >= 4 for k in shape):
        steps.append(2 * steps[-1])
    return steps[::-1]


LATTICE = 4
"""Every so manieth vertex along each axis is where a search for the lowest part of a grid begins."""


def lattice_size(shape: tuple[int, ...]) -> int:
    """How many vertices of a grid of this shape the lattice has."""
    return math.prod(-(-k // LATTICE) for k in shape)


@dataclass(frozen=True)
class Shard:
    """A box of grid points, `start` (inclusive) to `stop` (exclusive) per axis, and its place in the shard grid."""

    index: tuple[int, ...]
    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def region(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))


@dataclass(frozen=True)
class Grid:
    """A full tensor grid of axes, each with its own range and count.

    Attributes
    ----------
    axes
        One for each direction.
    """

    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Points along each axis."""
        return tuple(axis.count for axis in self.axes)

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.axes)

    @property
    def size(self) -> int:
        """How many points there are."""
        return math.prod(self.shape)

    def coordinates(self) -> list[NDArray[np.float64]]:
        """Where its points are, axis by axis.

        Returns
        -------
        One array of alphas for each axis.
        """
        return [axis.coordinates() for axis in self.axes]

    def corners(self) -> NDArray[np.float64]:
        """The lowest and the highest alpha of every axis.

        Returns
        -------
        (2, n)
        """
        return np.array([(c.min(), c.max()) for c in self.coordinates()]).T

    def points(self, shard: Shard) -> NDArray[np.float64]:
        """Where the points of a shard are.

        Parameters
        ----------
        shard
            Of this grid.

        Returns
        -------
        (shard.size, ndim) alphas, in C order.
        """
        pieces = [c[s] for c, s in zip(self.coordinates(), shard.region, strict=True)]
        return np.stack(np.meshgrid(*pieces, indexing="ij"), axis=-1).reshape(-1, self.ndim)

    def checkpoint_index(self) -> tuple[int, ...] | None:
        """Where the checkpoint is.

        Returns
        -------
        The index of the point with all coordinates 0, or None where it is not on the grid.
        """
        found = [np.flatnonzero(c == 0.0) for c in self.coordinates()]
        return tuple(int(f[0]) for f in found) if all(len(f) for f in found) else None

    def shard_shape(self, points: int) -> tuple[int, ...]:
        """The largest box of at most so many points that is a run of whole trailing axes.

        Such boxes keep the odometer of the evaluation long (its inner axes are whole) and the chunks contiguous.

        Parameters
        ----------
        points
            The most of a shard.

        Returns
        -------
        The shard's points along each axis.
        """
        shape = [1] * self.ndim
        for d in reversed(range(self.ndim)):
            room = max(1, points // math.prod(shape))
            if room < self.shape[d]:
                # equal pieces instead of one short last piece
                pieces = -(-self.shape[d] // room)
                shape[d] = -(-self.shape[d] // pieces)
                break
            shape[d] = self.shape[d]
        return tuple(shape)

    def n_shards(self, shard_shape: tuple[int, ...]) -> int:
        """How many shards of a shape there are.

        Parameters
        ----------
        shard_shape
            Points along each axis.

        Returns
        -------
        int
        """
        return math.prod(-(-k // s) for k, s in zip(self.shape, shard_shape, strict=True))

    def shards(self, shard_shape: tuple[int, ...]) -> Iterator[Shard]:
        """All shards of the grid in C order of their index.

        Parameters
        ----------
        shard_shape
            Points along each axis; those at the upper ends may be smaller.

        Returns
        -------
        An iterator of `Shard`.
        """
        counts = [-(-k // s) for k, s in zip(self.shape, shard_shape, strict=True)]
        for index in itertools.product(*map(range, counts)):
            start = tuple(i * s for i, s in zip(index, shard_shape, strict=True))
            stop = tuple(min(a + s, k) for a, s, k in zip(start, shard_shape, self.shape, strict=True))
            yield Shard(index, start, stop)


@dataclass(frozen=True)
class Neighbours:
    """A connectivity: the offsets from a vertex to its neighbours.

    `count(ndim)` is how many there are, before they are made; `offsets(ndim)`, shape (m, ndim), has components −1, 0
    and 1, not all 0, and with each offset its negative. A new one is such a value and its row in `CONNECTIVITIES`.
    """

    count: Callable[[int], int]
    offsets: Callable[[int], NDArray[np.int64]]


def _along_axes(ndim: int) -> NDArray[np.int64]:
    forward = np.eye(ndim, dtype=np.int64)
    return np.concatenate([-forward, forward[::-1]])


def _products(ndim: int, *steps: tuple[int, ...]) -> NDArray[np.int64]:
    found = itertools.chain(*(itertools.product(step, repeat=ndim) for step in steps))
    offsets = np.array(list(found), dtype=np.int64).reshape(-1, ndim)
    return np.ascontiguousarray(offsets[offsets.any(axis=1)])


AXIS = Neighbours(lambda n: 2 * n, _along_axes)
FREUDENTHAL = Neighbours(lambda n: 2 * (2**n - 1), lambda n: _products(n, (-1, 0), (0, 1)))
"""The edges of the Freudenthal (Kuhn) triangulation, whose offsets have components all in {0, 1} or all in {0, −1}."""
FULL = Neighbours(lambda n: 3**n - 1, lambda n: _products(n, (-1, 0, 1)))


def stencil(connectivity: Connectivity, ndim: int) -> NDArray[np.int64]:
    """Offsets to a vertex's neighbours, shape (m, ndim), in lexicographic order.

    `axis`: 2n; `freudenthal`: 2 (2^n - 1); `full`: 3^n - 1. InputError for a name that is none, and where these are
    more than `MOST_NEIGHBOURS`.
    """
    neighbours: Neighbours = CONNECTIVITIES.load(connectivity)
    count = neighbours.count(ndim)
    if count > MOST_NEIGHBOURS:
        raise InputError(
            f"connectivity {connectivity} gives every point of a grid of {ndim} axes {count:,} neighbours, more than "
            f"{MOST_NEIGHBOURS:,}; choose axis, which gives it {2 * ndim}"
        )
    offsets = neighbours.offsets(ndim)
    return np.ascontiguousarray(offsets[np.lexsort(offsets.T[::-1])])
