"""The searches of `jumps`: a trust region that learns from gradients and may jump, and a walk up a valley and over."""

from __future__ import annotations

import numpy as np

from landscaper_hpc.confirm.ends import End, pressed
from landscaper_hpc.confirm.newton import Here, rank_one, within
from landscaper_hpc.confirm.quadratic import lowest
from landscaper_hpc.confirm.surface import Array, Box, Request, Search

REST = 0.05
"""In steps: a descent rests where its model, and then the exact one, would go no further."""
_MOST, _EXACT, _LARGEST, _SMALLEST = 60, 4, 8.0, 1e-5
_WALK, _STEPS = 0.7, 6
"""The length of a step up a valley, and how many there are at most."""


def jump(here: Here, box: Box, rounding: float) -> Search[Here]:
    """Follow the loss down by the longest steps that its model is right about, to where it rests by an exact Hessian.

    Parameters
    ----------
    here
        Where it is; with a value of NaN, where it begins, with nothing known.
    box
        What is never left.
    rounding
        Relative error of a value.

    Returns
    -------
    Here
        Close where it rests; not where values did not go down as any model of them said.
    """
    x, f, g, H, radius = here[:5]
    if np.isnan(f):
        x = np.clip(x, 0, box.far)
        answer = yield Request(x[None])
        f, g = float(answer.values[0]), answer.gradients[0]
        H = np.eye(len(x)) * float(np.linalg.norm(g)) / radius
    if not np.isfinite(f) or not np.isfinite(g).all():
        return Here(x, f, g, np.full_like(H, np.nan), radius, going=False)
    exact, asked = False, 0
    for _ in range(_MOST):
        step, fall = lowest(g, H, np.maximum(-x, -radius), np.minimum(box.far - x, radius))
        if np.abs(step).max() < REST or -fall <= 0.1 * rounding * abs(f):
            if exact or asked == _EXACT:
                return Here(x, f, g, H, 0.25, True, exact)
            H = (yield Request(x[None], hessian=True)).hessians[0]
            exact, asked, radius = True, asked + 1, max(radius, 0.5)
            if not np.isfinite(H).all():
                break
            continue
        there = within(x, step, box)
        step = there - x
        answer = yield Request(there[None])
        value, slope = float(answer.values[0]), answer.gradients[0]
        long = float(np.abs(step).max())
        if not np.isfinite(value) or not np.isfinite(slope).all():
            radius = long / 4
            continue
        H = rank_one(H, step, slope - g)
        gained = (value - f) / fall
        if value < f:
            exact = exact and long < 0.3  # what foresaw a short step is as good as exact
            x, f, g = there, value, slope
        if gained < 0.25:
            radius = long / (4 if gained < -0.5 else 2)
        elif gained > 0.75 and long > 0.9 * radius:
            radius = min(2 * radius, _LARGEST)
        if radius < _SMALLEST or not np.isfinite(H).all():
            break
    return Here(x, f, g, H, 0.25, bool(radius >= _SMALLEST and np.isfinite(H).all()))


def softest(end: End, box: Box) -> Array:
    """The eigenvectors of a minimum along the faces that hold it, the softest first, (k, n)."""
    free = ~pressed(end.point, end.gradient, box)
    found = np.zeros((int(np.count_nonzero(free)), len(free)))
    if len(found):
        found[:, free] = np.linalg.eigh(end.hessian[np.ix_(free, free)])[1].T
    return found


def walk(end: End, way: int, sign: float, box: Box, rounding: float) -> Search[Here]:
    """Walk from a minimum up a valley, to where the loss falls again, and follow it down.

    Parameters
    ----------
    end
        The minimum.
    way
        Which of its eigenvectors, the softest first, leads into the valley.
    sign
        Into which end of it, 1 or -1.
    box, rounding
        As of `jump`.

    Returns
    -------
    Here
        With a value of NaN where the loss did not fall again, or nothing but a face lay that way.
    """
    x, g, H = end.point, end.gradient, end.hessian
    nothing = Here(x, np.nan, g, H, _WALK, going=False)
    along = sign * softest(end, box)[way]
    for i in range(_STEPS):
        along = along / np.abs(along).max()
        step = _WALK * along + (_aside(g, H, along) if i else 0.0)
        there = within(x, np.clip(step, -x, box.far - x), box)
        if np.abs(there - x).max() < 0.2 * _WALK:  # a face is in the way: along that
            along = np.where(((x <= 0) & (along < 0)) | ((x >= box.far) & (along > 0)), 0.0, along)
            if np.abs(along).max() < 0.3:
                return nothing
            along = along / np.abs(along).max()
            there = within(x, np.clip(_WALK * along, -x, box.far - x), box)
        answer = yield Request(there[None])
        value, slope = float(answer.values[0]), answer.gradients[0]
        if not np.isfinite(value) or not np.isfinite(slope).all():
            return nothing
        H = rank_one(H, there - x, slope - g)
        x, g = there, slope
        if g @ along < 0:
            return (yield from jump(Here(x, value, g, H, _WALK), box, rounding))
        modes = np.linalg.eigh(H)[1]
        same = modes.T @ (along / np.linalg.norm(along))
        best = int(np.argmax(np.abs(same)))
        if abs(same[best]) > 0.7:  # the valley bends
            along = modes[:, best] * np.sign(same[best])
    return nothing


def _aside(g: Array, H: Array, along: Array) -> Array:
    """Newton's step to the floor of a valley, across it; no longer than a step along it."""
    across = np.linalg.qr(np.column_stack([along, np.eye(len(along))]))[0][:, 1:]
    if not across.size:
        return np.zeros_like(along)
    rates, modes = np.linalg.eigh(across.T @ H @ across)
    step = -across @ (modes @ ((modes.T @ (across.T @ g)) / np.maximum(np.abs(rates), 1e-300)))
    long = float(np.abs(step).max())
    found: Array = step * min(1.0, _WALK / long) if long > 0 else step
    return found
