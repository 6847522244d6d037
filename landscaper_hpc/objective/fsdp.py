"""A model whose parameters are parts on several ranks (FSDP's `fully_shard`, tensor-parallel DTensors), as a loss.

The loss is the mean of the ranks' losses, each weighted by how many losses it is the mean of: each takes its own share
of the data, or all take the same. Each rank holds its part of theta*, of directions and of what is computed of them
(`Divided`): for a point it copies its part into the model, whose own hooks gather what they need, and puts theta* back.
The gradient is taken while the point is in place, and cannot be differentiated again.

(Longer than most modules: what is asked of FSDP and of DTensors is in one place.)
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from landscaper_hpc.errors import InputError, list_some
from landscaper_hpc.objective.in_step import InStep, is_broken
from landscaper_hpc.objective.moving import modules_like

Shard = str | Sequence[str] | Callable[[nn.Module, Any], object]
"""How a task's model is sharded: patterns of its blocks' names, or a function of model and mesh."""


def is_sharded(model: nn.Module) -> bool:
    """Whether the model or a part of it is sharded. InputError for FSDP's older wrapper class."""
    fsdp: Any = sys.modules.get("torch.distributed.fsdp")
    if fsdp is not None and any(isinstance(module, fsdp.FullyShardedDataParallel) for module in model.modules()):
        raise InputError(
            "Task.model is wrapped in FullyShardedDataParallel, which is not taken; "
            "shard it with torch.distributed.fsdp.fully_shard"
        )
    return next(_wrapped(model), None) is not None or any(map(_is_part, model.parameters()))


def apply(model: nn.Module, shard: Shard | None, device: torch.device, source: str) -> bool:
    """Shard a model over all ranks as its task says; whether by FSDP, so that each rank may take its own data."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    size = dist.get_world_size()
    if shard is None:
        raise InputError(
            f"gpus_per_model is {size}, and {source} does not say how its model is sharded; name its blocks, as in "
            "Task(model, loss, data, shard='layers.*'), or leave gpus_per_model out"
        )
    mesh = init_device_mesh(device.type, (size,))
    if callable(shard):
        shard(model, mesh)
        if not is_sharded(model):
            raise InputError(f"{source}: Task.shard has sharded nothing; apply fully_shard or parallelize_module in it")
        return False
    names = [name for name, _ in model.named_modules() if name]
    for pattern in [shard] if isinstance(shard, str) else shard:
        blocks = modules_like(pattern, names)
        if not blocks:
            raise InputError(f"{source}: Task.shard: {pattern!r} names no module; there are {list_some(names)}")
        for name in blocks:
            block = model.get_submodule(name)
            if isinstance(block, nn.ModuleList | nn.ModuleDict):
                raise InputError(
                    f"{source}: Task.shard: {name} is a {type(block).__name__}, which is not run itself; name what is "
                    f"in it: '{pattern}.*'"
                )
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return True


def gathered_bytes(model: nn.Module, shard: Shard | None) -> int:
    """What FSDP makes whole at once where `apply` shards so: what is in no block, and the largest block. 0 where that
    is the user's own."""
    if shard is None or callable(shard):
        return 0
    names = [name for name, _ in model.named_modules() if name]
    blocks = [
        name for pattern in ([shard] if isinstance(shard, str) else shard) for name in modules_like(pattern, names)
    ]
    outside, of_block = 0, dict.fromkeys(blocks, 0)
    for name, p in model.named_parameters():
        size = p.numel() * p.element_size()
        own = max((block for block in of_block if name.startswith(f"{block}.")), key=len, default=None)
        if own is None:
            outside += size
        else:
            of_block[own] += size
    return outside + max(of_block.values(), default=0)


def held_bytes(tensor: Any) -> int:
    """What this rank holds of a tensor."""
    return int(_local(tensor).nbytes)


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


def _begin_anew(model: nn.Module) -> None:
    """Have what FSDP remembers of a forward pass that was broken off forgotten: it would leave gathered what was
    gathered then, and compute the next point with it."""
    for _, module in _wrapped(model):
        with suppress(RuntimeError):  # of all but the outermost
            module.reset_iter_state()


