"""Value and gradient of a loss at many points: recorded, and several points in one call where that changes nothing.

As it is written a gradient builds torch's graph anew at every point. Recorded once and replayed (`recording`) it has
the same bits, which is proved, and is up to twice as fast. Where operations are so small that the way to them is what
takes long, two, four and eight points in one call are quicker still. Their values are rounded otherwise
than those of one point alone; so there every call is of two points at least, and it is proved that a point has the same
bits in every place of every size: it never matters which others are asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.utils import _pytree as pytree

from landscaper_hpc.directions.gradient import value_and_gradient
from landscaper_hpc.losses.displacement import Walk
from landscaper_hpc.objective.device import out_of_memory
from landscaper_hpc.objective.flat_layout import Layout
from landscaper_hpc.objective.objective import Objective, Parameters
from landscaper_hpc.objective.precision import arithmetic, plain_attention
from landscaper_hpc.recording.kept import by_batch
from landscaper_hpc.recording.padding import pad
from landscaper_hpc.recording.products import align
from landscaper_hpc.recording.record import NotRecordable, record, result_bytes
from landscaper_hpc.recording.rewrite import rewrite
from landscaper_hpc.recording.scripted import scripted

log = logging.getLogger(__name__)

_COMPARED = 2**20
"""Numbers that are compared at once."""
BEHIND = 16
"""Numbers behind the gradient in a row."""
SIZES = (2, 4, 8)
"""Points in one call."""
_SMALL = {"cpu": 2**13, "cuda": 2**22}
"""Bytes of an operation's result, in the mean, up to which several points are evaluated at once. Fixed numbers, not
measurements: values depend on them in their last bits."""
_TOLERANCE = {"float64": 1e-9, "float32": 1e-3}
"""By how much several points' values may differ from those of one, each relative to itself, and their slopes, relative
to the largest of all probes: that is not the value, which may be of another size."""

Replay = Callable[[Parameters, int, list[Tensor]], Tensor]
"""Of parameters, the number of a batch, and its tensors."""


class Plain:
    """One batch of data at one point: a row (width,) of float64, the flat gradient, then the value; and the weight."""

    def __init__(self, objective: Objective, layout: Layout) -> None:
        self._objective, self._layout = objective, layout

    def __call__(self, params: Parameters, i: int) -> tuple[Tensor, int]:
        """At parameters, of batch `i` of the data."""
        objective = self._objective
        value, parts, weight = value_and_gradient(objective, params, objective.batches[i], objective.examples[i])
        return _row(self._layout, value, parts), weight


class Recorded:
    """The same, recorded; of `size` points in one call, parameters and rows have an axis more."""

    def __init__(self, objective: Objective, layout: Layout, size: int | None) -> None:
        self._objective, self._layout, self._size = objective, layout, size
        self._replays: dict[str, Replay] = {}
        self._weights: dict[str, int] = {}
        self._results: list[int] = []  # bytes of what operations make

    @property
    def small(self) -> bool:
        return sum(self._results) <= _SMALL.get(self._objective.device.type, 0) * len(self._results)

    def __call__(self, params: Parameters, i: int) -> tuple[Tensor, int]:
        objective, data = self._objective, self._objective.batches[i]
        leaves, spec = pytree.tree_flatten(data)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        # batches of the same shapes share a recording; a single one is part of it
        alone = len(objective.batches) == 1
        key = "" if alone else repr((spec, [(x.shape, x.dtype) if isinstance(x, Tensor) else x for x in leaves]))
        argument = params if alone else (params, tensors)
        if key not in self._replays:
            self._replays[key] = self._recorded(key, argument, i, leaves, spec, tensors)
        with torch.no_grad(), arithmetic(objective.precision, objective.device, autocast=False):
            return self._replays[key](params, i, tensors), self._weights[key]

    def _recorded(self, key: str, argument: Any, i: int, leaves: list[Any], spec: Any, tensors: list[Tensor]) -> Replay:
        objective, alone = self._objective, key == ""

        def found(argument: Any) -> Tensor:
            params, given = (argument, tensors) if alone else argument
            supply = iter(given)
            filled = [next(supply) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            batch = pytree.tree_unflatten(filled, spec)

            def value(params: Parameters) -> Tensor:
                mean, self._weights[key] = objective.part(params, batch, objective.examples[i])
                return mean

            slopes, mean = grad_and_value(value)(params)
            return _row(self._layout, mean, slopes)

        if self._size is None:
            recorded = record(found, argument)
            self._results += result_bytes(recorded)
            return by_batch(recorded, argument, alone, scripted, objective.device)
        with plain_attention():
            recorded = record(vmap(found, in_dims=((0 if alone else (0, None)),)), argument)
        if objective.device.type == "cpu":
            if objective.precision != "bf16":
                rewrite(recorded, batched=True)
            if operation := align(recorded, argument) or pad(recorded):
                raise NotRecordable(f"a value would depend on its place among the points ({operation})")
        return by_batch(recorded, argument, alone, scripted, objective.device)


def _row(layout: Layout, value: Tensor, parts: Parameters) -> Tensor:
    """Float64: the flat gradient, and BEHIND numbers of which the first is the value; a whole number of cache lines."""
    pieces, end = [], 0
    for name, place in layout.slices().items():
        part = torch.view_as_real(parts[name]) if parts[name].is_complex() else parts[name]
        pieces += [part.new_zeros(place.start - end), part.reshape(-1)] if place.start > end else [part.reshape(-1)]
        end = place.stop
    last = value.new_zeros(layout.size - end + BEHIND - 1, dtype=torch.float64)
    gap, behind = last[: layout.size - end], last[layout.size - end :]
    # float64 by what is behind them: no copy of the gradient in between
    return torch.cat([*pieces, gap, value.double().reshape(1), behind])


class Ways:
    """How gradients of one objective are found at points (k, n) of a walk: proved at some of them."""

    def __init__(self, objective: Objective, walk: Walk, probes: NDArray[np.float64]) -> None:
        self._objective, self._walk = objective, walk
        self._single: Plain | Recorded = Plain(objective, walk.layout)
        self._sizes: dict[int, Recorded] = {}
        problem = "the model is sharded by FSDP"
        if not objective.sharded:
            problem = self._tried(self._prove_single, probes, lacking_memory=True)  # the same bits as it is written
        if isinstance(self._single, Recorded) and self._single.small:
            problem = self._tried(self._prove_sizes, probes, lacking_memory=False)
        log.info("gradients %s%s", self.said, f" ({problem})" if problem else "")

    @property
    def said(self) -> str:
        if self._sizes:
            return f"of {', '.join(map(str, self._sizes))} points in one call"
        return f"one point at a time, {'as it is written' if isinstance(self._single, Plain) else 'recorded'}"

    def __call__(self, points: NDArray[np.float64]) -> Iterator[Iterable[tuple[Tensor, int]]]:
        """For every point (k, n), in order: a row and weight of every batch of data, to be taken before the next."""
        batches = range(len(self._objective.batches))
        for count, size in _dealt(len(points), sorted(self._sizes)):
            block, points = points[:count], points[count:]
            if size == 1:
                params = self._alone(self._single, block[0])
                yield (self._single(params, i) for i in batches)
            else:
                params = self._walk.many(np.pad(block, ((0, size - count), (0, 0)), mode="edge"))
                found = [self._sizes[size](params, i) for i in batches]
                yield from ([(rows[place], weight) for rows, weight in found] for place in range(count))

    def _alone(self, way: Plain | Recorded, point: NDArray[np.float64]) -> Parameters:
        params = self._walk.one(point)
        # what autograd takes may be kept by a user's code, and the next point overwrites it
        return {name: p.clone() for name, p in params.items()} if isinstance(way, Plain) else params

    def _tried(
        self, prove: Callable[[NDArray[np.float64]], str], probes: NDArray[np.float64], *, lacking_memory: bool
    ) -> str:
        """Why this way is not taken; probes are elsewhere than searches go, and the user's code may refuse them. Where
        values would differ, what lacks memory in one process must not go another way than in the next."""
        try:
            return prove(probes)
        except Exception as error:
            if out_of_memory(error) and not lacking_memory:
                raise
            return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

    def _prove_single(self, probes: NDArray[np.float64]) -> str:
        way, plain = Recorded(self._objective, self._walk.layout, None), self._single
        for point in probes:
            params = self._alone(plain, point)
            for i in range(len(self._objective.batches)):
                if not _equal(way(params, i)[0], plain(params, i)[0]):
                    return "recorded it has other bits"
        self._single = way
        return ""

    def _prove_sizes(self, probes: NDArray[np.float64]) -> str:
        """Every probe in every place beside all others, in calls of every size."""
        batches = range(len(self._objective.batches))
        tolerance, first = _TOLERANCE.get(self._objective.precision, 5e-2), None
        ways = {size: Recorded(self._objective, self._walk.layout, size) for size in SIZES}
        for size, way in ways.items():
            for turn in range(size):
                order = np.resize(np.roll(np.arange(len(probes)), turn), -(-len(probes) // size) * size)
                rows = probes.shape[0] * [torch.empty(0)]
                for part in order.reshape(-1, size):
                    params = self._walk.many(probes[part])
                    found = torch.stack([way(params, i)[0] for i in batches], dim=1)
                    for probe, row in zip(part.tolist(), found, strict=True):
                        if len(rows[probe]) and not _equal(rows[probe], row):
                            return f"of {size} points it has other bits in another place"
                        rows[probe] = row
                if first is None:
                    first, expected = rows, list[Tensor]()
                    for point in probes:
                        params = self._alone(self._single, point)
                        expected.append(torch.stack([self._single(params, i)[0] for i in batches]))
                    if not _close(torch.stack(rows), torch.stack(expected), self._walk.layout.size, tolerance):
                        return "of several points it has other values"
                if not all(map(_equal, first, rows)):
                    return f"of {size} points it has other bits than of {SIZES[0]}, or in another place"
        self._sizes = ways
        return ""


def _dealt(count: int, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """How so many points are dealt out, (how many, in a call of how many): at most one place is wasted."""
    while count:
        size = max((size for size in sizes if size <= count), default=min(sizes, default=1))
        taken = min(size, count)
        yield taken, size
        count -= taken


def _equal(a: Tensor, b: Tensor) -> bool:
    pairs = zip(torch.split(a.reshape(-1), _COMPARED), torch.split(b.reshape(-1), _COMPARED), strict=True)
    return all(bool(((x == y) | (x.isnan() & y.isnan())).all()) for x, y in pairs)


def _close(found: Tensor, expected: Tensor, size: int, tolerance: float) -> bool:
    """Whether rows, slopes up to `size` and the value behind, are equal but for rounding, where what is expected is
    finite."""
    finite = torch.isfinite(expected).all(dim=-1)
    if not finite.any():
        return True
    scale = expected[finite].abs()
    scale[:, :size] = scale[:, :size].max()
    return bool(((found[finite] - expected[finite]).abs() <= tolerance * scale).all())
