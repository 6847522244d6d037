"""The gradient flow of a quadratic in a box, exactly: down its own eigenvectors, along faces that hold it.

Which minimum a point leads to is a question about the flow of the loss; a method that follows it in steps by the flow
of a quadratic model needs few of them, and none that is short because a valley is narrow. McIver, Page, J. Chem. Phys.
88 (1988), of reaction paths; corrected as in Hratchian, Schlegel, J. Chem. Phys. 120 (2004).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.confirm.surface import Array

_TIMES = np.linspace(0.0, 1.0, 48)
_FINER = np.linspace(0.0, 1.0, 17)
_OVER = 40.0  # of e-foldings, after which nothing is left


def flow(gradient: Array, hessian: Array, lower: Array, upper: Array, radius: float) -> Array:
    """The way of steepest descent on g·s + ½ s·Hs from s = 0, within lower ≤ s ≤ upper.

    Parameters
    ----------
    gradient, hessian
        (n,) and (n, n), finite; any signs of the eigenvalues.
    lower, upper
        (n,), with lower ≤ 0 ≤ upper.
    radius
        How far it is followed along any axis.

    Returns
    -------
    ndarray
        (k, n): points along it, s = 0 first; the last is where it rests, or has gone so far.
    """
    n = len(gradient)
    at, points = np.zeros(n), [np.zeros((1, n))]
    for _ in range(4 * n):
        slope = gradient + hessian @ at
        free = ~(((at <= lower) & (slope > 0)) | ((at >= upper) & (slope < 0)))
        if not free.any():
            break
        moved = _free(slope[free], hessian[np.ix_(free, free)], radius)
        way = np.repeat(at[None], len(moved), axis=0)
        way[:, free] += moved
        stop = _first_out(way, at, slope, hessian, free, lower, upper, radius)
        if stop is None:
            points.append(way[1:])
            break
        # once more between the last point that is right and the first that is not
        between = way[stop - 1] + _FINER[:, None] * (way[stop] - way[stop - 1])
        last = _first_out(between, at, slope, hessian, free, lower, upper, radius) or len(between) - 1
        at = np.clip(np.clip(between[last], lower, upper), -radius, radius)
        points += [way[1:stop], at[None]]
        if np.abs(at).max() >= radius:
            break
    return np.concatenate(points)


def _free(slope: Array, hessian: Array, radius: float) -> Array:
    """The flow without a box until it rests or is certainly further than the radius, (k, n)."""
    rates, modes = np.linalg.eigh(hessian)
    along = modes.T @ slope
    tiny = 1e-14 * max(float(np.abs(rates).max()), 1e-300)
    leaves, far = (rates <= tiny) & (along != 0), 2 * np.sqrt(len(slope)) * radius
    if leaves.any():
        grows, speed = np.maximum(-rates[leaves], tiny), np.abs(along[leaves])
        until = float((np.log1p(far * grows / speed) / grows).min())
    else:
        until = _OVER / float(rates[rates > tiny].min()) if (rates > tiny).any() else 0.0
    begin = 1e-2 * min(1 / max(float(np.abs(rates).max()), 1e-300), radius / max(float(np.abs(slope).max()), 1e-300))
    growing = begin * (max(until, begin) / begin) ** _TIMES
    times = until * _TIMES if until <= begin else np.concatenate([[0.0], growing])
    exponent = -np.clip(np.outer(times, rates), -600, 600)
    flat = np.abs(rates) <= tiny
    gone = np.where(flat, times[:, None], -np.expm1(exponent) / np.where(flat, 1.0, rates))
    found: Array = -(gone * along) @ modes.T
    return found


def _first_out(
    way: Array,
    at: Array,
    slope: Array,
    hessian: Array,
    free: NDArray[np.bool_],
    lower: Array,
    upper: Array,
    radius: float,
) -> int | None:
    """The first point at which something ends: the radius, the box, or what a face held turns inward."""
    wrong = (np.abs(way) > radius) | (way < lower) | (way > upper)
    out: NDArray[np.bool_] = np.asarray(wrong.any(axis=1))
    if not free.all():
        now = slope[~free] + (way - at) @ hessian[:, ~free]
        out |= (now * np.sign(slope[~free]) < 0).any(axis=1)
    out[0] = False
    first = int(np.argmax(out))
    return first if out[first] else None


def apart(point: Array, way: Array) -> float:
    """How far a point (n,) lies from a polyline (k, n)."""
    if len(way) == 1:
        return float(np.linalg.norm(point - way[0]))
    ends = np.diff(way, axis=0)
    to = point - way[:-1]
    square = np.maximum((ends * ends).sum(axis=1), 1e-300)
    t = np.clip((to * ends).sum(axis=1) / square, 0.0, 1.0)
    return float(np.linalg.norm(to - t[:, None] * ends, axis=1).min())
