"""Whether a way to evaluate an objective gives what the loss gives as it is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor

from landscaper_hpc.losses.probes import probes
from landscaper_hpc.objective.device import out_of_memory
from landscaper_hpc.objective.objective import Objective

TOLERANCE = {"float64": 1e-8, "float32": 1e-3}
"""By how much, relative to the loss, ways to compute it may differ; of lower precisions more."""
_OF_METRICS = 1e-3


class Way(Protocol):
    """The loss at `batch` points, of stacked parameters; of one point, of parameters as they are."""

    batch: int

    def ready(self) -> AbstractContextManager[None]:
        """What calls must be made in."""
        ...

    def __call__(self, params: Mapping[str, Tensor], /) -> Tensor: ...


def disagreement(found: Way, objective: Objective, *, strictly: bool) -> str:
    """What is wrong with this way, or nothing: compared with the plain loss at theta*, beside it, and at the size of
    the grid. `strictly`: beside theta* it may differ by rounding only; far away rounding itself may grow."""
    layout = objective.layout
    far_tolerance = tolerance = TOLERANCE.get(objective.precision, 5e-2)
    if strictly:
        tolerance *= 1e-2 if objective.dtype == torch.float32 else 1e-4
    scale = 0.0
    for point, expected, far in probes(objective):
        rows = point if found.batch == 1 else point.expand(found.batch, -1).contiguous()
        try:
            with found.ready():
                value = found(layout.unflatten(rows))
        except (RuntimeError, ValueError, TypeError, LookupError) as error:  # the plain loss has raised nothing there
            if out_of_memory(error):
                raise
            return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if value.shape != rows.shape[:-1] + expected.shape:
            return f"the loss has shape {tuple(value.shape)} for {tuple(rows.shape[:-1])} points"
        first = value.reshape(-1, *expected.shape)[0]
        for j, (one, other) in enumerate(zip(first.reshape(-1), expected.reshape(-1), strict=True)):
            if j:  # a metric may jump by rounding alone
                rtol, atol = _OF_METRICS, _OF_METRICS
            else:
                rtol, atol = (far_tolerance, far_tolerance * scale) if far else (tolerance, 0.0)
            if not torch.allclose(one, other, rtol=rtol, atol=atol, equal_nan=True):
                return f"the {objective.outputs[j]} would be {float(one)!r} for {float(other)!r}"
        # the same point in every row: else a value would depend on its place in the batch
        if not bool((value.view(torch.int64) == first.view(torch.int64)).all()):
            return "a value would depend on its place in the batch"
        if not far and math.isfinite(loss := float(expected.reshape(-1)[0])):
            scale = abs(loss)
    return ""
