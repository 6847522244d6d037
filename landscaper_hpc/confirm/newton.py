"""Down the gradient flow within a box, to where the loss has a minimum.

The model is a quadratic; a step goes along its flow, in the box, as far as the model is trusted (`flow`). It counts
only where the flow of the model that has learnt from the gradient at its end comes by that end. Where the model rests
on a saddle, its minimum within the box and a cube leads on (`quadratic`). Close to a minimum this is Newton's method.
Between exact Hessians the model learns from gradients by the symmetric rank-one update; no search ends but by an exact
one.

Conn, Gould, Toint, *Trust Region Methods* (2000), chapters 6 and 12; Byrd, Khalfan, Schnabel, *Analysis of a symmetric
rank-one trust region method*, SIAM J. Optim. 6 (1996).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from landscaper_hpc.confirm.flow import apart, flow
from landscaper_hpc.confirm.quadratic import lowest
from landscaper_hpc.confirm.surface import Answer, Array, Box, Request, Search

STEP = 1e-5
"""In steps of the grid: a search ends where the next Newton step would be no longer."""
_LARGEST, _SMALLEST = 1.0, 1e-8
_SURE, _FAR = 0.01, 8.0
_SHORT = 0.02  # in steps: where it matters not how far off the flow a step ends
_MOST = 200
ROUND = 2
"""Gradients of a descent in a round."""
_SEEN = 8.0  # roundings: a difference of values below so many tells nothing


class Care(NamedTuple):
    """How closely a descent keeps to the flow; lengths are in steps of the grid.

    Attributes
    ----------
    first
        How long the first step is.
    off
        How far a step may end from the flow, in lengths of the step.
    even
        What values and slopes of another's way may differ by from those of a quadratic, as a share of the fall to it.
    reach
        How far a descent looks along each axis for another's way.
    """

    first: float
    off: float
    even: float
    reach: float


def care(n: int) -> Care:
    """In n directions. In more than three a point has more watersheds close by: benchmarks/flow.py."""
    return Care(0.25, 0.05, 0.25, 1.0) if n < 4 else Care(0.125, 0.025, 0.1, 0.25)


class Here(NamedTuple):
    """Where a descent is, in steps: `point` (n,), `value`, `gradient` (n,), `model` (n, n) of the Hessian, `radius` of
    trust, and whether it is `going` on; where not, `close` says whether its model has its minimum here."""

    point: Array
    value: float
    gradient: Array
    model: Array
    radius: float
    going: bool = True
    close: bool = False


class Passed(NamedTuple):
    """A point that a descent came through, (n,), in steps, with its value and gradient (n,)."""

    point: Array
    value: float
    gradient: Array


class Stop(NamedTuple):
    """Where a search ended, in steps: `point` (n,), `value`, `gradient` (n,), `hessian` (n, n), exact; `settled`: the
    next step would be shorter than `STEP`, or would gain no more than rounding."""

    point: Array
    value: float
    gradient: Array
    hessian: Array
    settled: bool


def begin(start: Array, box: Box, model: Array, radius: float) -> Search[Here]:
    """A descent that has not gone yet, from a point (n,) of the box, with a first model (n, n); where that is not
    finite, with the exact Hessian."""
    x = np.clip(start, 0, box.far)
    here = yield Request(x[None])
    f, g = float(here.values[0]), here.gradients[0]
    if not np.isfinite(f) or not np.isfinite(g).all():
        return Here(x, f, g, np.full_like(model, np.nan), radius, going=False)
    if not np.isfinite(model).all():
        model = (yield _hessian(x)).hessians[0]
    return Here(x, f, g, model, radius, going=bool(np.isfinite(model).all()))


def descend(
    here: Here, box: Box, rounding: float, *, most: int = _MOST, largest: float = _LARGEST
) -> Search[tuple[Here, list[Passed]]]:
    """Follow the loss down, with no more than so many gradients, as far as the model leads.

    Parameters
    ----------
    here
        Where it is.
    box
        What is never left.
    rounding
        Relative error of a value.
    most
        Gradients.
    largest
        The largest length of a step along any axis, where the model holds no better than usual.

    Returns
    -------
    here
        Not going on and not close where the values did not go down as any model of them said: at a kink, say.
    passed
        Where it came through, each lower than the one before.
    """
    passed: list[Passed] = []
    if not here.going:
        return here, passed
    x, f, g, H, radius = here[:5]
    most_off = care(len(x)).off
    for _ in range(most):
        step = flow(g, H, -x, box.far - x, radius)[-1]
        fall = float(g @ step + step @ H @ step / 2)
        if _nothing_left(step, fall, f, rounding):  # at rest, but on a saddle perhaps
            step, fall = _step(x, g, H, radius, box)
            if _nothing_left(step, fall, f, rounding):
                return Here(x, f, g, H, radius, False, True), passed
        there = within(x, step, box)
        step = there - x
        answer: Answer = yield Request(there[None])
        value, slope = float(answer.values[0]), answer.gradients[0]
        long = float(np.abs(step).max())
        if not np.isfinite(value) or not np.isfinite(slope).all():
            radius = long / 4
        else:
            fallen = f - value
            if abs(fall) < 1e3 * _SEEN * rounding * abs(f):  # the values say little: what the slopes say
                fallen = -float((g + slope) @ step) / 2  # by the trapezoidal rule
            H = rank_one(H, step, slope - g)
            off = _off(x, g, H, step, box)
            if fallen > 0.05 * -fall and (off < most_off or long < _SHORT):
                x, f, g = there, value, slope
                passed.append(Passed(x, f, g))
                if off < most_off / 4 and long > 0.9 * radius:
                    radius = min(2 * radius, largest if off > _SURE else _FAR * largest)
            else:
                radius = long / (2 if off < 2 * most_off else 4)
        if radius <= _SMALLEST or not np.isfinite(H).all():
            return Here(x, f, g, H, radius, False), passed
    return Here(x, f, g, H, radius), passed


def a_round(here: Here, target: Passed | None, box: Box, rounding: float) -> Search[tuple[Here, bool, list[Passed]]]:
    """One round of a descent: where it is then, whether the loss leads down to the target, and what it came through.

    Parameters
    ----------
    here
        Where it is; with a value of NaN, where it begins.
    target
        A lower point close by, of another's way.
    box
        What is never left.
    rounding
        Relative error of a value.
    """
    passed: list[Passed] = []
    if np.isnan(here.value):
        here = yield from begin(here.point, box, here.model, here.radius)
        passed.append(Passed(here.point, here.value, here.gradient))
    if target is not None:
        half = (target.point - here.point) / 2
        answer = yield Request((here.point + half)[None])
        middle = Passed(here.point + half, float(answer.values[0]), answer.gradients[0])
        if leads_down(here, middle) and leads_down(middle, target):
            return here, True, passed
    here, more = yield from descend(here, box, rounding, most=ROUND)
    return here, False, passed + more


def leads_to(here: Here, there: Passed, box: Box) -> bool:
    """Whether the flow from where a descent is seems to come by a point of another's way."""
    step = there.point - here.point
    if not here.going or not step.any() or not leads_down(here, there):
        return False
    model = rank_one(here.model, step, there.gradient - here.gradient)
    return _off(here.point, here.gradient, model, step, box) < care(len(step)).off


