"""Whether a loss follows its parameters: LoRA layers that `eval()` has merged give one constant loss.

A parameter *reaches* the loss where the loss is computed from it, operation by operation, or where displacing it (at
the checkpoint, and where all are displaced) changes the loss. It need not change it there: a ReLU that is off, a bias
before a normalisation, the keys' bias of attention, the A of a LoRA whose B is zero all reach it, and are left alone.

A parameter that does not reach the loss while its module does (its output, or another tensor of its own) takes part in
the forward pass and moves nothing: it is refused, by name. So is a model none of whose parameters reaches the loss.
Where the module does not reach the loss either, it is an unused layer: a notice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.checkpoints import list_some
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import one_thread

log = logging.getLogger(__name__)

_STEP = 0.1


def prove_dependence(objective: Objective) -> list[str]:
    """What is worth a notice, in words; `InputError` that names the parameters which take part and move nothing.

    Costs the loss once, and a few times more where parameters do not reach it.
    """
    if objective.sharded:  # FSDP's own operations are not followed
        return []
    with one_thread(objective.device):
        try:
            reached, parts = _reached(objective)
        except Exception as error:  # what cannot be followed is displaced
            log.info("the loss cannot be followed: %s: %s", type(error).__name__, error)
            reached, parts = set(), set()
        still = _unmoved(objective, [name for name in objective.parameters if name not in reached])
    if not still:
        return []
    taking_part = [name for name in still if name in parts]
    if taking_part or len(still) == len(objective.parameters):
        raise InputError(
            f"{objective.source}: parameters that move nothing, though their layers take part in the loss: "
            f"{list_some(taking_part or still)}; are they merged into other weights (LoRA in eval())? Give the model "
            "unmerged, or name the parameters to move under `only`"
        )
    return [f"{len(still)} tensors are not used by the loss and move nothing: {list_some(still)}"]


def _unmoved(objective: Objective, names: Sequence[str]) -> list[str]:
    """Those of `names` whose displacement changes the loss nowhere; many at once where none does."""
    if not names:
        return []
    noise = {name: _noise(p, i) for i, (name, p) in enumerate(objective.parameters.items())}
    moved = {name: p + noise[name] if name not in names else p for name, p in objective.parameters.items()}
    places = [(place, _value(objective, place)) for place in (objective.parameters, moved)]
    found: list[str] = []
    waiting = [list(names)]
    while waiting:
        group = waiting.pop()
        still = all(
            value == _value(objective, {**place, **{name: place[name] + noise[name] for name in group}})
            for place, value in places
        )
        if still:
            found += group
        elif len(group) > 1:
            waiting += [group[: len(group) // 2], group[len(group) // 2 :]]
    return [name for name in objective.parameters if name in found]


def _noise(parameter: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    wide = torch.complex128 if parameter.is_complex() else torch.float64
    drawn = torch.randn(parameter.shape, dtype=wide, generator=generator).to(parameter)
    size = parameter.abs().square().mean().sqrt().item() if parameter.numel() else 0.0
    return drawn * (_STEP * size or _STEP)


def _value(objective: Objective, params: Mapping[str, Tensor]) -> str | None:
    """The loss to its last bit, or which error it raises."""
    try:
        return repr(float(objective.loss(params).detach()))
    except InputError:
        raise
    except Exception as error:
        return type(error).__name__


# ---- following ------------------------------------------------------------------------------------------------------


def _reached(objective: Objective) -> tuple[set[str], set[str]]:
    """The parameters that the loss is computed from, and those whose module's output or other tensors it is."""
    names = list(objective.parameters)
    owners = {name: name.rpartition(".")[0] for name in names}
    modules = {prefix: objective.model.get_submodule(prefix) for prefix in dict.fromkeys(owners.values())}
    bits = {name: 1 << i for i, name in enumerate([*names, *(f"module {prefix}" for prefix in modules)])}
    met = 0
    for batch, examples in zip(objective.batches, objective.examples, strict=True):
        follower = _Follower()
        # parameters may be parts of one storage, and are told apart by it
        params = {name: p.clone() for name, p in objective.parameters.items()}
        for prefix, module in modules.items():
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                follower.mark(tensor, bits[f"module {prefix}"])
        for name, p in params.items():
            follower.mark(p, bits[name])
        with _marking_outputs(modules, bits, follower), follower:
            value, _ = objective.part(params, batch, examples)
        met |= follower.marks(value)
        if all(met & bits[name] for name in names):
            break
    reached = {name for name in names if met & bits[name]}
    alive = {owners[name] for name in reached}
    return reached, {name for name in names if met & bits[f"module {owners[name]}"] or owners[name] in alive}


@contextmanager
def _marking_outputs(modules: Mapping[str, nn.Module], bits: Mapping[str, int], follower: _Follower) -> Iterator[None]:
    def marking(bit: int) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            for leaf in pytree.tree_leaves(output):
                if isinstance(leaf, Tensor):
                    follower.mark(leaf, bit)

        return hook

    hooks = [module.register_forward_hook(marking(bits[f"module {prefix}"])) for prefix, module in modules.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Knows of each storage what it was computed from: the marks of all inputs of every operation that wrote to it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports the compiler to switch it off

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # a weak reference keeps the address from being used again
        self._marks: dict[int, tuple[StorageWeakRef, int]] = {}

    def mark(self, tensor: Tensor, bits: int) -> None:
        if bits and (storage := _storage(tensor)) is not None:
            self._marks[storage._cdata] = StorageWeakRef(storage), bits | self.marks(tensor)  # type: ignore[no-untyped-call]

    def marks(self, tensor: Tensor) -> int:
        storage = _storage(tensor)
        return 0 if storage is None else self._marks.get(storage._cdata, (None, 0))[1]

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        bits = 0
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                bits |= self.marks(leaf)
        result = function(*args, **kwargs)
        written = []
        if function._schema.is_mutable:
            given = dict(zip((a.name for a in function._schema.arguments), args, strict=False)) | kwargs
            written = [given.get(a.name) for a in function._schema.arguments if a.alias_info and a.alias_info.is_write]
        for leaf in pytree.tree_leaves((result, written)):
            if isinstance(leaf, Tensor):
                self.mark(leaf, bits)
        return result


def _storage(tensor: Tensor) -> Any:
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    if tensor.layout == torch.sparse_coo:
        tensor = tensor._values()
    return tensor.untyped_storage()
