"""Which parameters of a model move."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import torch
from torch import nn

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.checkpoints import list_some


def refuse_unreplaceable(model: nn.Module) -> None:
    """`InputError` for a part of a model whose parameters torch cannot replace for the time of a call."""
    modules, known = [("", model)], {id(model)}
    for name, module in modules:  # without `named_modules`, which needs them to be hashable
        what = f"its part {name}, of class {type(module).__name__}," if name else type(module).__name__
        if type(module).__hash__ is None:
            raise InputError(
                f"Task.model: {what} compares by value and cannot be hashed, as modules must be; write "
                "@dataclass(eq=False), or leave __eq__ out"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(
                f"Task.model: {what} is a TorchScript program, whose parameters cannot be displaced; give the module "
                "that it was made of"
            )
        for part, inner in module._modules.items():
            if inner is not None and id(inner) not in known:
                known.add(id(inner))
                modules.append((f"{name}.{part}".strip("."), inner))


def refuse_unmovable(model: nn.Module, moving: set[str], source: str) -> None:
    for name, p in model.named_parameters():
        if name not in moving:
            continue
        if not (p.is_floating_point() or p.is_complex()):
            kind = str(p.dtype).removeprefix("torch.")
            raise InputError(f"{source}: {name} holds {kind}, which cannot move; leave it out with frozen or only")
        if p.layout is not torch.strided:
            raise InputError(f"{source}: {name} is a sparse tensor, which cannot move; make it dense with to_dense()")


def modules_like(pattern: str, names: Sequence[str]) -> list[str]:
    """Names of modules that a pattern names, in their order; as in a shell, but `*` stands for one part of a name: the
    blocks, not what is in them."""
    parts = pattern.split(".")
    return [
        name for name in names if len(of := name.split(".")) == len(parts) and all(map(fnmatch.fnmatchcase, of, parts))
    ]


def matching(patterns: Sequence[str], names: set[str], source: str) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        matches = fnmatch.filter(names, pattern)
        if not matches:
            raise InputError(
                f"{source}: no parameter that moves matches {pattern!r}; there are {list_some(sorted(names))}"
            )
        found.update(matches)
    return found
