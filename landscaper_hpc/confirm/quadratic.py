"""The lowest point of a quadratic in a box, exactly, whatever its curvature: one linear system for each face.

In more than a few dimensions there are too many faces: then a low point, from which nothing near leads down.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.confirm.surface import Array

_MOST = 8
"""Dimensions whose 3ⁿ faces are compared."""


def lowest(gradient: Array, hessian: Array, lower: Array, upper: Array) -> tuple[Array, float]:
    """The global minimum of g·s + ½ s·Hs over lower ≤ s ≤ upper; in more than 8 dimensions a local one, the lowest of
    those that are met from s = 0 and from there along the most negative curvature, both ways.

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
    if n > _MOST:
        return _low(gradient, hessian, lower, upper)
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


def _low(gradient: Array, hessian: Array, lower: Array, upper: Array) -> tuple[Array, float]:
    """By Newton's method within faces, which are entered and left one at a time: Moré and Toraldo, SIAM J. Optim. 1
    (1991)."""
    rates, modes = np.linalg.eigh(hessian)
    starts = [np.zeros(len(gradient))]
    if rates[0] < 0:
        starts += [_along(starts[0], sign * modes[:, 0], lower, upper, np.inf) for sign in (1.0, -1.0)]
    found = [_descended(start, gradient, hessian, lower, upper) for start in starts]
    values = [float(gradient @ s + s @ hessian @ s / 2) for s in found]
    best = int(np.argmin(values))
    return (found[best], values[best]) if values[best] < 0 else (starts[0], 0.0)


def _descended(s: Array, gradient: Array, hessian: Array, lower: Array, upper: Array) -> Array:
    scale = max(float(np.abs(hessian).max()), 1e-300)
    for _ in range(40 * len(s)):
        slope = gradient + hessian @ s
        free = ~(((s <= lower) & (slope >= 0)) | ((s >= upper) & (slope <= 0)))
        if not free.any():
            break
        rates, modes = np.linalg.eigh(hessian[np.ix_(free, free)])
        along = modes.T @ slope[free]
        nothing = 1e-13 * (float(np.abs(gradient).max()) + scale * float(np.abs(s).max()))
        bent = rates > 1e-14 * scale
        if (np.abs(along[~bent]) > nothing).any():  # it falls without end
            part, most = -modes[:, ~bent] @ along[~bent], np.inf
        elif (np.abs(along) > nothing).any():
            part, most = -modes[:, bent] @ (along[bent] / rates[bent]), 1.0
        elif rates[0] < -1e-14 * scale:  # at rest on a saddle
            part, most = modes[:, 0], np.inf
        else:
            break
        step = np.zeros_like(s)
        step[free] = part
        there = _along(s, step, lower, upper, most)
        if (there == s).all():  # a face that it comes from is in the way: no slope leads there
            step[free] = -slope[free]
            curved = float(step @ hessian @ step)
            there = _along(s, step, lower, upper, float(step @ step) / curved if curved > 0 else np.inf)
        s = there
    return s


def _along(s: Array, step: Array, lower: Array, upper: Array, most: float) -> Array:
    """s + t · step with the largest t ≤ `most` that stays in the box, exactly on the face that it comes to."""
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(step > 0, (upper - s) / step, np.where(step < 0, (lower - s) / step, np.inf))
    t = min(most, float(room.min()))
    there = np.clip(s + t * step, lower, upper)
    hits = room <= t
    found: Array = np.where(hits & (step > 0), upper, np.where(hits & (step < 0), lower, there))
    return found
