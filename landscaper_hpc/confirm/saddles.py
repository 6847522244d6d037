"""From a saddle of the grid to the saddle of the loss.

Eigenvector following: uphill along one mode, downhill along all others, which is Newton's method on the loss with that
mode turned over. Cerjan, Miller, J. Chem. Phys. 75 (1981); Wales, *Energy Landscapes* (2003), chapter 6. It starts at
the saddle of the grid and where the straight line between both minima is highest, the lower one first; where the grid
shows no saddle, where the line is highest, and then at its middle. Where both fail,
a climbing-image nudged elastic band gives it another start: Henkelman, Uberuaga, Jónsson, J. Chem. Phys. 113 (2000).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from landscaper_hpc.confirm.ends import pressed
from landscaper_hpc.confirm.newton import STEP, rank_one, within
from landscaper_hpc.confirm.quadratic import lowest
from landscaper_hpc.confirm.surface import Array, Box, Request, Search

_RADIUS, _LARGEST, _SMALLEST = 0.5, 1.0, 1e-6
_MOST = 60  # along a narrow valley that bends steps are short
_DRIFT = 6.0  # steps from where it began: further, it is another saddle's
_ASIDE = 0.1
_ALONG = 7
_HALVINGS = 3
_IMAGES, _ROUNDS = 5, 10


class Saddle(NamedTuple):
    """A saddle of the loss in the box, in steps: `point`, `value`, `gradient`, `eigenvalues` (n,) along the faces it
    lies on, the first of them negative and no other; `hessian` (n, n), and `mode` (n,), the way it leads down."""

    point: Array
    value: float
    gradient: Array
    eigenvalues: Array
    hessian: Array
    mode: Array

    def sides(self, box: Box) -> Array:
        """Points beside it, both ways down, (2, n)."""
        return np.array([within(self.point, sign * _ASIDE * self.mode, box) for sign in (1, -1)])


class _Start(NamedTuple):
    """Where a search begins: `point` (n,), in steps, `value`, which is infinite where it is not finite, and `gradient`
    (n,)."""

    point: Array
    value: float
    gradient: Array


def saddle_between(
    first: Array, over: Array, last: Array, box: Box, rounding: float
) -> Search[tuple[Saddle | None, float]]:
    """Look for the saddle between two minima.

    Parameters
    ----------
    first, over, last
        (n,) each, in steps: a minimum, the saddle of the grid (NaN where the grid shows none), the other minimum.
    box
        What is never left.
    rounding
        Relative error of a value.

    Returns
    -------
    saddle
        None where none was found.
    height
        The highest of some values along the lower one of both ways; how high a climb is at most, as far as they show.
    """
    line = _Line(first, last)
    tangent = (last - first) / max(float(np.linalg.norm(last - first)), 1e-300)
    ways: list[_Start] = []
    if np.isfinite(over).all():
        ways = yield from _starts(over[None])
        if (yield from line.exceeds(ways[0].value)):  # the rest of the line matters only where the lower way fails
            found = yield from saddle_near(ways[0], box, rounding, tangent)
            if found is not None:
                return found, ways[0].value
            return (yield from saddle_near((yield from line.top()), box, rounding, tangent)), ways[0].value
    ways.insert(0, (yield from line.top()))
    ways.sort(key=lambda way: way.value)
    if len(ways) == 1 and line.middle is not ways[0]:
        ways.append(line.middle)
    for start in ways:
        found = yield from saddle_near(start, box, rounding, tangent)
        if found is not None:
            return found, ways[0].value
    return None, ways[0].value


def _starts(points: Array) -> Search[list[_Start]]:
    answer = yield Request(points)
    values = np.where(np.isfinite(answer.values), answer.values, np.inf).tolist()
    return [_Start(*one) for one in zip(points, values, answer.gradients, strict=True)]


class _Line:
    """The straight way between two points, evaluated no further than is asked for."""

    def __init__(self, first: Array, last: Array) -> None:
        t = np.arange(1, _ALONG + 1)[:, None] / (_ALONG + 1)
        self._points, self._step = first + t * (last - first), (last - first) / (_ALONG + 1)
        self._seen: dict[int, _Start] = {}

    def exceeds(self, value: float) -> Search[bool]:
        """Whether a point is higher than a value: from the middle outwards, till one is."""
        middle = (_ALONG - 1) / 2
        for i in sorted(range(_ALONG), key=lambda i: abs(i - middle)):
            self._seen[i] = (yield from _starts(self._points[i][None]))[0]
            if self._seen[i].value > value:
                return True
        return False

    @property
    def middle(self) -> _Start:
        """Of what `top` evaluated."""
        return self._seen[_ALONG // 2]

    def top(self) -> Search[_Start]:
        """The highest point: of all, and of some between, halved towards where slopes say."""
        missing = [i for i in range(_ALONG) if i not in self._seen]
        if missing:
            self._seen |= zip(missing, (yield from _starts(self._points[missing])), strict=True)
        best = max((self._seen[i] for i in range(_ALONG)), key=lambda start: start.value)
        at, step = best.point, self._step
        low, high = (at, at + step) if best.gradient @ step > 0 else (at - step, at)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            answer = yield Request(middle[None])
            if answer.values[0] > best.value:
                best = _Start(middle, float(answer.values[0]), answer.gradients[0])
            low, high = (middle, high) if answer.gradients[0] @ step > 0 else (low, middle)
        return best


def saddle_near(start: _Start, box: Box, rounding: float, along: Array | None = None) -> Search[Saddle | None]:
    """Follow the loss from a point to a saddle near by.

    Parameters
    ----------
    start
        Where it begins, in the box.
    box
        What is never left.
    rounding
        Relative error of a value.
    along
        (n,), which way the mode that is followed uphill leads at first; the lowest by default.

    Returns
    -------
    Saddle or None
        None where nothing near has one negative eigenvalue and no gradient.
    """
    x, f, g = start
    H = (yield Request(x[None], hessian=True)).hessians[0]
    exact, radius = True, _RADIUS
    for _ in range(_MOST):
        if not (np.isfinite(f) and np.isfinite(g).all() and np.isfinite(H).all()) or radius < _SMALLEST:
            return None
        free = ~pressed(x, g, box)
        if not free.any() or np.abs(x - start.point).max() > _DRIFT:
            return None
        values, vectors = np.linalg.eigh(H[np.ix_(free, free)])
        which = 0 if along is None else int(np.argmax(np.abs(along[free] @ vectors)))
        mode = vectors[:, which]
        along = np.zeros_like(x)
        along[free] = mode
        turned = H[np.ix_(free, free)] + (max(abs(values[which]), 1e-12) - values[which]) * np.outer(mode, mode)
        slope = g[free] - 2 * float(g[free] @ mode) * mode
        lower, upper = np.maximum(-x, -radius)[free], np.minimum(box.far - x, radius)[free]
        part, _ = lowest(slope, turned, lower, upper)
        step = np.zeros_like(x)
        step[free] = part
        if np.abs(step).max() <= STEP:
            if exact:
                if which != 0 or values[0] >= 0 or (len(values) > 1 and values[1] <= 0):
                    return None
                break
            H, exact = (yield Request(x[None], hessian=True)).hessians[0], True
            continue
        there = within(x, step, box)
        step = there - x
        answer = yield Request(there[None])
        value, gradient = float(answer.values[0]), answer.gradients[0]
        if not np.isfinite(value):
            radius = float(np.abs(step).max()) / 4
            continue
        # no value goes down here: the step is good where the gradient came out as the model said
        expected = g + H @ step
        off = np.linalg.norm(gradient - expected) / max(float(np.linalg.norm(H @ step)), 1e-300)
        H, exact = rank_one(H, step, gradient - g), False
        if off > 1.0:
            radius = float(np.abs(step).max()) / 4
        else:
            x, f, g = there, value, gradient
            if off < 0.3 and np.abs(step).max() > 0.9 * radius:
                radius = min(2 * radius, _LARGEST)
    else:
        return None
    direction = np.zeros_like(x)
    direction[free] = mode * np.sign(mode[np.argmax(np.abs(mode))])
    eigenvalues = np.full(len(x), np.nan)
    eigenvalues[: len(values)] = values
    return Saddle(x, f, g, eigenvalues, H, direction)


def over_band(first: Array, over: Array, last: Array, box: Box, rounding: float) -> Search[Saddle | None]:
    """Look for the saddle between two minima from the top of a `band`."""
    top = yield from band(first, over, last, box)
    return (yield from saddle_near(top, box, rounding))


def band(first: Array, over: Array, last: Array, box: Box) -> Search[_Start]:
    """The highest point of a climbing-image nudged elastic band between two minima, which begins as the way over a
    saddle of the grid.

    Parameters
    ----------
    first, over, last
        (n,) each, in steps: a minimum, the saddle of the grid, the other minimum.
    box
        What is never left.

    Returns
    -------
    start
        For `saddle_near`.
    """
    t = np.linspace(0, 1, _IMAGES + 2)[:, None]
    images = np.where(t < 0.5, first + 2 * t * (over - first), over + (2 * t - 1) * (last - over))
    velocity, pace = np.zeros((_IMAGES, len(first))), 0.2
    top: _Start | None = None
    for _ in range(_ROUNDS):
        answer = yield Request(images[1:-1])
        if not np.isfinite(answer.values).all():
            break
        highest = int(np.argmax(answer.values))
        top = _Start(images[1 + highest], float(answer.values[highest]), answer.gradients[highest])
        force = _forces(images, answer.values, answer.gradients, highest)
        steep = float(np.linalg.norm(force, axis=1).max()) or 1.0
        force = force / steep  # quick-min, on forces of one size: losses have any
        along = float((velocity * force).sum())
        velocity = force * pace + (force * along / float((force * force).sum()) if along > 0 else 0.0)
        longest = float(np.linalg.norm(velocity, axis=1).max())
        velocity *= min(1.0, 0.5 / longest) if longest else 1.0
        images = images.copy()
        images[1:-1] = np.clip(images[1:-1] + velocity, 0, box.far)
        pace *= 0.93
    return (yield from _starts(images[1 + _IMAGES // 2][None]))[0] if top is None else top


def _forces(images: Array, values: Array, gradients: Array, highest: int) -> Array:
    """Of the band on each inner image: the loss's across it, springs' along it; the highest climbs."""
    ahead, behind = images[2:] - images[1:-1], images[1:-1] - images[:-2]
    tangent = ahead / _lengths(ahead) + behind / _lengths(behind)
    tangent = tangent / _lengths(tangent)
    along = (gradients * tangent).sum(axis=1, keepdims=True) * tangent
    spring = (_lengths(ahead) - _lengths(behind)) * tangent * float(np.abs(gradients).max())
    force: Array = -gradients + along + spring
    force[highest] = -gradients[highest] + 2 * along[highest]
    return force


def _lengths(vectors: Array) -> Array:
    found: Array = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    return found
