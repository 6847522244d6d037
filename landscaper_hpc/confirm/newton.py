"""Trust-region Newton within a box, to where the loss has a minimum.

The model is a quadratic, its region the intersection of the box with a cube, its minimum there exact (`quadratic`), so
that faces of the box and directions of negative curvature need no cases of their own. Between exact Hessians the model
learns from gradients by the symmetric rank-one update; no search ends but by an exact one.

Conn, Gould, Toint, *Trust Region Methods* (2000), chapters 6 and 12; Byrd, Khalfan, Schnabel, *Analysis of a symmetric
rank-one trust region method*, SIAM J. Optim. 6 (1996).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from landscaper_hpc.confirm.quadratic import lowest
from landscaper_hpc.confirm.surface import Answer, Array, Box, Request, Search

STEP = 1e-5
"""In steps of the grid: a search ends where the next Newton step would be no longer."""
_RADIUS, _LARGEST, _SMALLEST = 0.5, 1.0, 1e-8
_SURE, _FAR = 0.1, 8.0
_MOST = 200
_SEEN = 8.0  # roundings: a difference of values below so many tells nothing


class Stop(NamedTuple):
    """Where a search ended, in steps: `point` (n,), `value`, `gradient` (n,), `hessian` (n, n), exact; `settled`: the
    next step would be shorter than `STEP`, or would gain no more than rounding."""

    point: Array
    value: float
    gradient: Array
    hessian: Array
    settled: bool


def newton(
    start: Array,
    box: Box,
    rounding: float,
    *,
    model: Array | None = None,
    radius: float = _RADIUS,
    largest: float = _LARGEST,
) -> Search[Stop]:
    """Follow the loss down from a point of the box to a minimum in it.

    Parameters
    ----------
    start
        (n,), in steps.
    box
        What is never left.
    rounding
        Relative error of a value.
    model
        (n, n), a first Hessian; without, the exact one is asked for.
    radius, largest
        The first and the largest length of a step along any axis.

    Returns
    -------
    Stop
        Not settled where the values did not go down as any model of them said: at a kink, say.
    """
    x = np.clip(start, 0, box.far)
    here = yield Request(x[None])
    f, g = float(here.values[0]), here.gradients[0]
    if not np.isfinite(f) or not np.isfinite(g).all():
        return Stop(x, f, g, np.full((len(x), len(x)), np.nan), False)
    exact = model is None
    H = (yield _hessian(x)).hessians[0] if model is None else model
    for _ in range(_MOST):
        if not np.isfinite(H).all():
            return Stop(x, f, g, H, False)
        lower, upper = np.maximum(-x, -radius), np.minimum(box.far - x, radius)
        step, fall = lowest(g, H, lower, upper)
        noise = _SEEN * rounding * abs(f)
        if np.abs(step).max() <= STEP or -fall <= noise * 1e-2:
            if exact:
                return Stop(x, f, g, H, radius > _SMALLEST)
            H, exact = (yield _hessian(x)).hessians[0], True
            radius = max(radius, STEP * 10)
            continue
        there = within(x, step, box)
        step = there - x
        answer: Answer = yield Request(there[None])
        value, slope = float(answer.values[0]), answer.gradients[0]
        if not np.isfinite(value) or not np.isfinite(slope).all():
            radius = np.abs(step).max() / 4
        else:
            fallen = f - value
            if abs(fall) < 1e3 * noise:  # the values say little: what the slopes say, by the trapezoidal rule
                fallen = -float((g + slope) @ step) / 2
            ratio = fallen / -fall
            improved, H_exact = rank_one(H, step, slope - g), False
            if ratio < 0.25:
                radius = float(np.abs(step).max()) / 4
            elif ratio > 0.75 and np.abs(step).max() > 0.9 * radius:
                # further than one step of the grid only where the model holds: in a straight valley, say
                radius = min(2 * radius, largest if abs(ratio - 1) > _SURE else _FAR * largest)
            H, exact = improved, H_exact
            if ratio > 0.05:
                x, f, g = there, value, slope
        if radius <= _SMALLEST:
            break
    H = (yield _hessian(x)).hessians[0]
    return Stop(x, f, g, H, False)


def within(x: Array, step: Array, box: Box) -> Array:
    """x + step, exactly on a face where it comes to within rounding of it."""
    there = x + step
    there = np.where(there <= 1e-12, 0.0, there)
    return np.where(there >= box.far - 1e-12, box.far, there)


def rank_one(H: Array, step: Array, change: Array) -> Array:
    """The symmetric rank-one update: a Hessian that would have made this `change` of the gradient over the `step`."""
    off = change - H @ step
    along = float(off @ step)
    if abs(along) <= 1e-8 * np.linalg.norm(off) * np.linalg.norm(step):
        return H
    updated: Array = H + np.outer(off, off) / along
    return updated


def _hessian(x: Array) -> Request:
    return Request(x[None], hessian=True)
