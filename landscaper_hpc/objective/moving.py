"""Which parameters of a model move."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import torch
from torch import nn

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.checkpoints import list_some


def refuse_unmovable(model: nn.Module, moving: set[str], source: str) -> None:
    for name, p in model.named_parameters():
        if name not in moving:
            continue
        if not (p.is_floating_point() or p.is_complex()):
            kind = str(p.dtype).removeprefix("torch.")
            raise InputError(f"{source}: {name} holds {kind}, which cannot move; leave it out with frozen or only")
        if p.layout is not torch.strided:
            raise InputError(f"{source}: {name} is a sparse tensor, which cannot move; make it dense with to_dense()")


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
