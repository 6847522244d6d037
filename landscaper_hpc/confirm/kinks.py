"""Down to a minimum where gradients jump, as those of ReLU networks do, by gradient sampling.

Burke, Lewis, Overton, *A robust gradient sampling algorithm for nonsmooth, nonconvex optimization*, SIAM J. Optim. 15
(2005): the direction of descent is the shortest vector in the convex hull of gradients close by; where that vanishes,
no direction leads down. Here within a box, and with the same sample of directions everywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from landscaper_hpc.confirm.surface import Array, Box, Request, Search

JUMP = 0.05
"""Gradients this far apart, relative to the largest, a ten-thousandth of a grid step from each other have a jump
between them."""
NEAR = 1e-4
_FIRST, _LAST = 0.1, 1e-6
_STATIONARY = 1e-3
_MOST, _HALVINGS = 60, 30
_LONGER = 8
"""The first step that is tried, in lengths of the last one that led down: what is far away was tried before."""


class KinkStop(NamedTuple):
    """Where it ended, in steps: `point`, `value`, `gradient`; `jump`: by how much gradients around it differ, relative
    to the largest; `stationary`: no direction leads down."""

    point: Array
    value: float
    gradient: Array
    jump: float
    stationary: bool


def descend_kinks(start: Array, box: Box) -> Search[KinkStop]:
    """Follow a loss with kinks down to where no direction leads further down.

    Parameters
    ----------
    start
        (n,), in steps.
    box
        What is never left.

    Returns
    -------
    KinkStop
    """
    x = start
    here = yield Request(x[None])
    f, g = float(here.values[0]), here.gradients[0]
    around = _directions(len(x))
    radius, jump, first = _FIRST, 0.0, 1.0
    for _ in range(_MOST):
        near = np.clip(x + radius * around, 0, box.far)
        sample = np.vstack([g[None], (yield Request(near)).gradients])
        sample = sample[np.isfinite(sample).all(axis=1)]
        if not len(sample):
            break
        longest = float(np.linalg.norm(sample, axis=1).max())
        if radius <= NEAR:
            jump = float(np.linalg.norm(sample - sample[0], axis=1).max()) / (longest or 1.0)
        shortest = _shortest(sample, _outward(x, box))
        length = float(np.linalg.norm(shortest))
        if length <= _STATIONARY * longest:
            if radius <= _LAST * 1.01:
                return KinkStop(x, f, g, jump, True)
            radius /= 10
            continue
        t, moved = max(first, radius), False
        for _ in range(_HALVINGS):
            there = np.clip(x - t * shortest / length, 0, box.far)
            answer = yield Request(there[None])
            value = float(answer.values[0])
            if np.isfinite(value) and value < f - 1e-4 * t * length:
                x, f, g, moved = there, value, answer.gradients[0], True
                first = min(1.0, _LONGER * t)
                break
            t /= 2
            if t < radius / 4:
                break
        if not moved:
            if radius <= _LAST * 1.01:
                break
            radius /= 10
    return KinkStop(x, f, g, jump, False)


def _directions(n: int) -> Array:
    """2n + n points of a ball: both ways along every axis, and as many more as there are axes."""
    more = np.random.default_rng(0).uniform(-1, 1, (n, n))
    return np.vstack([np.eye(n), -np.eye(n), more / np.linalg.norm(more, axis=1, keepdims=True)])


def _outward(x: Array, box: Box) -> Array:
    """Normals of the faces that x lies on, (k, n): what gradients may be balanced by there."""
    eye = np.eye(len(x))
    return np.vstack([-eye[x <= 0], eye[x >= box.far]])


def _shortest(gradients: Array, normals: Array) -> Array:
    """The shortest vector in the convex hull of the gradients plus the cone of the normals."""
    from scipy.optimize import nnls  # half a second, which only confirming needs

    scale = float(np.abs(gradients).max()) or 1.0
    heavy = 1e4
    columns = np.vstack([gradients / scale, normals]).T
    ones = np.append(np.ones(len(gradients)), np.zeros(len(normals))) * heavy
    weights, _ = nnls(np.vstack([columns, ones]), np.append(np.zeros(columns.shape[0]), heavy))
    found: Array = columns @ weights * scale
    return found
