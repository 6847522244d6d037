"""A checkpoint's tensors brought into a model: under the model's names, in the precision of the study, nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from landscaper_hpc.errors import InputError, list_some
from landscaper_hpc.objective.checkpoints.adapters import is_adapter, is_of_base, put_inside, refuse_without_base
from landscaper_hpc.objective.checkpoints.containers import is_entry
from landscaper_hpc.objective.checkpoints.names import PLAIN, Naming, unwrapped
from landscaper_hpc.objective.fsdp import is_sharded, reshard, write
from landscaper_hpc.objective.precision import cast

_UNFIT: tuple[tuple[str, Callable[[Tensor], bool], str], ...] = (
    (
        "quantised tensors, which have no place to move to",
        lambda tensor: tensor.is_quantized,
        "save them as floating-point numbers, with dequantize()",
    ),
    ("tensors on the meta device, which hold no numbers", lambda tensor: tensor.is_meta, "save it from a device"),
    ("nested tensors", lambda tensor: tensor.is_nested, "save them padded, as the model has them"),
    ("sparse tensors", lambda tensor: tensor.layout is not torch.strided, "save them whole, with to_dense()"),
    (
        "tensors of a type that torch turns into no other",
        lambda tensor: not _is_readable(tensor.dtype),
        "save them as floating-point numbers",
    ),
)


def load_into(
    model: nn.Module,
    tensors: Mapping[str, Any],
    path: Path,
    *,
    naming: Naming = PLAIN,
    dtype: torch.dtype | None = None,
) -> str:
    """Copy a checkpoint's tensors into the model, as `matched` to it; in words which parameters it does not give.

    With `dtype` the model gets that precision first, so that a float64 checkpoint keeps its digits in a model that was
    made in float32. Tensors on the meta device get memory.
    """
    sharded = is_sharded(model)
    refuse_lazy(model, "the model")
    if sharded:
        reshard(model)
    found = matched(model, tensors, path, naming=naming)
    if not sharded:
        _allocate(model, found)
    if dtype is not None:
        cast_model(model, dtype, None)
    target = model.state_dict(keep_vars=True)
    for name, tensor in found.items():
        write(target[name], tensor.real if tensor.is_complex() and not target[name].is_complex() else tensor)
    modules = dict(model.named_modules())
    for name, value in _named(model, tensors, path, naming).items():
        module, _, last = name.rpartition(".")
        if last == "_extra_state" and module in modules:
            modules[module].set_extra_state(value)
    alias = _aliases(target)
    given = {alias[name] for name in found}
    left = [name for name, p in model.named_parameters() if name in target and alias[name] not in given]
    if not left:
        return ""
    since = "the checkpoint is an adapter" if is_adapter(path) else "ignore: leaves them out"
    return f"{len(left)} parameters are as task() makes them, since {since}: {list_some(left)}"


def matched(model: nn.Module, tensors: Mapping[str, Any], path: Path, *, naming: Naming = PLAIN) -> dict[str, Tensor]:
    """A checkpoint's tensors under all names that the model has for them, matched by name and shape.

    A key may carry what DistributedDataParallel, FSDP, torch.compile, AveragedModel, Lightning and others add. Of tied
    weights one name is enough, and an adapter is without the weights of its base model. Anything missing, left over, of
    another shape, or of which a part would be lost (the imaginary, or what is not whole), or whole numbers for weights,
    is listed in the InputError.
    """
    target = _state(model)
    tensors = {k: t for k, t in _named(model, tensors, path, naming).items() if isinstance(t, Tensor)}
    tensors = {k: t for k, t in tensors.items() if not k.endswith("_extra_state")}
    alias = _aliases(target)
    given = {alias[name] for name in tensors if name in target}
    inside = put_inside(model, path)
    missing = [
        name
        for name in target
        if alias[name] not in given
        and not name.endswith("num_batches_tracked")
        and not naming.ignores(name)
        and not is_of_base(name, inside)
    ]
    fitting = {name: tensor for name, tensor in tensors.items() if name in target}
    for what, is_such, advice in _UNFIT:
        if names := [name for name, tensor in fitting.items() if is_such(tensor)]:
            raise InputError(f"checkpoint {path} holds {what}: {list_some(names)}; {advice}")
    problems = [
        f"{what}: {list_some(names)}"
        for what, names in (
            ("missing in the checkpoint", missing),
            ("not in the model", [name for name in tensors if name not in target]),
            (
                "of another shape",
                [
                    f"{name} {tuple(tensor.shape)} for the model's {tuple(target[name].shape)}"
                    for name, tensor in fitting.items()
                    if tensor.shape != target[name].shape
                ],
            ),
            *(
                (
                    what,
                    [
                        f"{name} {_type(tensor)} for the model's {_type(target[name])}"
                        for name, tensor in fitting.items()
                        if tensor.shape == target[name].shape and is_such(tensor, target[name])
                    ],
                )
                for what, is_such in (
                    ("of a type that would lose a part", _loses),
                    (
                        "whole numbers for weights, as quantised ones are: save them with their scales applied",
                        _is_coded,
                    ),
                )
            ),
        )
        if names
    ]
    if problems:
        refuse_without_base(model, path)
        renaming = naming.advice(list(target), list(tensors))
        raise InputError(f"checkpoint {path} does not fit the model; {'; '.join(problems)}{renaming}")
    if target and not fitting:
        raise InputError(f"checkpoint {path} gives nothing to the model: ignore: leaves out all of it; keep some")
    first: dict[str, str] = {}
    for name, tensor in tensors.items():
        other = first.setdefault(alias[name], name)
        if other != name and not _equal(tensors[other], tensor):
            raise InputError(
                f"checkpoint {path} gives different values for {other} and {name}, which the model ties together"
            )
    return {name: tensors[first[alias[name]]] for name in target if alias[name] in first}


def cast_model(model: nn.Module, dtype: torch.dtype, device: torch.device | None) -> None:
    """Parameters and buffers in `dtype`, in place, on `device` or where they are."""
    if is_sharded(model):  # this tells FSDP of the new shards
        model._apply(lambda tensor: cast(tensor, dtype, device or tensor.device))  # type: ignore[no-untyped-call]
        return
    # Module.to would turn complex parameters into real ones
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            parameter.data = cast(parameter.data, dtype, device or parameter.device)
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = cast(buffer, dtype, device or buffer.device)


def refuse_nonfinite(parameters: Mapping[str, Tensor], source: str) -> None:
    """InputError where a parameter that moves is not finite. Others may be: a causal mask holds -inf."""
    bad = [name for name, p in parameters.items() if not bool(torch.isfinite(p).all())]
    if bad:
        raise InputError(f"{source} holds NaN or infinite numbers in {list_some(bad)}; use a finite checkpoint")


def refuse_lazy(model: nn.Module, source: str) -> None:
    """InputError where parameters have no shape yet."""
    lazy = [name for name, tensor in _state(model).items() if is_lazy(tensor)]
    if lazy:
        raise InputError(
            f"{source} has lazy parameters, whose shapes the first batch decides: {list_some(lazy)}; "
            "run the model on a batch in task(), before it is returned"
        )


def refuse_meta(model: nn.Module, source: str) -> None:
    """InputError where tensors have no memory."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    meta = [name for name, tensor in tensors if tensor.is_meta]
    if meta:
        raise InputError(
            f"{source} has tensors on the meta device that no checkpoint fills: {list_some(meta)}; "
            "make them in task() on the CPU"
        )


