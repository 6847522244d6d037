"""A model that FSDP (torch.distributed.fsdp.fully_shard) has sharded over all ranks, as a loss of whole tensors.

The loss is the mean of the ranks' losses: each takes its own share of the data, or all take the same. Parameters and
directions are whole on every rank. For a point each rank writes its part into the model, whose own hooks gather what
they need, and then puts the old bits back. The gradient is taken while the point is in place, and FSDP cannot
differentiate it again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from landscaper_hpc.errors import InputError


def is_sharded(model: nn.Module) -> bool:
    """Whether `fully_shard` was applied to the model or a part of it. InputError for the older wrapper class."""
    fsdp: Any = sys.modules.get("torch.distributed.fsdp")
    if fsdp is not None and any(isinstance(module, fsdp.FullyShardedDataParallel) for module in model.modules()):
        raise InputError(
            "Task.model is wrapped in FullyShardedDataParallel, which is not taken; "
            "shard it with torch.distributed.fsdp.fully_shard"
        )
    return next(_wrapped(model), None) is not None


def write(target: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded: each rank takes its part, and none waits for another."""
    if _is_part(target):
        from torch.distributed.tensor import distribute_tensor

        place: Any = target
        whole = distribute_tensor(whole.detach(), place.device_mesh, place.placements, src_data_rank=None)
    with torch.no_grad():
        target.copy_(whole)


def reshard(model: nn.Module) -> None:
    """Make the model's parameters the shards again: a forward pass leaves some of them gathered, and what is written
    into the shards would not be seen."""
    for _, module in _wrapped(model):
        module.reshard()


class Sharded:
    """A sharded model as a function of whole tensors. `parameters` are those named `moving`."""

    def __init__(self, model: nn.Module, moving: set[str], source: str) -> None:
        self._model, self._source = model, source
        reshard(model)
        model.zero_grad(set_to_none=True)
        self._tensors = dict(model.named_parameters()) | dict(model.named_buffers())
        for name in moving:
            self._tensors[name].requires_grad_()
        whole = {name: _whole(p) for name, p in model.named_parameters()}
        if not _gathers(model, whole):
            raise InputError(
                f"{source}: FSDP gathers the parameters in another type than {next(iter(whole.values())).dtype}; leave "
                "out its mp_policy (the precision of the study decides), and shard a model that has not been run"
            )
        self.parameters = {name: p for name, p in whole.items() if name in moving}

    def refuse_unequal(self, examples: list[int]) -> None:
        """InputError where the batches of the ranks differ in size: then the mean over the ranks is not that over the
        data, and some would wait for the others."""
        counts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(counts, examples)
        if any(count != counts[0] for count in counts):
            found = ", ".join(f"{sum(count)} in {len(count)}" for count in counts)
            raise InputError(
                f"{self._source}: the ranks have different numbers of examples and batches ({found}); the loss is the "
                "mean over the ranks, so give each as many"
            )

    def value(self, params: Mapping[str, Tensor], value: Callable[[], tuple[Tensor, int]]) -> tuple[Tensor, int]:
        """What `value` returns with `params` (parameters and buffers by name) in the model: a scalar, the mean over the
        ranks, that can be differentiated once; and its weight."""
        weights: list[int] = []

        def run() -> Tensor:
            result, weight = value()
            weights.append(weight)
            return result

        at: Tensor = _Value.apply(self, run, list(params), *params.values())  # type: ignore[no-untyped-call]
        return at, weights[0]

    def at(
        self, params: Mapping[str, Tensor], value: Callable[[], Tensor], wanted: Sequence[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The value, and its gradients with respect to the parameters `wanted`."""
        targets = [self._tensors[name] for name in params]
        reshard(self._model)
        before = [_local(target).clone() for target in targets]
        try:
            for target, whole in zip(targets, params.values(), strict=True):
                write(target, whole)
            with torch.set_grad_enabled(bool(wanted)):
                result = value()
            if result.requires_grad:
                with torch.autocast(result.device.type, enabled=False):
                    result.backward()  # type: ignore[no-untyped-call]
            return _mean(result.detach().clone()), {name: self._gradient(name) for name in wanted}
        finally:
            reshard(self._model)
            self._model.zero_grad(set_to_none=True)
            for target, old in zip(targets, before, strict=True):
                _local(target).copy_(old)

    def _gradient(self, name: str) -> Tensor:
        p = self._tensors[name]
        found = torch.zeros_like(p) if p.grad is None else p.grad
        return _whole(found) if _is_part(p) else _mean(found)


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shards: Sharded, value: Callable[[], Tensor], names: list[str], *tensors: Tensor) -> Tensor:
        wanted = [name for name, needed in zip(names, ctx.needs_input_grad[3:], strict=True) if needed]
        result, ctx.gradients = shards.at(dict(zip(names, tensors, strict=True)), value, wanted)
        ctx.names = names
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *(scale * ctx.gradients[n] if n in ctx.gradients else None for n in ctx.names)


def _wrapped(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The modules that are gathered as one, with their names."""
    # not imported for models that are not sharded: that takes a second
    kind: Any = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", ())
    return ((name, module) for name, module in model.named_modules() if isinstance(module, kind))


def _gathers(model: nn.Module, whole: Mapping[str, Tensor]) -> bool:
    """Whether the model will compute with these very parameters."""
    for prefix, module in _wrapped(model):
        try:
            module.unshard()
        except RuntimeError:  # its buffer, from an earlier run, is of another type
            return False
        for name, p in module.named_parameters(prefix):
            if not _is_part(p) and (p.dtype != whole[name].dtype or not torch.equal(p, whole[name])):
                return False
        module.reshard()
    return True


def _is_part(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def _whole(tensor: Any) -> Tensor:
    """A new tensor, whole on every rank."""
    tensor = tensor.detach()
    result: Tensor = (tensor.full_tensor() if _is_part(tensor) else tensor).clone()
    return result


def _local(tensor: Any) -> Tensor:
    """This rank's part, in the same memory."""
    tensor = tensor.detach()
    result: Tensor = tensor.to_local() if _is_part(tensor) else tensor
    return result


def _mean(tensor: Tensor) -> Tensor:
    """Over the ranks, in place: the same bits on all."""
    dist.all_reduce(tensor)
    return tensor.div_(dist.get_world_size())
