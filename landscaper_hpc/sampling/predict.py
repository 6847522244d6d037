"""How many evaluations a search for the lowest part of a landscape will take, before they are spent."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.grid import LATTICE, Connectivity, lattice_size, stencil
from landscaper_hpc.topology.merge import merge_tree

_MOST_VALUES = 2_000_000
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


def of_a_ball(shape: tuple[int, ...], share: float) -> float:
    """Where nothing is known: as if all that lies below the level were one ball, which no part of a grid that is not
    one takes fewer for."""
    d, points = len(shape), math.prod(shape)
    unit: float = math.pi ** (d / 2) / math.gamma(d / 2 + 1)
    radius: float = (share * points / unit) ** (1 / d)
    return min(points, unit * (radius + 1) ** d + lattice_size(shape) + _RANDOM * points)
