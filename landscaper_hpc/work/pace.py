"""How long a loss takes that is too slow to be measured as a run evaluates it: told from a piece of its data."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from landscaper_hpc.objective.precision import one_thread
from landscaper_hpc.recording.slabs import divide_into

if TYPE_CHECKING:
    from landscaper_hpc.objective.objective import Objective

SLOW = 0.25
"""Seconds of an evaluation. Beyond it no batch of points is tried (`losses.choose_batch`), and to prove a way that is
faster than the loss as it is written takes some fifty evaluations: a run does that once, and a plan shall not."""
_LONG = 0.05
"""Seconds of a piece: so long that little of it is overhead. The first is of one example, others of four times more."""


class Pace(NamedTuple):
    """Per second of one process, as the loss is written: points, and gradients (0 where none are asked for). Told from
    `measured` of its `examples`; where these are the same, it was measured."""

    points: float
    gradients: float
    measured: int
    examples: int


def pace_of_slow(objective: Objective, gradients: bool) -> Pace | None:
    """None where an evaluation takes less than `SLOW`, where the device is no CPU (few examples take as long there as
    many), and where the loss takes no piece of its data. Time is that of the processor: others use the machine too."""
    if objective.device.type != "cpu" or objective.sharded:
        return None
    batch, count = objective.batches[0], objective.examples[0]
    whole = sum(objective.examples)

    def value(piece: Any, few: int) -> torch.Tensor:
        return objective.part(objective.parameters, piece, few)[0]

    def slopes(piece: Any, few: int) -> Any:
        leaves = {name: p.detach().requires_grad_() for name, p in objective.parameters.items()}
        return torch.autograd.grad(
            objective.part(leaves, piece, few)[0], list(leaves.values()), allow_unused=True, materialize_grads=True
        )

    try:
        with one_thread(objective.device):
            few, took = 0, 0.0
            while took < _LONG and few < count:
                piece, few = divide_into(batch, count, math.ceil(count / max(1, 4 * few)))[0]
                with torch.no_grad():
                    took = _seconds(value, piece, few)
            seconds = took * whole / few
            if seconds < SLOW:
                return None
            slope_seconds = _seconds(slopes, piece, few) * whole / few if gradients else math.inf
    except Exception:  # whatever the loss raises of a piece, or where there is no gradient: what measures all tells
        return None
    return Pace(1 / seconds, 1 / slope_seconds, few, whole)


def _seconds(do: Callable[[Any, int], object], piece: Any, few: int) -> float:
    """Of the second call, the first warms caches up."""
    do(piece, few)
    start = time.process_time()
    do(piece, few)
    return time.process_time() - start
