"""How an objective is evaluated at one point, or at a batch of points at once: the fastest way that is proved to be
right.

The loss is recorded (`graph.record`) and replayed, which leaves out all bookkeeping of vmap and automatic
differentiation; many points are one vmap. On a CPU the recording is rewritten (`rewrite`) and large data batches are
taken in slabs that fit the cache; on a GPU it is replayed as a CUDA graph where that is faster (`cudagraph`). Each way
is tried on displaced parameters before it is used (`probes`): it must agree with the plain loss, and a batched value
must have the same bits in every row (see `padding`, `products`).
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from landscaper_hpc.losses.agreement import disagreement
from landscaper_hpc.losses.looping import looping
from landscaper_hpc.objective.device import out_of_memory
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import arithmetic, plain_attention
from landscaper_hpc.recording.cudagraph import captured
from landscaper_hpc.recording.kept import by_batch
from landscaper_hpc.recording.padding import VECTOR, pad
from landscaper_hpc.recording.products import align
from landscaper_hpc.recording.record import NotRecordable, record
from landscaper_hpc.recording.rewrite import rewrite
from landscaper_hpc.recording.scripted import scripted
from landscaper_hpc.recording.slabs import Pieces, divide

log = logging.getLogger(__name__)

Params = Mapping[str, Tensor]


class Evaluator:
    """The mean loss over all data at `batch` points: called with stacked parameters (batch, *shape) it returns
    (batch,); with batch 1 it takes parameters as they are and returns a scalar. Float64. `mode` says how. Of a loss
    with metrics the results have an axis more.

    With `rewritten`, recordings are rewritten; `pieces` are the data with the number of examples of each, where they
    are not those of the objective; `inner`, if set, is the evaluator of single points whose recordings are batched."""

    def __init__(
        self,
        objective: Objective,
        batch: int,
        *,
        rewritten: bool = False,
        pieces: Pieces | None = None,
    ) -> None:
        self._objective: Objective = weakref.proxy(objective)
        self.batch = batch
        self.mode = ""
        self.rewrites: list[str] = []
        self.pieces = pieces
        self._rewritten = rewritten
        self.inner: Evaluator | None = None
        self._recorded: dict[str, GraphModule] = {}
        self._ready: dict[str, Callable[[Params, int, list[Tensor]], Tensor]] = {}
        self._weights: dict[str, int] = {}

    def __call__(self, params: Params) -> Tensor:
        objective = self._objective
        if not self.recorded:
            return self._plain(params)
        values, weights = [], []
        for i, (data, count, alone) in enumerate(self._data()):
            value, weight = self.replay(params, i, data, count, alone)
            values.append(value)
            weights.append(weight)
        return objective.combine(values, weights)

    @contextmanager
    def ready(self) -> Iterator[None]:
        """What calls must be made in. Entered once for many, it costs as much as evaluating a small network."""
        objective = self._objective
        if not self.recorded:
            yield
        else:
            with torch.no_grad(), arithmetic(objective.precision, objective.device, autocast=False):
                yield

    @property
    def recorded(self) -> bool:
        return not self.mode.startswith("unrecorded")

    def _data(self) -> Iterator[tuple[Any, int, bool]]:
        """Batch, number of examples in it, whether it is the only one."""
        objective = self._objective
        batches = range(len(objective.batches)) if self.pieces is None else range(len(self.pieces))
        for i in batches:
            piece = (objective.batches[i], objective.examples[i]) if self.pieces is None else self.pieces[i]
            yield *piece, len(batches) == 1

    def _plain(self, params: Params) -> Tensor:
        """The loss as it is, without recording."""
        params = {name: p.detach() for name, p in params.items()}  # a cache may know tensors again, with other numbers
        if self.batch == 1:
            return self._objective.loss(params).detach()
        with plain_attention():
            return vmap(self._objective.loss)(params).detach()

    def replay(self, params: Params, i: int, data: Any, count: int, alone: bool) -> tuple[Tensor, int]:
        """The value of the `i`-th batch of data, and its weight. Batches of the same shapes share one recording; a
        single one is part of it. What depends on the data alone is computed once for each."""
        if alone and "" in self._ready:
            return self._ready[""](params, 0, []), self._weights[""]
        objective = self._objective
        leaves, spec = pytree.tree_flatten(data)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        key = "" if alone else repr((spec, [(x.shape, x.dtype) if isinstance(x, Tensor) else x for x in leaves]))
        argument = dict(params) if alone else (dict(params), tensors)
        if key not in self._ready:
            inner = None if self.inner is None else self.inner._recorded[key]

            def value(argument: Any) -> Tensor:
                moved, given = (argument, tensors) if alone else argument
                if inner is not None:
                    single: Tensor = inner(argument)
                    return single
                supply = iter(given)
                filled = [next(supply) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
                loss, self._weights[key] = objective.part(moved, pytree.tree_unflatten(filled, spec), count)
                return loss

            if inner is not None:
                assert self.inner is not None
                self._weights[key] = self.inner._weights[key]
            function = value
            if self.batch > 1:
                function = vmap(value, in_dims=((0 if alone else (0, None)),))
            with torch.enable_grad(), plain_attention() if self.batch > 1 else nullcontext():
                self._recorded[key] = record(function, argument)
            self._ready[key] = self._made_ready(self._recorded[key], argument, alone)
        return self._ready[key](dict(params), i, tensors), self._weights[key]

    def _made_ready(
        self, recorded: GraphModule, argument: Any, alone: bool
    ) -> Callable[[Params, int, list[Tensor]], Tensor]:
        device = self._objective.device
        if device.type == "cpu":
            if self._rewritten:
                done = rewrite(recorded, batched=self.batch > 1)
                self.rewrites += [what for what in done if what not in self.rewrites]
            if self.batch > 1 and (operation := align(recorded, argument) or pad(recorded)):
                raise NotRecordable(f"a value would depend on its place in the batch ({operation})")
        return by_batch(recorded, argument, alone, captured if device.type == "cuda" else scripted, device)


known_evaluators: weakref.WeakKeyDictionary[Objective, dict[int, Evaluator]] = weakref.WeakKeyDictionary()
_as_written: weakref.WeakSet[Objective] = weakref.WeakSet()


def evaluate_as_written(objective: Objective) -> None:
    """Have single points evaluated by the loss as it is written: it was measured to be the fastest."""
    _as_written.add(objective)
    known_evaluators.get(objective, {}).pop(1, None)


def is_evaluated_as_written(objective: Objective) -> bool:
    return objective in _as_written


def as_written(objective: Objective) -> Evaluator:
    """The evaluator of single points that calls the loss as it is written."""
    found = Evaluator(objective, 1)
    found.mode = "unrecorded, one point at a time (as the loss is written, which is faster here)"
    return found


def evaluator(objective: Objective, batch: int) -> Evaluator:
    """The evaluator of an objective for batches of `batch` points: found by trying, once per process. Where batches
    cannot work, the evaluator of single points, whose `mode` says why."""
    known = known_evaluators.setdefault(objective, {})
    if batch not in known:
        if objective.sharded:
            known[batch] = Evaluator(objective, 1)
            known[batch].mode = "unrecorded, one point at a time (the model is sharded by FSDP)"
        else:
            single = as_written if objective in _as_written else _single
            known[batch] = single(objective) if batch == 1 else _batched(objective, batch)
        log.info("batches of %d: %s", batch, known[batch].mode)
    return known[batch]


def forget(objective: Objective) -> None:
    """Forget all evaluators: they are proved anew."""
    known_evaluators.pop(objective, None)


def keep_only(objective: Objective, batch: int) -> None:
    """Forget the evaluators of all batch shapes but this one and single points: on a GPU they hold memory."""
    known = known_evaluators.get(objective, {})
    for other in set(known) - {1, batch}:
        del known[other]


def _single(objective: Objective) -> Evaluator:
    problem = ""
    for rewritten, pieces in _ways(objective):
        found = Evaluator(objective, 1, rewritten=rewritten, pieces=pieces)
        try:
            problem = disagreement(found, objective, strictly=rewritten or pieces is not None)
        except NotRecordable as error:
            problem = str(error)
        if not problem:
            found.mode = _described("one point at a time", found)
            return found
        log.info("not used: one point at a time%s: %s", " in slabs of data" if pieces else "", problem)
    found.mode = f"unrecorded, one point at a time ({problem})"
    return found


def _ways(objective: Objective) -> Iterator[tuple[bool, Pieces | None]]:
    """Whether to rewrite, and which pieces of data to take: what is fastest comes first."""
    if objective.device.type == "cpu":
        divided = divide(objective)
        for pieces in (divided, None) if divided else (None,):
            yield from ((rewritten, pieces) for rewritten in (True, False) if _rewritable(objective) or not rewritten)
    else:
        yield False, None


def _rewritable(objective: Objective) -> bool:
    return objective.device.type == "cpu" and objective.precision != "bf16"


def _described(way: str, found: Evaluator) -> str:
    sliced = [] if found.pieces is None else [f"data in slabs of {max(count for _, count in found.pieces)}"]
    return "; ".join([way, *sliced, *found.rewrites])


def _batched(objective: Objective, batch: int) -> Evaluator:
    problems = []
    single = evaluator(objective, 1)
    ways = ["rewritten", "vmap", "vmap of the recording", "unrecorded vmap"]
    if not _rewritable(objective):
        ways.remove("rewritten")
    if not single.recorded:
        ways.remove("vmap of the recording")
    if objective.device.type == "cpu" and batch % (2 * VECTOR):
        ways.remove("unrecorded vmap")  # what depends on its place cannot be filled up
    for way in ways:
        rewritten = way == "rewritten"
        found = Evaluator(objective, batch, rewritten=rewritten, pieces=single.pieces)
        found.mode = way
        try:
            if way == "vmap of the recording":
                found.inner = Evaluator(objective, 1, pieces=single.pieces)
                if problem := disagreement(found.inner, objective, strictly=False):
                    raise NotRecordable(problem)
            with looping(way == "vmap of the recording"):
                problem = disagreement(found, objective, strictly=rewritten)
        except (RuntimeError, ValueError, TypeError, LookupError, NotRecordable) as error:
            if out_of_memory(error):
                raise
            problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if not problem:
            found.mode = _described("vmap" if found.recorded else way, found)
            return found
        problems.append(problem)
    alone = Evaluator(objective, 1, pieces=single.pieces)
    alone.mode = f"{single.mode} (not in batches: {problems[-1]})"
    alone._ready, alone._weights = single._ready, single._weights
    return alone
