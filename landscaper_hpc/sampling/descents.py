"""Steepest descents in parallel on a grid that is known in part."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.sampling.sample import Sample


def descend(
    sample: Sample,
    starts: NDArray[np.int64],
    stride: int = 1,
    stop: Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None = None,
) -> NDArray[np.int64]:
    """Where steepest descents end that begin at known vertices, one for each start.

    At a stride above 1 a vertex's neighbours are those at so many times the usual distance; where none is lower, the
    stride is halved. `stop` says of vertices whether a descent that has come there may end.
    """
    at, strides = starts.copy(), np.full(len(starts), stride)
    walking = np.ones(len(starts), bool)
    while walking.any():
        if stop is not None:
            walking[walking] = ~stop(at[walking])
        for step in np.unique(strides[walking])[::-1]:
            mine = np.flatnonzero(walking & (strides == step))
            places, back = np.unique(at[mine], return_inverse=True)
            lowest = sample.around(places, int(step))[back]
            stays = lowest == at[mine]
            at[mine] = lowest
            strides[mine[stays]] //= 2
        walking &= strides > 0
    return at
