"""Where the searches from grid minima ended: what each end is, and which of them are one.

Minima of a loss in a box are points where no direction within it leads down: inside, where the gradient vanishes and
the Hessian is positive definite; on a face, where the same holds along it and the loss falls outwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.confirm.kinks import JUMP, descend_kinks
from landscaper_hpc.confirm.newton import Here, Stop, begin, newton
from landscaper_hpc.confirm.surface import Array, Box, Request, Search

Kind = Literal["interior", "edge", "kink", "flat", "saddle", "unresolved"]
KINDS: tuple[Kind, ...] = ("interior", "edge", "kink", "flat", "saddle", "unresolved")
"""What an end is.

interior    gradient zero, all eigenvalues positive
edge        on a face of the box: the same along it, and the loss falls outwards
kink        no direction leads down, and the gradient jumps: of ReLU networks
flat        gradient zero, and an eigenvalue that is zero to rounding: whether it is a minimum cannot be told
saddle      gradient zero, and a direction that leads down, which was not to be followed
unresolved  anything else: the loss did not go down as its gradient said
"""
CONFIRMED: tuple[Kind, ...] = ("interior", "edge", "kink")

CLOSE = 0.05
"""In steps of the grid: ends that are no further apart are one, if they are equally low."""
_ZERO = 1e-9  # an eigenvalue relative to the largest, in float64


class End(NamedTuple):
    """One end, in steps of the grid: `point`, `value`, `gradient` (n,), `eigenvalues` (n,) along the faces that it lies
    on (NaN elsewhere: for each face one), `kind`."""

    point: Array
    value: float
    gradient: Array
    eigenvalues: Array
    hessian: Array
    kind: Kind


def follow(here: Here, box: Box, rounding: float) -> Search[End]:
    """Follow the loss from where a descent is to a minimum in the box, and say what that is.

    Parameters
    ----------
    here
        Where it is.
    box
        What is never left.
    rounding
        Relative error of a value.

    Returns
    -------
    End
    """
    stop: Stop = yield from newton(here, box, rounding)
    if stop.settled or not np.isfinite(stop.value):
        return classified(stop, box, rounding)
    kink = yield from descend_kinks(stop.point, box)
    n = len(here.point)
    if kink.jump < JUMP:  # nothing jumps here: once more, from what may be a better place
        again = yield from begin(kink.point, box, np.full((n, n), np.nan), radius=0.1)
        stop = yield from newton(again, box, rounding, largest=0.5)
        return classified(stop, box, rounding)
    H = (yield Request(kink.point[None], hessian=True)).hessians[0]
    kind: Kind = "kink" if kink.stationary else "unresolved"
    return End(kink.point, kink.value, kink.gradient, np.full(n, np.nan), H, kind)


def classified(stop: Stop, box: Box, rounding: float) -> End:
    """What the end of a search is, from its exact gradient and Hessian."""
    n = len(stop.point)
    free = ~pressed(stop.point, stop.gradient, box)
    eigenvalues = np.full(n, np.nan)
    kind: Kind = "unresolved"
    if stop.settled and np.isfinite(stop.hessian).all():
        if free.any():
            eigenvalues[: np.count_nonzero(free)] = np.linalg.eigvalsh(stop.hessian[np.ix_(free, free)])
        found = eigenvalues[np.isfinite(eigenvalues)]
        zero = np.abs(stop.hessian).max() * _ZERO * max(1.0, (rounding / 2.2e-16) ** 0.5)
        zero = max(float(zero), 16 * rounding * abs(stop.value))
        if (found < -zero).any():
            kind = "saddle"
        elif (found <= zero).any():
            kind = "flat"
        else:
            kind = "interior" if free.all() and not on_face(stop.point, box).any() else "edge"
    return End(stop.point, stop.value, stop.gradient, eigenvalues, stop.hessian, kind)


def on_face(x: Array, box: Box) -> NDArray[np.bool_]:
    """Which coordinates are at an end of their axis."""
    found: NDArray[np.bool_] = (x <= 0) | (x >= box.far)
    return found


def pressed(x: Array, gradient: Array, box: Box) -> NDArray[np.bool_]:
    """Which coordinates are held by a face: the loss falls outwards there."""
    found: NDArray[np.bool_] = ((x <= 0) & (gradient > 0)) | ((x >= box.far) & (gradient < 0))
    return found


@dataclass(frozen=True)
class Clusters:
    """Distinct ends, the lowest first, and for each search the index of the one that it ended at, (s,)."""

    ends: list[End]
    of: NDArray[np.int64]


def clustered(ends: Sequence[End], rounding: float, known: Sequence[End] = ()) -> Clusters:
    """Ends that are one: no further apart than `CLOSE`, and as equally low as their curvature lets such neighbours be.

    Parameters
    ----------
    ends
        Of all searches.
    rounding
        Relative error of a value.
    known
        Ends that keep their places at the front, in their order.

    Returns
    -------
    Clusters
    """
    kept = list(known)
    of = np.empty(len(ends), np.int64)
    # the best of each cluster stands for it: what was settled, then the lowest
    order = sorted(
        range(len(ends)), key=lambda i: (KINDS.index(ends[i].kind), _sortable(ends[i].value), tuple(ends[i].point), i)
    )
    for i in order:
        place = next((j for j, other in enumerate(kept) if _one(ends[i], other, rounding)), None)
        if place is None:
            place = len(kept)
            kept.append(ends[i])
        of[i] = place
    free = range(len(known), len(kept))
    by_value = [*range(len(known)), *sorted(free, key=lambda j: (_sortable(kept[j].value), tuple(kept[j].point)))]
    index = np.empty(len(kept), np.int64)
    index[by_value] = np.arange(len(kept))
    return Clusters([kept[j] for j in by_value], index[of] if len(of) else of)


def _sortable(value: float) -> float:
    return np.inf if np.isnan(value) else value


def _one(a: End, b: End, rounding: float) -> bool:
    apart = a.point - b.point
    if np.abs(apart).max() > CLOSE:
        return False
    steep = max(float(np.abs(a.gradient).max()), float(np.abs(b.gradient).max()))
    curved = max(float(np.abs(np.nan_to_num(H)).max()) for H in (a.hessian, b.hessian))
    length = float(np.abs(apart).sum())
    allowed = steep * length + curved * length**2 + 64 * rounding * max(abs(a.value), abs(b.value))
    return not abs(a.value - b.value) > allowed
