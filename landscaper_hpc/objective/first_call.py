"""A call of a loss that is listened to: what it computes from its parameters, and whether their numbers leave torch.

Of the first one it is known what it left for later ones (`keeping`, `writes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from landscaper_hpc.objective.exits import Exits, watching_calls
from landscaper_hpc.objective.following import Follower
from landscaper_hpc.objective.surroundings import gaussian

_aten = torch.ops.aten
_OVERWRITING = {_aten.copy_.default, _aten.zero_.default, _aten.fill_.Scalar, _aten.fill_.Tensor}


class Call(Follower):
    """Listens to a call of a loss: what it computes from tensors that are marked, and whether their numbers leave."""

    def __init__(self, marked: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.left = False
        """Whether a number that depends on what is marked has left torch."""
        self.value: float | None = None
        """The mean of what it returned."""
        for tensor in (marked or {}).values():
            self.mark(tensor, 1)

    def listened(self, call: Callable[[], object]) -> Any:
        """What the call returns."""
        with ExitStack() as stack:
            stack.enter_context(self)
            stack.enter_context(Exits(lambda tensor, way, of_constants: self._leaves([tensor])))
            stack.enter_context(watching_calls(lambda way: self._leaves(None)))
            found = call()
        self.value = mean_of(found)
        return found

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tags = getattr(function, "tags", ())
        if torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags:
            self._leaves(pytree.tree_leaves((args, kwargs)))
        elif function in _OVERWRITING and not any(isinstance(v, Tensor) and self.marks(v) for v in args[1:]):
            self.forget(args[0])  # a workspace
        return super().__torch_dispatch__(function, types, args, kwargs)

    def _leaves(self, values: list[Any] | None) -> None:
        """Of these tensors; of an unknown one, where there are none."""
        self.left |= values is None or any(isinstance(v, Tensor) and bool(self.marks(v)) for v in values)


def elsewhere(tensors: Mapping[str, Tensor], by: float = 1.0) -> dict[str, Tensor]:
    """Other parameters, `by` so many times their size away: what is chosen or counted is another there, too."""
    found = {}
    for seed, (name, tensor) in enumerate(tensors.items()):
        size = float(tensor.detach().abs().square().mean().sqrt()) if tensor.numel() else 0.0
        found[name] = tensor.detach() + gaussian(tensor, seed) * (by * (size or 1.0))
    return found


def mean_of(value: Any) -> float | None:
    """Of what a loss returns, where it has one."""
    return float(value.detach().double().mean()) if isinstance(value, Tensor) and not value.is_complex() else None
