"""How many evaluations a search for the lowest part of a landscape will take, before they are spent."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.grid import LATTICE, Connectivity, lattice_size, stencil
from landscaper_hpc.sampling.lowest import lattice_of, seek_minima
from landscaper_hpc.sampling.sample import Evaluate, Sample
from landscaper_hpc.topology.merge import merge_tree

_MOST_VALUES = 2_000_000
_MOST_MINIMA, _DRAWN, _FEW = 200, 2000, 10
_RANDOM = 0.01
"""The share of the grid that random descents may take, see `lowest`."""


def from_lattice(
    lattice: NDArray[np.float64],
    shape: tuple[int, ...],
    connectivity: Connectivity,
    share: float | None,
    below: float | None,
    descents: int | None = None,
) -> float:
    """From the losses on the lattice, which are interpolated between: the share of vertices that lie below the level
    or have a neighbour there, by random ones; with the lattice, its descents, and what random ones may take."""
    from scipy.ndimage import map_coordinates

    offsets = stencil(connectivity, len(shape))
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, shape, (max(1000, _MOST_VALUES // (len(offsets) + 1)), len(shape)))
    finite = np.where(np.isnan(lattice), np.inf, lattice)
    finite = np.minimum(finite, finite[np.isfinite(finite)].max(initial=0.0))

    def values(at: NDArray[np.int64], of: NDArray[np.float64] = finite) -> NDArray[np.float64]:
        found: NDArray[np.float64] = map_coordinates(of, at.T / LATTICE, order=1, mode="nearest")
        return found

    own = values(drawn)
    if below is not None:
        # between points of the lattice it is lower than they tell; what share of them lies below is not biased
        share = max(float(values(drawn, (lattice < below).astype(np.float64)).mean()), 0.5 / lattice.size)
    assert share is not None
    level = float(np.quantile(own, share))
    reached = own < level
    for offset in offsets:
        at = drawn + offset
        inside = ((at >= 0) & (at < shape)).all(axis=1) & ~reached
        reached[inside] = values(at[inside]) < level
    points, known = math.prod(shape), lattice_size(shape)
    # a descent looks around at two strides, and walks about as far again
    each = 3 * len(offsets)
    walked: float = each * merge_tree(lattice, connectivity).n_minima
    walked += _RANDOM * points if descents is None else each * descents
    return min(points, points * float(reached.mean()) * (1 - known / points) + known + walked)


def from_descents(
    evaluate: Evaluate,
    shape: tuple[int, ...],
    connectivity: Connectivity,
    share: float | None,
    below: float | None,
    descents: int | None = None,
) -> float | None:
    """From what descents from the lattice's minima met as well. For a share: how many vertices lie about a level for
    each below it, by the ellipsoids that the minima and their neighbours make; basins may be narrower than the lattice.
    For a level: as `from_lattice`, or where only a few vertices of the lattice lie there, the geometric mean of that
    and of what these ellipsoids hold.

    `evaluate` raises `LookupError` for what is not known; so does this. None where no minimum lies below the level.
    """
    sample, lattice = Sample(evaluate, shape, connectivity), lattice_of(shape)
    met = np.unique(seek_minima(sample, lattice))
    values = np.where(np.isnan(sample.values[lattice]), np.inf, sample.values[lattice])
    by_lattice = None
    if below is None:
        assert share is not None
        level = _quantile(values, _weights(shape), share)
    else:
        level, by_lattice = below, from_lattice(values, shape, connectivity, None, below, descents)
        if np.count_nonzero(values < below) >= _FEW:
            return by_lattice
    minima = met[sample.values[met] < level]
    if not len(minima) or not math.isfinite(level):
        return None
    minima = minima[:: -(-len(minima) // _MOST_MINIMA)]
    centre, radius = _ellipsoids(sample, minima, level)
    inside, about = _counted(sample, centre, radius)
    points = math.prod(shape)
    if share is not None and inside > share * points:  # they are flatter at the bottom
        inside, about = _counted(sample, centre, radius * (share * points / inside) ** (1 / len(shape)))
    part = inside / points if share is None else share
    walked = _RANDOM * points if descents is None else 3 * sample.neighbours * descents
    flooded = points * min(1.0, part * about / inside) * (1 - sample.evaluated / points)
    found = min(points, flooded + sample.evaluated + walked)
    return found if by_lattice is None else math.sqrt(found * by_lattice)


def _weights(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """What share of all vertices each of the lattice stands for, where between them it is interpolated."""
    found = np.ones(())
    for length in shape:
        place = np.arange(length) / LATTICE
        of = np.arange(-(-length // LATTICE))
        along = np.maximum(0.0, 1 - np.abs(np.minimum(place, of[-1])[:, None] - of)).mean(axis=0)
        found = np.multiply.outer(found, along)
    return found


def _quantile(values: NDArray[np.float64], weights: NDArray[np.float64], share: float) -> float:
    order = np.argsort(values, axis=None)
    below = np.cumsum(weights.reshape(-1)[order])
    return float(values.reshape(-1)[order][min(int(np.searchsorted(below, share, side="right")), len(order) - 1)])


def _ellipsoids(
    sample: Sample, minima: NDArray[np.int64], level: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where minima lie, (m, n), and the half axes up to a level of the ellipsoids about them, (m, n), as differences
    from their neighbours have them."""
    lengths, n = np.array(sample.shape), len(sample.shape)
    centre = np.stack(np.unravel_index(minima, sample.shape), axis=1)
    own = sample.values[minima]
    rises = np.full((2, *centre.shape), np.nan)
    for side, axis in np.ndindex(2, n):
        at = centre.copy()
        at[:, axis] += 2 * side - 1
        there = (at[:, axis] >= 0) & (at[:, axis] < lengths[axis])
        rises[side, there, axis] = sample.values[np.ravel_multi_index(tuple(at[there].T), sample.shape)] - own[there]
    known = ~np.isnan(rises)
    rise = np.where(known, rises, 0.0).sum(axis=0) / np.maximum(1, np.count_nonzero(known, axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        radius = np.sqrt((level - own)[:, None] / rise)
    return centre, np.clip(np.where(np.isnan(radius), np.inf, radius), 1e-9, lengths)


def _counted(sample: Sample, centre: NDArray[np.int64], radius: NDArray[np.float64]) -> tuple[float, float]:
    """How many vertices lie in ellipsoids, and how many in these or beside: by random ones."""
    lengths, n = np.array(sample.shape), len(sample.shape)
    reach = np.floor(radius).astype(np.int64) + 1
    drawn = np.random.default_rng(0).integers(-reach[:, None], reach[:, None] + 1, (len(centre), _DRAWN, n))

    def lie_inside(away: NDArray[np.int64]) -> NDArray[np.bool_]:
        at = centre[:, None] + away
        on_grid = ((at >= 0) & (at < lengths)).all(axis=2)
        return np.asarray(on_grid & (((away / radius[:, None]) ** 2).sum(axis=2) < 1), np.bool_)

    at = centre[:, None] + drawn
    on_grid = ((at >= 0) & (at < lengths)).all(axis=2)
    inner = lie_inside(drawn)
    near = inner.copy()
    for offset in stencil(sample.connectivity, n):
        near |= on_grid & lie_inside(drawn + offset)
    each = np.prod(2.0 * reach + 1, axis=1) / _DRAWN
    return max(float(each @ inner.sum(axis=1)), float(len(centre))), float(each @ near.sum(axis=1))


def of_a_ball(shape: tuple[int, ...], share: float) -> float:
    """Where nothing is known: as if all that lies below the level were one ball, which no part of a grid that is not
    one takes fewer for."""
    d, points = len(shape), math.prod(shape)
    unit: float = math.pi ** (d / 2) / math.gamma(d / 2 + 1)
    radius: float = (share * points / unit) ** (1 / d)
    return min(points, unit * (radius + 1) ** d + lattice_size(shape) + _RANDOM * points)