def _off(x: Array, g: Array, H: Array, step: Array, box: Box) -> float:
    """How far the flow of a model passes by the end of a step, in lengths of the step."""
    long = float(np.abs(step).max())
    return apart(step, flow(g, H, -x, box.far - x, 1.5 * long)) / long


def leads_down(first: Here | Passed, last: Here | Passed) -> bool:
    """Whether the loss seems to fall all the way between two points: its slopes at both are downhill, and make about
    what it falls, as those of a quadratic would."""
    step, fall = last.point - first.point, last.value - first.value
    begins, ends = float(first.gradient @ step), float(last.gradient @ step)
    return fall < 0 and begins <= 0 and ends <= 0 and abs(fall - (begins + ends) / 2) <= -care(len(step)).even * fall


def newton(here: Here, box: Box, rounding: float, *, largest: float = _LARGEST) -> Search[Stop]:
    """Follow the loss down to a minimum in the box, and end there by an exact Hessian.

    Parameters
    ----------
    here
        Where the descent is.
    box
        What is never left.
    rounding
        Relative error of a value.
    largest
        As in `descend`.

    Returns
    -------
    Stop
        Not settled where the values did not go down as any model of them said.
    """
    before: Here | None = None
    for _ in range(_MOST):
        here, _ = yield from descend(here, box, rounding, largest=largest)
        if not np.isfinite(here.value) or not np.isfinite(here.gradient).all():
            return Stop(here.point, here.value, here.gradient, np.full_like(here.model, np.nan), False)
        H = (yield _hessian(here.point)).hessians[0]
        stop = Stop(here.point, here.value, here.gradient, H, False)
        if not here.close or not np.isfinite(H).all():
            return stop
        radius = max(here.radius, STEP * 10)
        step, fall = _step(here.point, here.gradient, H, radius, box)
        if _nothing_left(step, fall, here.value, rounding):
            return stop._replace(settled=True)
        here = Here(here.point, here.value, here.gradient, H, radius)
        if before is not None and (here.point == before.point).all() and here.radius == before.radius:
            return stop  # at a kink the Hessian of one side leads across it, and the next round back to here
        before = here
    return stop


def _step(x: Array, g: Array, H: Array, radius: float, box: Box) -> tuple[Array, float]:
    return lowest(g, H, np.maximum(-x, -radius), np.minimum(box.far - x, radius))


def _nothing_left(step: Array, fall: float, value: float, rounding: float) -> bool:
    return bool(np.abs(step).max() <= STEP or -fall <= _SEEN * rounding * abs(value) * 1e-2)


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
