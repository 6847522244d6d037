"""Sharpness at the checkpoint: how much higher the loss gets within a small distance, as far as the grid shows.

Each is the largest over grid points, so a lower bound of the largest over the landscape's subspace, which is one of
what the papers maximise over.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

RADIUS = 0.05
"""Of the box and the balls, in units of the normalised directions: of the length of θ*, or of each filter or tensor."""


def box_sharpness(
    values: ArrayLike, coordinates: Sequence[NDArray[np.float64]], radius: float = RADIUS
) -> float | None:
    """ε-sharpness: how much higher the loss gets within a box, as a percentage of 1 + the loss at the checkpoint.

    Parameters
    ----------
    values
        The losses on a grid.
    coordinates
        Of its axes.
    radius
        Of the box, in their unit.

    Returns
    -------
    float or None
        100 (max over |αᵢ| ≤ radius of f − f(θ*)) / (1 + f(θ*)); None where the checkpoint is not on the grid, where
        the grid does not reach as far or has no other point there, or where a loss there is not finite.

    References
    ----------
    Keskar et al., *On Large-Batch Training for Deep Learning* (2017), metric 2.1, on the grid's subspace.
    """
    rise = _rise(values, coordinates, _grid(coordinates, np.maximum, 0.0, np.abs), radius)
    return None if rise is None else 100 * rise[0] / (1 + rise[1])


def ball_sharpness(
    values: ArrayLike, coordinates: Sequence[NDArray[np.float64]], radius: float = RADIUS
) -> float | None:
    """How much higher the loss gets within a ball around the checkpoint.

    With directions as long as the parameters it is what sharpness-aware minimisation bounds, ρ being `radius` ‖θ*‖;
    with directions as long as each filter or tensor it is near the adaptive one, which scaling the parameters leaves
    alone: such directions are not quite orthogonal, and the ball is one of coordinates.

    Parameters
    ----------
    values
        The losses on a grid whose directions are orthogonal.
    coordinates
        Of its axes.
    radius
        Of the ball, in their unit.

    Returns
    -------
    float or None
        max over ‖α‖ ≤ radius of f − f(θ*), in units of the loss; None as for `box_sharpness`.

    References
    ----------
    Foret et al., *Sharpness-Aware Minimization* (2021), eq. 1. Kwon et al., *ASAM* (2021), eq. 3.
    """
    rise = _rise(values, coordinates, np.sqrt(_grid(coordinates, np.add, 0.0, np.square)), radius)
    return None if rise is None else rise[0]


def _grid(
    coordinates: Sequence[NDArray[np.float64]], join: np.ufunc, start: float, of: np.ufunc
) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.full(1, start)
    for along in coordinates:
        found = join(found[..., None], of(along))
    return np.asarray(found[0], np.float64)


def _rise(
    values: ArrayLike, coordinates: Sequence[NDArray[np.float64]], distance: NDArray[np.float64], radius: float
) -> tuple[float, float] | None:
    losses = np.asarray(values, np.float64)
    origin = tuple(int(np.argmin(np.abs(c))) for c in coordinates)
    slack = radius * (1 + 1e-9)
    if any(c[i] != 0 for c, i in zip(coordinates, origin, strict=True)):
        return None
    if any(min(-c[0], c[-1]) * (1 + 1e-9) < radius or np.count_nonzero(np.abs(c) <= slack) < 3 for c in coordinates):
        return None
    near = losses[distance <= slack]
    if not np.isfinite(near).all():
        return None
    here = float(losses[origin])
    return float(near.max()) - here, here
