"""Large data batches on a CPU in slabs whose intermediate results stay in the cache: faster, and with less memory.

Not every loss is the mean of those of the slabs: whoever uses them finds out by a trial (`mean_of`, or one of its own).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from landscaper_hpc.objective.data import examples_in, slabs
from landscaper_hpc.objective.device import out_of_memory
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.recording.record import NotRecordable, record, result_bytes

Pieces = Sequence[tuple[Any, int]]
"""Data and the number of examples in them."""

# Largest intermediate result of a slab, in bytes: the second-level cache of a core. A fixed number, not a measurement:
# values depend on it in their last bits.
CACHE = 2 * 2**20
_SMALLEST_SLAB = 16


def divide(objective: Objective, cache: int | None = None) -> Pieces | None:
    """The data in slabs, or None where that divides no batch."""
    if objective.sharded:
        return None
    pieces: list[tuple[Any, int]] = []
    for batch, count in zip(objective.batches, objective.examples, strict=True):
        length = examples_in(batch)
        rows = count if length is None else _rows_in_cache(objective, batch, length, cache or CACHE)
        pieces += [(batch, count)] if rows >= count else [(slab, examples_in(slab) or 0) for slab in slabs(batch, rows)]
    return pieces if len(pieces) > len(objective.batches) else None


def _rows_in_cache(objective: Objective, batch: Any, length: int, cache: int) -> int:
    """The largest power of two of examples whose intermediate results fit."""
    rows = _SMALLEST_SLAB
    if length <= rows:
        return length
    try:
        few, more = (result_bytes(_recorded(objective, batch, examples)) for examples in (2, 4))
        each = max((b - a) // 2 for a, b in zip(few, more, strict=True))
    except (NotRecordable, RuntimeError, ValueError):
        return length
    while 2 * rows * each <= cache and rows < length:
        rows *= 2
    return rows


def _recorded(objective: Objective, batch: Any, examples: int) -> GraphModule:
    sample = slabs(batch, examples)[0]
    return record(lambda params: objective.part(params, sample, examples)[0], objective.parameters)


def divide_into(batch: Any, count: int, parts: int) -> Pieces:
    """A batch in at most so many slabs; whole where its tensors do not share their leading length."""
    length = examples_in(batch)
    if length is None or parts == 1 or length < 2:
        return [(batch, count)]
    return [(slab, examples_in(slab) or 0) for slab in slabs(batch, -(-length // parts))]


def mean_of(objective: Objective, pieces: Pieces) -> bool:
    """Whether the loss is the mean of the losses of the pieces, to rounding. A piece that the loss does not take, for
    its shape or its size, is none."""
    layout = objective.layout
    points = (layout.unflatten(point) for point in shifted(objective))
    return all(_agree(objective, params, pieces, objective.loss(params).detach()) for params in points)


def cut(objective: Objective, batch: Any, count: int, parts: int) -> Pieces:
    """A batch in at most so many slabs; whole where its loss at theta* is not the mean of theirs."""
    pieces = divide_into(batch, count, parts)
    if len(pieces) == 1:
        return pieces
    whole = objective.part(objective.parameters, batch, count)[0].detach()
    return pieces if _agree(objective, objective.parameters, pieces, whole) else [(batch, count)]


def _agree(objective: Objective, params: Mapping[str, Tensor], pieces: Pieces, whole: Tensor) -> bool:
    tolerance = {"float64": 1e-12, "bf16": 1e-2}.get(objective.precision, 1e-5)
    try:
        parts = [objective.part(params, *piece) for piece in pieces]
        mean = objective.combine([value.detach() for value, _ in parts], [weight for _, weight in parts])
    except Exception as error:  # whatever user code or torch raises where labels do not fit, or one example is too few
        if isinstance(error, RuntimeError) and out_of_memory(error):
            raise
        return False
    return torch.allclose(mean, whole, rtol=tolerance, atol=0, equal_nan=True)


def shifted(objective: Objective, memory: Tensor | None = None) -> Iterator[Tensor]:
    """theta* and two parameters near it, flat: where ways to compute the loss are compared. The second takes the memory
    of the first, which may be given (size,)."""
    layout = objective.layout
    theta = layout.whole(objective.parameters)
    yield theta
    scale = 1e-3 * theta.std()
    beside = torch.empty_like(theta) if memory is None else memory
    for i in range(2):
        yield layout.gaussian_row(i, 2, seed=0, out=beside).mul_(scale).add_(theta)