class Divided:
    """How the parameters of a sharded model are divided among all ranks (`flat_layout.Parts`): as the model has them,
    and what it has whole on every rank by equal lengths."""

    def __init__(self, tensors: Mapping[str, Tensor], source: str) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.shapes = {name: tuple(p.shape) for name, p in tensors.items()}
        self._axis = {name: _axis(name, p, source) for name, p in tensors.items()}
        self.by_rows = all(axis == 0 or len(self.shapes[name]) < 2 for name, axis in self._axis.items())
        self._refuse_whole(source)

    def _refuse_whole(self, source: str) -> None:
        count = {name: math.prod(shape) for name, shape in self.shapes.items()}
        whole = sorted((name for name, axis in self._axis.items() if axis is None), key=lambda name: -count[name])
        kept = sum(count[name] for name in whole)
        if kept * self.size > sum(count.values()):
            raise InputError(
                f"{source}: Task.shard leaves {list_some(whole)} whole on every rank, {kept:,} of "
                f"{sum(count.values()):,} numbers, which is more than a rank's share of all; shard them as well"
            )

    def is_whole(self, name: str) -> bool:
        """Whether the model has this parameter whole on every rank."""
        return self._axis[name] is None

    def part(self, name: str, whole: Tensor) -> Tensor:
        """This rank's part of a whole tensor: a view."""
        axis = self._axis[name]
        if axis is None:
            whole, axis = whole.reshape(-1), 0
        # as DTensor divides
        parts = whole.chunk(self.size, axis) if whole.shape[axis] else ()
        return parts[self.rank] if self.rank < len(parts) else whole.narrow(axis, 0, 0)

    def whole(self, name: str, part: Tensor) -> Tensor:
        """The whole tensor, on every rank."""
        shape, axis = self.shapes[name], self._axis[name]
        length = math.prod(shape) if axis is None else shape[axis]
        place = axis or 0
        # each part is sent with the length of the longest
        longest = list(part.shape)
        longest[place] = -(-length // self.size)
        padded = part.new_zeros(longest)
        padded.narrow(place, 0, part.shape[place]).copy_(part)
        all_ranks = torch.cat(list(self.gathered(padded)), place)
        return all_ranks.narrow(place, 0, length).reshape(shape)

    def gathered(self, tensor: Tensor) -> Tensor:
        """(ranks, …): every rank's tensor, of one shape on all."""
        if tensor.is_complex():
            return torch.view_as_complex(self.gathered(torch.view_as_real(tensor)))
        found = tensor.new_empty(self.size, *tensor.shape)
        dist.all_gather(list(found.unbind()), tensor.contiguous())
        return found


class Sharded:
    """A sharded model as a function of this rank's parts. `parameters` are those named `moving`."""

    def __init__(self, model: nn.Module, moving: set[str], source: str) -> None:
        self._model, self._source = model, source
        reshard(model)
        model.zero_grad(set_to_none=True)
        self._tensors = dict(model.named_parameters()) | dict(model.named_buffers())
        for name in moving:
            self._tensors[name].requires_grad_()
        if not self._gathers():
            kind = next(model.parameters()).dtype
            raise InputError(
                f"{source}: FSDP gathers the parameters in another type than {kind}; leave "
                "out its mp_policy (the precision of the study decides), and shard a model that has not been run"
            )
        self.parts = Divided({name: p for name, p in model.named_parameters() if name in moving}, source)
        self.parameters = {name: self._part(name, self._tensors[name]).clone() for name in self.parts.shapes}
        self._in_step = InStep(next(iter(self.parameters.values())).device)

    def _part(self, name: str, tensor: Any) -> Tensor:
        """This rank's part of a parameter that the model holds."""
        return self.parts.part(name, _local(tensor)) if self.parts.is_whole(name) else _local(tensor)

    def lies_in(self, storage: int) -> bool:
        """Whether a parameter or buffer of the model, or this rank's part of it, lies in this memory now."""
        return any(_local(t).untyped_storage()._cdata == storage for t in self._tensors.values())

    def by_any(self, names: list[str]) -> list[str]:
        """The names that any of the ranks has found, the same on all."""
        found: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(found, names)
        return sorted({name for each in found for name in each})

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

    def value(
        self, params: Mapping[str, Tensor], value: Callable[[], tuple[Tensor, Any]], counts: bool, *shape: int
    ) -> tuple[Tensor, Any]:
        """What `value` returns with `params` (parts of parameters, and buffers, by name) in the model: the mean over
        the ranks, of this `shape`, that can be differentiated once if it is a scalar; and the weight of all. A rank
        where nothing `counts` runs it for the others. What it raises on one rank is raised on all (see `in_step`)."""
        weights: list[Any] = []

        def plainly() -> tuple[Tensor, Any]:
            result, weight = value()
            return _plain(result), weight

        def run() -> tuple[Tensor, Tensor]:
            found, raised = self._in_step.call(plainly, shape)
            result, weight = found or (torch.zeros(shape, dtype=torch.float64, device=self._in_step.device), 0)
            own = torch.tensor(weight, dtype=torch.float64, device=result.device).expand(shape) * counts
            failed = torch.full_like(own, raised is not None)
            every = self.parts.gathered(torch.stack([torch.where(own > 0, own * result.detach(), 0.0), own, failed]))
            total = sum(every[1:], every[0])
            if total[2].any():
                self._in_step.raise_on_all(raised)
            weights.append(tuple(total[1].tolist()) if isinstance(weight, tuple) else total[1].item())
            return total[0] / total[1], result * (own * self.parts.size / total[1])

        at: Tensor = _Value.apply(self, run, list(params), *params.values())  # type: ignore[no-untyped-call]
        return at, weights[0]

    def each(
        self,
        params: Mapping[str, Tensor],
        value: Callable[[], Any],
        rows: Callable[[Tensor], Tensor],
        counts: bool,
    ) -> list[Tensor]:
        """What `rows` (k, …) makes of what `value` returns with `params` in the model, of each rank where it `counts`,
        in their order and on all of them: each as many rows as it has. What is raised on one is raised on all."""
        found: list[Tensor] = []

        def run() -> tuple[Tensor, Tensor]:
            mine, raised = self._in_step.call(lambda: rows(_plain(value())), "each")
            own = torch.zeros(0, 2, dtype=torch.float64, device=self._in_step.device) if mine is None else mine
            told = torch.tensor([len(own), counts, raised is not None], device=own.device)
            lengths, counting, failed = self.parts.gathered(told).T.tolist()
            if any(failed):
                self._in_step.raise_on_all(raised)
            padded = own.new_zeros(max(lengths), *own.shape[1:])
            padded[: len(own)] = own
            every = zip(self.parts.gathered(padded), lengths, counting, strict=True)
            found.extend(of_one[:length] for of_one, length, is_counted in every if is_counted)
            return padded, padded

        self.at(params, run, ())
        return found

    def at(
        self, params: Mapping[str, Tensor], value: Callable[[], tuple[Tensor, Tensor]], wanted: Sequence[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The value, and this rank's parts of its gradients with respect to the parameters `wanted`."""
        reshard(self._model)
        divided = {name for name in self.parts.shapes if not self.parts.is_whole(name)}
        before = {name: _local(self._tensors[name]).clone() for name in params if name not in divided}
        try:
            for name, given in params.items():
                self._write(name, given)
            with torch.set_grad_enabled(bool(wanted)):
                result, own = value()
            if own.requires_grad:
                with torch.autocast(own.device.type, enabled=False):
                    own.backward()  # type: ignore[no-untyped-call]
            return result, {name: self._gradient(name) for name in wanted}
        except Exception as error:
            self._in_step.refuse(error)
            _begin_anew(self._model)
            raise
        finally:
            reshard(self._model)
            self._model.zero_grad(set_to_none=True)
            for name, old in before.items():
                _local(self._tensors[name]).copy_(old)
            for name in params:
                if name in divided:
                    _local(self._tensors[name]).copy_(self.parameters[name])

    def _write(self, name: str, given: Tensor) -> None:
        if name not in self.parts.shapes:
            write(self._tensors[name], given)
            return
        _local(self._tensors[name]).copy_(self.parts.whole(name, given) if self.parts.is_whole(name) else given)

    def _gradient(self, name: str) -> Tensor:
        p: Any = self._tensors[name]
        if p.grad is None:
            return torch.zeros_like(self.parameters[name])
        found = p.grad
        if self.parts.is_whole(name):
            return self.parts.part(name, _mean(_whole(found))).clone()
        if found.placements != p.placements:
            found = found.redistribute(placements=p.placements)
        return _local(found).clone()

    def _gathers(self) -> bool:
        """Whether the model will compute with these very parameters."""
        for prefix, module in _wrapped(self._model):
            try:
                module.unshard()
            except RuntimeError as error:  # its buffer, from an earlier run, is of another type
                if is_broken(error):
                    raise
                return False
            for name, p in module.named_parameters(prefix):
                own = self._tensors[name]
                if not _is_part(p) and (p.dtype != own.dtype or not torch.equal(p, _whole(own))):
                    return False
            module.reshard()
        return True


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, shards: Sharded, value: Callable[[], tuple[Tensor, Tensor]], names: list[str], *tensors: Tensor
    ) -> Tensor:
        wanted = [name for name, needed in zip(names, ctx.needs_input_grad[3:], strict=True) if needed]
        result, ctx.gradients = shards.at(dict(zip(names, tensors, strict=True)), value, wanted)
        ctx.names = names
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *(scale * ctx.gradients[n] if n in ctx.gradients else None for n in ctx.names)


def _axis(name: str, tensor: Any, source: str) -> int | None:
    """Along which axis a parameter is divided among all ranks; None where each has all of it."""
    from torch.distributed.tensor import Shard as Sharding

    if not _is_part(tensor):
        return None
    (placement, *more), size = tensor.placements, dist.get_world_size()
    if not more and placement.is_replicate():
        return None
    mesh = tensor.device_mesh
    if more or type(placement) is not Sharding or mesh.size() != size or mesh.get_local_rank() != dist.get_rank():
        raise InputError(
            f"{source}: {name} is divided as {tensor.placements} over a mesh of {tuple(tensor.device_mesh.shape)}; "
            f"divide it along one axis over a mesh of one dimension with all {size} ranks, or leave it whole"
        )
    axis: int = placement.dim % tensor.ndim
    return axis


def _wrapped(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The modules that are gathered as one, with their names."""
    # not imported for models that are not sharded: that takes a second
    kind: Any = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", ())
    return ((name, module) for name, module in model.named_modules() if isinstance(module, kind))


def _is_part(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def _plain(result: Any) -> Tensor:
    """What a tensor-parallel model may return as a DTensor, as what it is on every rank."""
    whole: Tensor = result.full_tensor() if _is_part(result) else result
    return whole


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