def _state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model's state dict; what `get_extra_state` adds is no weight."""
    state = model.state_dict(keep_vars=True)
    return {k: t for k, t in state.items() if isinstance(t, Tensor) and not k.endswith("_extra_state")}


def _named(model: nn.Module, tensors: Mapping[str, Any], path: Path, naming: Naming) -> dict[str, Any]:
    """A checkpoint's entries under the model's names, as far as they are known."""
    entries = {name: value for name, value in tensors.items() if is_entry(name, value)}
    return unwrapped(naming.applied(entries, path), list(model.state_dict(keep_vars=True)), put_inside(model, path))


def _allocate(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Memory for what is on the meta device and comes from the checkpoint; tied tensors stay tied."""
    made: dict[int, Tensor] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for own in (module._parameters, module._buffers):
            for name, tensor in own.items():
                if tensor is None or not tensor.is_meta or f"{prefix}.{name}".lstrip(".") not in tensors:
                    continue
                if id(tensor) not in made:
                    empty = torch.empty_like(tensor, device="cpu")
                    is_parameter = isinstance(tensor, nn.Parameter)
                    made[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
                own[name] = made[id(tensor)]


def _aliases(target: Mapping[str, Tensor]) -> dict[str, str]:
    """For each name, the first name under which the same tensor appears."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in target.items()}


def _loses(tensor: Tensor, target: Tensor) -> bool:
    """Whether the target cannot hold the values. Rounding to a shorter float is the study's own choice."""
    if tensor.is_complex() and not target.is_complex():
        return bool(tensor.imag.any())
    if not _is_real(tensor) and _is_real(target):
        return not torch.equal(tensor.double().to(tensor.dtype), tensor)
    if tensor.is_floating_point() and not _is_real(target):
        wide = tensor.double()
        return not torch.equal(wide.to(target.dtype).double(), wide)
    if target.dtype == tensor.dtype or _is_real(target):
        return False
    return not torch.equal(tensor.to(target.dtype).to(tensor.dtype), tensor)


def _is_coded(tensor: Tensor, target: Tensor) -> bool:
    """Whether weights would be the codes of weights: their scales are elsewhere."""
    return isinstance(target, nn.Parameter) and _is_real(target) and not _is_real(tensor)


def _is_readable(dtype: torch.dtype) -> bool:
    try:
        if not dtype.is_complex:
            torch.zeros(dtype.itemsize, dtype=torch.uint8).view(dtype).to(torch.float32)
    except (NotImplementedError, RuntimeError):
        return False
    return True


def _is_real(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _equal(a: Tensor, b: Tensor) -> bool:
    """Bit by bit where float8 has no comparison."""
    if a.dtype == b.dtype and a.is_floating_point() and a.element_size() == 1:
        return torch.equal(a.view(torch.uint8), b.view(torch.uint8))
    return torch.equal(a, b)


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
