"""Some points of every study against the loss as it is written.

Ways to evaluate are proved at a few points. A loss that takes another course elsewhere is caught here, before anything
is stored: about one point in 512, chosen by the points themselves, so that every worker would choose the same.
"""

from __future__ import annotations

import hashlib
import logging
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscaper_hpc.directions.directions import Directions
from landscaper_hpc.errors import InputError
from landscaper_hpc.losses.agreement import TOLERANCE
from landscaper_hpc.losses.displacement import Walk
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import epsilon

log = logging.getLogger(__name__)

_EVERY = 512  # points; evaluating one as it is written may take 20 times as long
_NEIGHBOURS = 4
_AGAIN = 1 / 16  # of the evaluations

_seen: weakref.WeakSet[Objective] = weakref.WeakSet()


def refuse_wrong(
    objective: Objective, directions: Directions, points: NDArray[np.float64], values: NDArray[np.float64]
) -> None:
    """InputError where one of the chosen `points` (m, n) has another loss as it is written than the one of `values`
    (m,). The first time that an objective is given more than one point, at least one is chosen."""
    chosen = list(_chosen(points, at_least_one=len(points) > 1 and objective not in _seen))
    if len(points) > 1:
        _seen.add(objective)
    if not chosen:
        return
    walk = Walk(objective, directions)
    for i in chosen:
        wanted = objective.loss({n: p.detach() for n, p in walk.one(points[i]).items()}).detach().reshape(-1)
        for j, (value, expected) in enumerate(zip(values[i].reshape(-1).tolist(), wanted.tolist(), strict=True)):
            _refuse_wrong(objective, walk, points[i], j, value, expected)


def refuse_changing(
    objective: Objective,
    points: NDArray[np.float64],
    values: NDArray[np.float64],
    evaluate: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> None:
    """InputError where the point that this process has evaluated first has another loss by now than it had: the loss as
    it is written keeps something, which its recording would not.

    Looked at behind the second of all `points`, and then behind every call that earlier evaluations pay for, so behind
    every call with 16 points.
    """
    first = _first.setdefault(objective, _First(points[:1].copy(), values[:1].copy()))
    first.count += len(points)
    if first.count < 2 or first.checks > _AGAIN * first.count:
        return
    first.checks += 1
    again = evaluate(first.point)
    if again.tobytes() != first.value.tobytes() and not np.array_equal(again, first.value, equal_nan=True):
        raise InputError(
            f"{objective.source}: the loss changes from call to call: at alpha = {first.point[0].tolist()} it was "
            f"{first.value.item(0)!r} at first, and is {again.item(0)!r} after others; let it keep nothing from "
            "call to call (a counter, a cache, the time), and begin a new study"
        )


@dataclass
class _First:
    """What was evaluated first, (1, n) and its values, how many were since, and how often it was once more."""

    point: NDArray[np.float64]
    value: NDArray[np.float64]
    count: int = 0
    checks: int = 0


_first: weakref.WeakKeyDictionary[Objective, _First] = weakref.WeakKeyDictionary()


def _refuse_wrong(
    objective: Objective, walk: Walk, alpha: NDArray[np.float64], j: int, value: float, expected: float
) -> None:
    """Of the `j`-th output."""
    tolerance = tolerance_of(objective)
    if _same(value, expected, tolerance * abs(expected)):
        return
    scale = abs(_value(objective, objective.parameters, j))
    if _same(value, expected, tolerance * scale) or _jumps(objective, walk, alpha, j, expected, tolerance * scale):
        return
    advice = (
        "Keep nothing, call float() on what it depends on inside the loss, which has it evaluated as it is "
        "written, and begin a new study"
    )
    raise another_course(objective, alpha, value, expected, advice)


def _value(objective: Objective, params: Mapping[str, Tensor], j: int) -> float:
    return float(objective.loss(params).detach().reshape(-1)[j])


def tolerance_of(objective: Objective) -> float:
    """By how much, relatively, a recorded loss may differ from the one that is written, away from the checkpoint."""
    return 10 * TOLERANCE.get(objective.precision, 5e-2)


def another_course(
    objective: Objective, alpha: NDArray[np.float64], value: float, expected: float, advice: str
) -> InputError:
    """The refusal of a loss that is another as it is recorded than as it is written."""
    return InputError(
        f"{objective.source}: the loss at alpha = {alpha.tolist()} is {value!r} as a recorded list of operations, but "
        f"{expected!r} as it is written: its course depends on values, unnoticed, or on what it keeps from call to "
        f"call. {advice}"
    )


def _chosen(points: NDArray[np.float64], at_least_one: bool) -> Iterator[int]:
    """Indices of the points to check, in order."""
    digest = hashlib.sha256(points.tobytes()).digest()
    generator = np.random.default_rng(list(digest))
    count = int(len(points) / _EVERY + generator.random())
    yield from sorted(generator.choice(len(points), max(count, int(at_least_one)), replace=False).tolist())


def _same(value: float, expected: float, atol: float) -> bool:
    return bool(np.isclose(value, expected, rtol=0, atol=atol if np.isfinite(atol) else 0.0, equal_nan=True))


def _jumps(
    objective: Objective, walk: Walk, alpha: NDArray[np.float64], j: int, expected: float, tolerance: float
) -> bool:
    """Whether rounding alone moves the loss here by more than the tolerance: it is discontinuous, like an accuracy, or
    about to overflow."""
    layout = objective.layout
    point = layout.whole(walk.one(alpha))
    step = 32 * epsilon(objective.precision, objective.device)
    noise = torch.empty_like(point)
    for i in range(_NEIGHBOURS):
        layout.gaussian_row(i, _NEIGHBOURS, seed=1, out=noise)
        params = layout.unflatten(torch.addcmul(point, point, noise, value=step, out=noise))
        beside = _value(objective, params, j)
        if not _same(beside, expected, tolerance):
            log.info("the loss jumps at alpha = %s: rounding decides between %r and %r", alpha, beside, expected)
            return True
    return False
