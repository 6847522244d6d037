"""The user's task file: model + loss + data -> a deterministic loss(params).

A task file is a Python file with a function `task(**options) -> Task`. It is loaded by path; its SHA-256, with that of
the local modules that it imports, goes into the provenance. `Task.loss(model, batch)` gets the model with displaced
parameters in place, so a loss may call it, its methods, or differentiate it (torch.func or torch.autograd), and returns
per-example losses or the scalar mean of the batch. (Longer than most modules by the
docstrings of the API.)
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from landscaper_hpc.errors import InputError, RankRaised, leaves
from landscaper_hpc.objective.checkpoints.fit import cast_model, refuse_lazy, refuse_meta
from landscaper_hpc.objective.data import (
    batches_of,
    channels_together,
    examples_of,
    few_of,
    has_convolution,
    is_batch,
    notices_of_batches,
    placed,
    same_batches,
)
from landscaper_hpc.objective.determinism import prove_repeatable
from landscaper_hpc.objective.device import usable_device
from landscaper_hpc.objective.embeddings import plain_gradients, whole_gradients
from landscaper_hpc.objective.first_call import Call
from landscaper_hpc.objective.flat_layout import Layout, lay_flat
from landscaper_hpc.objective.fsdp import Shard, Sharded, is_sharded
from landscaper_hpc.objective.held import cast_held, is_of_types, of_other_type
from landscaper_hpc.objective.listening import as_written
from landscaper_hpc.objective.moving import (
    Memory,
    matching,
    refuse_shared_memory,
    refuse_unmovable,
    refuse_unreplaceable,
)
from landscaper_hpc.objective.precision import arithmetic, cast, dtype_of
from landscaper_hpc.objective.surroundings import generators_of
from landscaper_hpc.objective.usercode import ended, in_a_sentence, line_in, mistake, one_line
from landscaper_hpc.objective.writes import Writes

Parameters = dict[str, Tensor]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Task:
    """What a task file returns.

    Attributes
    ----------
    model
        A torch module; parameters that do not require gradients stay put unless a study says `frozen: true`.
    loss
        `loss(model, batch)` returns per-example losses (any shape of one or more axes; their mean over all data is
        taken in float64) or a scalar, the mean of that batch (batches are combined weighted by their leading length).
    data
        One batch (a tensor, or a tuple or dict of tensors), a list of batches, or a finite iterable of batches such as
        a DataLoader, which is read once.

    metrics
        More numbers to be known at each point, by name: `metric(model, batch)` as `loss`, of any real type, and in no
        need of a gradient. They are stored beside the loss.
    shard
        How the model is divided where a site says `gpus_per_model`: the names of its blocks (patterns as in a shell,
        `layers.*`), each of which FSDP gathers when it is run (`fully_shard`), or a function `shard(model, mesh)` that
        divides it over a mesh of one dimension, with FSDP or tensor-parallel.

    Raises
    ------
    InputError
        Where the model is no module, or one whose parameters cannot be displaced or lie in one memory, the loss or a
        metric no function, the name of a metric none, or `shard` neither.
    """

    model: nn.Module
    loss: Callable[[Any, Any], Tensor]
    data: Any
    metrics: Mapping[str, Callable[[Any, Any], Tensor]] = field(default_factory=dict)
    shard: Shard | None = None
    _memory: Memory = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise InputError(f"Task.model is a {type(self.model).__name__}; expected a torch.nn.Module")
        refuse_unreplaceable(self.model)
        if not is_sharded(self.model):  # whose parameters are parts of what each rank holds
            refuse_shared_memory(self.model)
            object.__setattr__(self, "_memory", Memory(self.model))
        if not callable(self.loss):
            raise InputError(f"Task.loss is a {type(self.loss).__name__}; expected a function loss(model, batch)")
        if not isinstance(self.metrics, Mapping):
            raise InputError(f"Task.metrics is a {type(self.metrics).__name__}; expected functions by their names")
        for name, metric in self.metrics.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise InputError(
                    f"Task.metrics: {name!r} cannot be the name of a metric; give letters, digits and _, beginning "
                    "with a letter"
                )
            if not callable(metric):
                raise InputError(
                    f"Task.metrics: {name} is a {type(metric).__name__}; expected a function metric(model, batch)"
                )
        patterns = [self.shard] if isinstance(self.shard, str) else self.shard
        listed = isinstance(patterns, list | tuple) and patterns and all(isinstance(p, str) and p for p in patterns)
        if not (patterns is None or listed or callable(patterns)):
            raise InputError(
                f"Task.shard is {self.shard!r}; expected names of the model's blocks, such as 'layers.*', or a "
                "function shard(model, mesh)"
            )


class Bound(nn.Module):
    """The user's loss as a module, so that one functional_call displaces the model for the whole of it."""

    def __init__(self, model: nn.Module, loss: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self._gradients = whole_gradients(model)
        by_tensor: dict[int, list[str]] = {}
        for inside, module in model.named_modules():  # once where one has several names
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                by_tensor.setdefault(id(tensor), []).append(f"{inside}.{name}" if inside else name)
        self._names = {name: names for names in by_tensor.values() for name in names}

    def under_all_names(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by name in the model, also where a weight is tied, as names in this module.

        torch ties weights itself, but then takes what is displaced for a module's own where that has two names, and
        leaves it there.
        """
        return {f"model.{every}": t for name, t in tensors.items() for every in self._names.get(name, (name,))}

    def forward(self, batch: Any) -> Any:
        with self._gradients:
            return self.loss(self.model, batch)


class Objective:
    """A deterministic loss of named parameters: theta* is `parameters`, everything else stays put.

    `parameters` holds each moving parameter once (of tied weights the first name) in module order, shape as in the
    model; parameters with requires_grad=False stay put unless `frozen`; buffers never move. With
    `only`, of those the ones whose names match one of the patterns (as in a shell: `layers.0.*`). Of a model that FSDP
    has sharded, `parameters` are this rank's parts, and all ranks must do the same (see `fsdp`); `dealt`: all have the
    same data, of which each takes every so-manieth batch. With `few` the
    data are that many of the task's batches. With `one_channel_last` images of one channel say by their strides that
    channels are to lie together: convolutions on a CPU take the quicker way then. `files` are what of its own folders
    the task read as it was built, `files_elsewhere` what of others; `notices` what a user should know of how it was
    loaded. `gets_on` is called with every call of the task's loss. The first of these is at theta*, or `elsewhere`.
    """

    def __init__(
        self,
        task: Task,
        *,
        precision: str = "float64",
        device: str = "cpu",
        frozen: bool = False,
        only: Sequence[str] = (),
        few: int | None = None,
        one_channel_last: bool = True,
        dealt: bool = False,
        elsewhere: bool = False,
        source: str = "the task",
    ) -> None:
        self.precision, self.device, self.source = precision, usable_device(device), source
        self.dtype = dtype_of(precision)
        self._one_channel_last, self._dealt, self._elsewhere = one_channel_last, dealt, elsewhere
        self._task = task
        self.files: list[Path] = []
        self.files_elsewhere: list[Path] = []
        self.notices: list[str] = []
        self.gets_on: Callable[[], None] = _nobody
        self._differentiated: frozenset[str] = frozenset()  # in which the loss itself asks for gradients
        self.count = 0
        """Of how many batches the loss is the mean, whichever rank has them."""
        self.began_with: float | None = None
        """The loss of the checkpoint as it was at first, of a model that is sharded."""
        self.sharded = is_sharded(task.model)
        self.shard = task.shard
        refuse_lazy(task.model, f"{source}: the model")
        refuse_meta(task.model, f"{source}: the model")
        self.model = task.model
        self.model.eval()  # which may be of the user's own, and return nothing
        moving = {name for name, p in self.model.named_parameters() if p.requires_grad or frozen}
        if only:
            moving &= matching(only, moving, source)
        refuse_unmovable(self.model, moving, source)
        self.model.requires_grad_(False)
        plain_gradients(self.model)
        cast_model(self.model, self.dtype, self.device)
        if not self.sharded:  # so that theta* as one vector is no copy of it
            lay_flat({name: p for name, p in self.model.named_parameters() if name in moving})
        self._bound = Bound(self.model, task.loss)
        self._shards = Sharded(self.model, moving, source) if self.sharded else None
        named = list((dict(self.model.named_parameters()) if self._shards is None else self._shards.parameters).items())
        self.parameters: Parameters = {name: p.detach() for name, p in named if name in moving}
        if not self.parameters:
            raise InputError(
                f"{source}: the model has no parameters that move; unfreeze some, or include the frozen ones"
            )
        # what a user's code has written on a parameter, and asks of what stands for it
        self._told = {name: dict(vars(p)) for name, p in named if vars(p)} if self._shards is None else {}
        self._few, given = few, batches_of(task.data, source)
        self.notices += notices_of_batches(task.data, source)
        self._all = None if few is None else given
        self._given: Sequence[Any] = given if dealt else ()
        self._take(few_of(given, few, source))
        if not self.sharded:
            self._listen()

    def _listen(self) -> None:
        """Find out by a first call what the loss writes into, and what it needs for not to fail."""

        def listened() -> Writes:
            return Writes(self.model, self.batches[0], self._called, self.parameters, self._elsewhere)

        with arithmetic(self.precision, self.device):
            self._writes = listened()
            if is_of_types(self._writes.failed) and cast_held(self._functions, self.model, self.dtype, self.device):
                self._writes = listened()
            if self._writes.differentiates:
                self._differentiated = frozenset(self.parameters)
                self._writes = listened()

    def _take(self, given: Sequence[Any]) -> None:
        """The loss is the mean over these batches."""
        self.count = len(given)
        counts = [examples_of(batch, self.source) for batch in given]
        if len(given) > 1 and 0 in counts:  # its mean is NaN, and so is that over all
            raise InputError(
                f"{self.source}: batch {counts.index(0) + 1} of Task.data holds no example (its first tensor "
                "has no rows); leave it out"
            )
        mine = given
        if self._shards is not None and self._dealt:
            # as many on every rank: where there are no more, the last one again, which does not count
            place, size = self._shards.parts.rank, self._shards.parts.size
            each = range(place, place + size * -(-len(given) // size), size)
            mine = [given[min(i, len(given) - 1)] for i in each]
            counts = [counts[i] if i < len(given) else 0 for i in each]
        self.examples = counts
        if self._shards is not None and not self._dealt:
            self._shards.refuse_unequal(self.examples)
        self.batches: Sequence[Any] = placed(mine, self.on_device, self.device, self.dtype)

    @cached_property
    def on_all_data(self) -> Objective:
        """The same loss of the same model over all batches; itself, where it is not of a `few`."""
        if self._all is None:
            return self
        whole = copy.copy(self)
        whole._few = whole._all = None
        whole._take(self._all)
        return whole

    def all_batches(self) -> Iterable[Any]:
        """All batches of the task's data, one by one, whether the loss is of them or of a `few`, or they are dealt."""
        if self._dealt and self._shards is not None:
            return map(self.on_device, self._given)
        return self.batches if self._all is None else map(self.on_device, self._all)

    def on_device(self, batch: Any) -> Any:
        together = self.device.type == "cpu" or self.precision in ("tf32", "bf16")
        images = together and self.dtype == torch.float32 and has_convolution(self.model)

        def place(t: Tensor) -> Tensor:
            t = cast(t.detach(), self.dtype, self.device)
            return channels_together(t, self._one_channel_last) if images and t.ndim == 4 else t

        return pytree.tree_map_only(Tensor, place, batch)

    def views(self) -> list[tuple[StorageWeakRef, str]]:
        """Memory that was that of parameters, which are elsewhere now, with their names. Of a model that was sharded
        before it was given there is none that is known."""
        memory: Memory | None = vars(self._task).get("_memory")
        found = [] if memory is None else memory.views(self.model, self.parameters)
        return found if self._shards is None else [view for view in found if not self._shards.lies_in(view[0].cdata)]

    @property
    def first_call(self) -> Call | None:
        """The first call of the task's loss, of its first batch, where it was listened to."""
        return None if self.sharded else self._writes.first

    def called_as_first(self) -> Any:
        """What the task's loss returns now for what it was given first, at theta*."""
        with arithmetic(self.precision, self.device):
            self._writes.begin()
            return self._run(self._called, *self._writes.as_first(self.batches[0]))

    def by_any(self, names: list[str]) -> list[str]:
        """The names that any of the ranks which hold the model has found; these, where one process has all of it."""
        return names if self._shards is None else self._shards.by_any(names)

    @cached_property
    def layout(self) -> Layout:
        """Where the parameters lie in flat vectors."""
        return Layout.of(self.parameters, None if self._shards is None else self._shards.parts)

    @property
    def loss_function(self) -> Callable[[Any, Any], Tensor]:
        """The task's loss(model, batch)."""
        return self._task.loss

    @property
    def metrics(self) -> Mapping[str, Callable[[Any, Any], Tensor]]:
        """The task's metrics."""
        return self._task.metrics

    @property
    def _functions(self) -> tuple[Callable[[Any, Any], Any], ...]:
        return (self.loss_function, *self.metrics.values())

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what is known at each point: the loss, and the task's metrics."""
        return ("loss", *self._task.metrics)

    def loss(self, params: Mapping[str, Tensor]) -> Tensor:
        """The mean loss over all data at `params` (keys as in `parameters`): a float64 scalar, differentiable."""
        parts = [self.part(params, *given) for given in zip(self.batches, self.examples, strict=True)]
        return self.combine([value for value, _ in parts], [weight for _, weight in parts])

    @staticmethod
    def combine(values: Sequence[Tensor], weights: Sequence[int]) -> Tensor:
        """The weighted mean of per-batch means (each a scalar or (points,), float64), added one after the other."""
        if len(values) == 1:
            return values[0]
        total = values[0] * weights[0]
        for value, weight in zip(values[1:], weights[1:], strict=True):
            total = total + value * weight
        return total / sum(weights)

    def part(self, params: Mapping[str, Tensor], batch: Any, examples: int) -> tuple[Tensor, int]:
        """Mean loss of one batch (float64 scalar) and the number of losses it is the mean of."""
        with arithmetic(self.precision, self.device):
            if self._shards is not None:
                counted = examples or examples_of(batch, self.source)
                return self._shards.value(
                    params, lambda: self._mean(self._run(self._bound, batch), counted), examples > 0
                )
            value = self._lost(params, batch)
        return self._mean(value, examples)

    def heard(self, listener: AbstractContextManager[Any]) -> Tensor:
        """This rank's loss of its first batch, of a model that is sharded, at the checkpoint, while somebody listens to
        this rank. All ranks call it together."""
        assert self._shards is not None
        batch, found = self.batches[0], list[Tensor]()
        counted = self.examples[0] or examples_of(batch, self.source)

        def value() -> tuple[Tensor, int]:
            with listener:
                mean, weight = self._mean(self._run(self._bound, batch), counted)
            found.append(mean)
            return mean, weight

        with arithmetic(self.precision, self.device), torch.no_grad():
            self._shards.value(self.parameters, value, self.examples[0] > 0)
        return found[0]

    def apart(self, params: Mapping[str, Tensor], batch: Any, examples: int) -> list[Tensor]:
        """The losses of a batch; of the batches of all ranks, in the data's order, where these are dealt out.

        Each (1 + e, 2), float64: their mean and of how many it is the mean, and behind that the losses of the batch's
        examples, each the mean of its own, and of how many. e is 0 where the loss returns the batch's mean. Losses that
        follow each other are of one example where there is a multiple of `examples`."""
        with arithmetic(self.precision, self.device):
            if self._shards is None:
                return [self._rows(self._lost(params, batch), examples)]
            counted = examples or examples_of(batch, self.source)
            found = self._shards.each(
                params,
                lambda: self._run(self._bound, batch),
                lambda value: self._rows(value, counted),
                examples > 0,
            )
        return found if self._dealt else found[:1]  # or else all have the same data

    def _rows(self, value: Any, examples: int) -> Tensor:
        """What `apart` gives of what a loss returned."""
        mean, weight = self._mean(value, examples)
        whole = torch.stack([mean.detach(), mean.new_tensor(weight)])[None]
        if value.ndim == 0:
            return whole
        count = examples if value.numel() % examples == 0 and value.shape[0] % examples == 0 else value.shape[0]
        losses = value.detach().double().reshape(count, -1)
        each = torch.stack([losses.mean(dim=1), losses.new_full((count,), losses.shape[1])], dim=1)
        return torch.cat([whole, each])

    def _lost(self, params: Mapping[str, Tensor], batch: Any) -> Any:
        """What the task's loss returns."""
        self._writes.begin()
        return self._run(self._called, self._writes.protected(params), self._writes.protected_data(batch))

    def _run(self, loss: Callable[..., Any], *given: Any) -> Any:
        """What a call of the loss returns, which may not leave its process."""
        self.gets_on()
        try:
            return loss(*given)
        except BaseException as leaving:
            if not leaves(leaving):
                raise
            raise self._left(leaving) from leaving

    def _called(self, tensors: Mapping[str, Tensor], batch: Any) -> Any:
        if self._differentiated:
            tensors = {
                name: t.detach().requires_grad_() if name in self._differentiated and not t.requires_grad else t
                for name, t in tensors.items()
            }
        for name, own in self._told.items():
            if name in tensors:
                vars(tensors[name]).update(own)
        with as_written():
            return functional_call(self._bound, self._bound.under_all_names(tensors), (batch,), tie_weights=False)

    def _left(self, leaving: BaseException) -> InputError:
        """A loss that ends the process would end a run as if it were done, or stopped by somebody."""
        where = line_in(leaving, self.source)
        return mistake(
            f"{self.source}: the loss {ended(leaving)}{where}; raise an error instead, or return a value that is not "
            "finite",
            leaving,
        )

    def _mean(self, value: Any, examples: int) -> tuple[Tensor, int]:
        if not isinstance(value, Tensor):
            raise InputError(
                f"{self.source}: loss returned a {type(value).__name__}; "
                "expected a tensor, per-example losses or their mean"
            )
        if not value.is_floating_point():
            raise InputError(f"{self.source}: loss returned a tensor of {value.dtype}; expected a real floating type")
        if type(value) is not Tensor:  # of data of a class of its own, which may have no such operations as follow
            with torch._C.DisableTorchFunctionSubclass():
                value = value.view(value.shape)  # as_subclass() is no operation, and would not be recorded
        if value.ndim == 0:
            return value.double(), examples
        return value.double().mean(), math.prod(value.shape)

    def run(self, model: nn.Module, batch: Any) -> None:
        """Run the loss of one batch on another model of the task (with another checkpoint), for what hooks see."""
        with arithmetic(self.precision, self.device):
            try:
                self._task.loss(model, batch)
            except BaseException as leaving:
                if not leaves(leaving):
                    raise
                raise self._left(leaving) from leaving

    def prove_deterministic(self, displaced: Iterable[Mapping[str, Tensor]] = ()) -> float:
        """The loss of the checkpoint, proved to be a function of the parameters alone, there and where they are
        `displaced`; InputError if it draws random numbers, differs from one call to the next, or fails at the
        checkpoint. What it raises elsewhere is left to those who evaluate it there."""
        own = generators_of(self.loss_function, self.model)
        by_any = self.by_any
        first = prove_repeatable(lambda: self._try(self.parameters), self.source, "at the checkpoint", own, by_any)
        if self.sharded and self.began_with is None:
            self.began_with = first
        for params in displaced:
            try:
                prove_repeatable(partial(self._value, params), self.source, "away from the checkpoint", own, by_any)
            except InputError:
                raise
            except Exception:
                continue
        self._prove_fixed_data(first)
        return first

    def _value(self, params: Mapping[str, Tensor]) -> float:
        return float(self.loss(params).detach())

    def _try(self, params: Mapping[str, Tensor]) -> float:
        try:
            return self._value(params)
        except InputError:
            raise
        except Exception as error:
            raise self.failed(error) from error

    def failed(self, error: Exception, what: str = "loss") -> InputError:
        """What the loss, or a metric, raised at the checkpoint."""
        if isinstance(error, RankRaised):
            return in_a_sentence(error, f"{self.source}: ")
        where = line_in(error, self.source)
        said = f"{self.source}: {what} failed{where} with {type(error).__name__}: {one_line(error)}"
        if is_of_types(error) and (held := of_other_type(self._functions, self.dtype)):
            name, its = held
            said += (
                f"; the study's precision is {self.precision}, and the task holds {name} in "
                f"{str(its).removeprefix('torch.')}: cast it where it is used, as in {name}.to(output.dtype), or hold "
                "it in a buffer of the model"
            )
        return mistake(said, error)

    def _prove_fixed_data(self, first: float) -> None:
        """`InputError` where a second reading gives other batches, or another loss than the `first`. Plain tensors and
        lists are what they are, and what can be iterated over only once is read once by every process."""
        if is_batch(self._task.data) or isinstance(self._task.data, list | Iterator):
            return
        kept, examples = self.batches, self.examples
        self._take(few_of(batches_of(self._task.data, self.source), self._few, self.source))
        try:
            second = self._try(self.parameters)
            if second != first and not math.isnan(first):
                differ = f"different losses ({first!r}, then {second!r})"
            elif not same_batches(kept, self.batches):  # in another order they may have the same mean, to the last bit
                differ = "the examples in another order, or others"
            else:
                return
        finally:
            self.batches, self.examples = kept, examples
        raise InputError(
            f"{self.source}: reading the data twice gives {differ}; the data are shuffled or augmented at random: give "
            "a fixed order (DataLoader(shuffle=False)) and fixed examples"
        )


def _nobody() -> None:
    """Where nobody watches."""
