"""How an objective is evaluated at one point, or at a batch of points at once: the fastest way that is proved to be
right.

The loss is recorded (`graph.record`) and replayed, which leaves out all bookkeeping of vmap and automatic
differentiation; many points are one vmap. Each way is tried on displaced parameters before it is used: it must agree
with the plain loss, and a batched value must have the same bits in every row.
"""

from __future__ import annotations

import logging
import warnings
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils import _pytree as pytree

from landscaper_hpc.graph import NotRecordable, record
from landscaper_hpc.layout import Layout
from landscaper_hpc.objective import Objective
from landscaper_hpc.precision import arithmetic, plain_attention

log = logging.getLogger(__name__)

Params = Mapping[str, Tensor]


class Evaluator:
    """The mean loss over all data at `batch` points: called with stacked parameters (batch, *shape) it returns
    (batch,); with batch 1 it takes parameters as they are and returns a scalar. Float64. `mode` says how."""

    def __init__(self, objective: Objective, batch: int) -> None:
        self._objective: Objective = weakref.proxy(objective)
        self.batch = batch
        self.mode = ""
        self._recorded: dict[str, Callable[[Any], Tensor]] = {}
        self._weights: dict[str, int] = {}
        self._inner: Evaluator | None = None

    def __call__(self, params: Params) -> Tensor:
        objective = self._objective
        if self.mode.startswith("unrecorded"):
            return self._plain(params)
        with torch.no_grad(), arithmetic(objective.precision, objective.device, autocast=False):
            values, weights = [], []
            for i in range(len(objective.batches)):
                value, weight = self._replay(params, i)
                values.append(value)
                weights.append(weight)
        return objective.combine(values, weights)

    def _plain(self, params: Params) -> Tensor:
        """The loss as it is, without recording."""
        if self.batch == 1:
            return self._objective.loss(params).detach()
        with plain_attention():
            return vmap(self._objective.loss)(dict(params)).detach()

    def _replay(self, params: Params, i: int) -> tuple[Tensor, int]:
        """The value of data batch i, and its weight. Batches of the same shapes share one recording; a single one is
        part of it, so that what depends on the data alone is computed once."""
        objective = self._objective
        data, count = objective.batches[i], objective.examples[i]
        leaves, spec = pytree.tree_flatten(data)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        alone = len(objective.batches) == 1
        key = "" if alone else repr((spec, [(x.shape, x.dtype) if isinstance(x, Tensor) else x for x in leaves]))
        argument = dict(params) if alone else (dict(params), tensors)
        if key not in self._recorded:
            inner = None if self._inner is None else self._inner._recorded[key]

            def value(argument: Any) -> Tensor:
                moved, given = (argument, tensors) if alone else argument
                if inner is not None:
                    return inner(argument)
                supply = iter(given)
                filled = [next(supply) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
                loss, self._weights[key] = objective.part(moved, pytree.tree_unflatten(filled, spec), count)
                return loss

            if inner is not None:
                assert self._inner is not None
                self._weights[key] = self._inner._weights[key]
            function = value
            if self.batch > 1:
                function = vmap(value, in_dims=((0 if alone else (0, None)),))
            with torch.enable_grad(), plain_attention() if self.batch > 1 else nullcontext():
                self._recorded[key] = record(function, argument)
        return self._recorded[key](argument), self._weights[key]


_evaluators: weakref.WeakKeyDictionary[Objective, dict[int, Evaluator]] = weakref.WeakKeyDictionary()


def evaluator(objective: Objective, batch: int) -> Evaluator:
    """The evaluator of an objective for batches of `batch` points: found by trying, once per process. Where batches
    cannot work, the evaluator of single points, whose `mode` says why."""
    known = _evaluators.setdefault(objective, {})
    if batch not in known:
        known[batch] = _single(objective) if batch == 1 else _batched(objective, batch)
        log.info("batches of %d: %s", batch, known[batch].mode)
    return known[batch]


def _single(objective: Objective) -> Evaluator:
    found = Evaluator(objective, 1)
    found.mode = "one point at a time"
    try:
        problem = _disagreement(found, objective)
    except NotRecordable as error:
        problem = str(error)
    if problem:
        found.mode = f"unrecorded, one point at a time ({problem})"
    return found


def _batched(objective: Objective, batch: int) -> Evaluator:
    problems = []
    single = evaluator(objective, 1)
    ways = ["vmap", "vmap", "unrecorded vmap"]
    for way, inner in zip(ways, [None, single, None], strict=True):
        if inner is not None and inner.mode.startswith("unrecorded"):
            continue
        found = Evaluator(objective, batch)
        found.mode, found._inner = way, inner
        try:
            with warnings.catch_warnings():
                # an operation without a batching rule is looped over, slowly: then rather one point at a time
                warnings.filterwarnings("error", message="There is a performance drop")
                problem = _disagreement(found, objective)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, LookupError, UserWarning, NotRecordable) as error:
            problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if not problem:
            return found
        problems.append(problem)
    alone = Evaluator(objective, 1)
    alone.mode = f"{single.mode} (not in batches: {problems[-1]})"
    alone._recorded, alone._weights = single._recorded, single._weights
    return alone


def _disagreement(found: Evaluator, objective: Objective) -> str:
    """What is wrong with this way, or nothing: compared with the plain loss at theta* and at displaced parameters."""
    layout = Layout.of(objective.parameters)
    theta = layout.flatten(objective.parameters)
    shift = layout.gaussian(2, seed=0).to(theta)
    tolerance = {"float64": 1e-8, "float32": 1e-3}.get(objective.precision, 5e-2)
    for point in (theta, *(theta + 1e-3 * theta.std() * s for s in shift)):
        expected = objective.loss(layout.unflatten(point)).detach()
        rows = point if found.batch == 1 else point.expand(found.batch, -1).contiguous()
        value = found(layout.unflatten(rows))
        if value.shape != rows.shape[:-1]:
            return f"the loss has shape {tuple(value.shape)} for {tuple(rows.shape[:-1])} points"
        first = value.reshape(-1)[0]
        if not torch.allclose(first, expected, rtol=tolerance, atol=0, equal_nan=True):
            return f"the loss would be {float(first)!r} for {float(expected)!r}"
        # the same point in every row: else a value would depend on its place in the batch
        if not bool((value.view(torch.int64) == first.view(torch.int64)).all()):
            return "a value would depend on its place in the batch"
    return ""
