"""Sharpness at the checkpoint: how much higher the loss gets within a small distance, as far as the grid shows.

Each is the largest over grid points, so a lower bound of the largest over the landscape's subspace, which is one of
what the papers maximise over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        the grid does not reach as far or has no other point there, where a loss there is not finite, and where f(θ*) is
        −1 or less: losses with such values have no rise in parts of 1 + f.

    References
    ----------
    Keskar et al., *On Large-Batch Training for Deep Learning* (2017), metric 2.1, on the grid's subspace.
    """
    rise = _rise(values, coordinates, _grid(coordinates, np.maximum, 0.0, np.abs), radius)
    return None if rise is None or rise[1] <= -1 else 100 * rise[0] / (1 + rise[1])


def ball_sharpness(
    values: ArrayLike,
    coordinates: Sequence[NDArray[np.float64]],
    radius: float = RADIUS,
    metric: NDArray[np.float64] | None = None,
) -> float | None:
    """How much higher the loss gets within a ball around the checkpoint.

    With directions as long as the parameters it is what sharpness-aware minimisation bounds, ρ being `radius` ‖θ*‖;
    with `adaptive_metric` the adaptive one, which scaling a filter or tensor of the parameters leaves alone.

    Parameters
    ----------
    values
        The losses on a grid, whose directions are orthogonal where no metric is given.
    coordinates
        Of its axes.
    radius
        Of the ball, in their unit.
    metric
        (n, n), so that α'Mα is a squared length.

    Returns
    -------
    float or None
        max over √(α'Mα) ≤ radius of f − f(θ*), in units of the loss; None as for `box_sharpness`, but for any f(θ*).

    References
    ----------
    Foret et al., *Sharpness-Aware Minimization* (2021), eq. 1. Kwon et al., *ASAM* (2021), eq. 3.
    """
    squares = _grid(coordinates, np.add, 0.0, np.square)
    if metric is not None:
        at = np.meshgrid(*coordinates, indexing="ij", sparse=True)
        parts = (metric[i, j] * at[i] * at[j] for i, j in np.ndindex(metric.shape))
        squares = np.maximum(sum(parts, np.zeros_like(squares)), 0.0)
    rise = _rise(values, coordinates, np.sqrt(squares), radius)
    return None if rise is None else rise[0]


def adaptive_metric(vectors: Mapping[str, NDArray[np.generic]], by_filter: bool) -> NDArray[np.float64]:
    """M, so that α'Mα is the mean over filters or tensors b of ‖Δθ_b‖² / ‖θ*_b‖²: the squared length of ASAM's T⁻¹Δθ,
    over the number of filters or tensors.

    Parameters
    ----------
    vectors
        By parameter name, (n, *parameter shape): directions whose every filter or tensor is as long as that of θ*.
    by_filter
        Whether filters are, or tensors.

    Returns
    -------
    numpy.ndarray
        (n, n). Its diagonal is 1 where no direction lacks a filter or tensor.

    References
    ----------
    Kwon et al., *ASAM* (2021), eq. 3, with T of filters or tensors.
    """
    total, blocks = 0.0, 0
    for vector in vectors.values():
        rows = vector.shape[1] if by_filter and vector.ndim > 2 else 1
        parts = np.ascontiguousarray(vector).reshape(len(vector), rows, -1)
        inner = np.einsum("ibk,jbk->bij", parts, parts.conj()).real.astype(np.float64)
        square = np.diagonal(inner, axis1=1, axis2=2).max(axis=1)
        there = square > 0
        blocks += int(there.sum())
        total = total + (inner[there] / square[there, None, None]).sum(axis=0)
    return np.asarray(total / max(blocks, 1), np.float64)


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
