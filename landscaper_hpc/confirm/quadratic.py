"""The lowest point of a quadratic in a box, exactly, whatever its curvature: one linear system for each face."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.confirm.surface import Array


def lowest(gradient: Array, hessian: Array, lower: Array, upper: Array) -> tuple[Array, float]:
    """The global minimum of g·s + ½ s·Hs over lower ≤ s ≤ upper.

    It is a stationary point within some face, or a corner; all are compared. Of several equally low ones the first, in
    an order that does not depend on anything else.

    Parameters
    ----------
    gradient, hessian
        (n,) and (n, n), finite; any signs of the eigenvalues.
    lower, upper
        (n,), with lower ≤ 0 ≤ upper.

    Returns
    -------
    point
        (n,)
    value
        Of the quadratic there, at most 0.
    """
    n = len(gradient)
    faces = _faces(n)
    scale = float(np.abs(hessian).max()) or 1.0
    free = faces == 0
    fixed = np.where(faces < 0, lower, np.where(faces > 0, upper, 0.0))
    # of variables that are fixed the row of the identity, so that all faces are one batch of n × n systems
    both = free[:, :, None] & free[:, None, :]
    matrix = np.where(both, hessian / scale, np.eye(n))
    right = np.where(free, -(gradient + fixed @ hessian) / scale, fixed)
    eigenvalues = np.linalg.eigvalsh(np.where(both, hessian / scale, np.eye(n)))[:, 0]
    usable = eigenvalues > 1e-14
    points = np.zeros_like(right)
    points[usable] = np.linalg.solve(matrix[usable], right[usable][:, :, None])[:, :, 0]
    inside = usable & ((points >= lower) & (points <= upper) | ~free).all(axis=1)
    points = np.where(free, points, fixed)[inside]
    values = points @ gradient + 0.5 * np.einsum("pi,ij,pj->p", points, hessian, points)
    best = int(np.argmin(values))
    if values[best] >= 0:
        return np.zeros(n), 0.0
    return points[best], float(values[best])


@lru_cache
def _faces(n: int) -> NDArray[np.int64]:
    """For each face −1 where a variable is at its lower end, 1 at its upper one, 0 where it is free; (3ⁿ, n)."""
    faces = np.array(list(itertools.product((0, -1, 1), repeat=n)), np.int64)
    return faces[np.argsort(np.abs(faces).sum(axis=1), kind="stable")]
