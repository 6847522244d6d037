"""Whether a loss rounds what depends on its parameters to fewer digits than the study asks for.

The losses of Hugging Face's models turn logits to float32 by themselves, and so do some normalisations and softmaxes:
then float64 is not float64, and differences of a few float32 roundings are noise. It is found by following the loss
operation by operation, from the parameters on; what does not reach the loss does not count.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.following import Follower
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import epsilon, one_thread

log = logging.getLogger(__name__)

_NAMES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bf16"}
_OWN = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))


class Narrowing(NamedTuple):
    """The `precision` that a loss is computed in at its narrowest, and a sentence that says so."""

    precision: str
    notice: str


def narrowing(objective: Objective) -> Narrowing | None:
    """What the loss of the first batch is rounded to on its way, where that is coarser than the study's precision.

    Costs one evaluation of that batch. None where the loss cannot be followed. Where several ranks hold the model, all
    call it together, and each follows its own loss.
    """
    follower = _Roundings(epsilon(objective.precision, objective.device))
    try:
        with one_thread(objective.device):
            value = _of_ranks(objective, follower) if objective.sharded else _of_one(objective, follower)
    except InputError:
        raise
    except Exception as error:  # what cannot be followed is taken as it is
        log.info("the loss cannot be followed: %s: %s", type(error).__name__, error)
        return None
    met = follower.marks(value)
    own = [name for i, name in enumerate(_NAMES.values()) if met & (_MOVES << (i + 1))]
    met_by_any = objective.by_any(own)
    found = [dtype for dtype, name in _NAMES.items() if name in met_by_any]
    if not found:
        return None
    dtype = max(found, key=lambda each: torch.finfo(each).eps)
    name = _NAMES[dtype]
    return Narrowing(
        name,
        f"the loss rounds what depends on the parameters to {name}{follower.places.get(dtype, '')}, whatever the "
        f"study's precision ({objective.precision}): differences of a few {name} roundings are noise. Where it is the "
        "loss's own doing, compute the loss from the model's outputs without a cast, for all digits",
    )


_MOVES = 1


def _of_one(objective: Objective, follower: Follower) -> Tensor:
    params = {name: p.clone() for name, p in objective.parameters.items()}
    for p in params.values():
        follower.mark(p, _MOVES)
    with torch.no_grad(), follower:
        return objective.part(params, objective.batches[0], objective.examples[0])[0]


def _of_ranks(objective: Objective, follower: Follower) -> Tensor:
    """What a module computes with is there when it is called: gathered by then."""

    def called(module: nn.Module, _: Any) -> None:
        for p in module.parameters(recurse=False):
            follower.mark(p, _MOVES)

    hooks = [module.register_forward_pre_hook(called) for module in objective.model.modules()]
    try:
        return objective.heard(follower)
    finally:
        for hook in hooks:
            hook.remove()


class _Roundings(Follower):
    """Marks what is rounded from a wider type to one that is coarser than `fine`; bit i + 1 is the i-th of `_NAMES`."""

    def __init__(self, fine: float) -> None:
        super().__init__()
        self._fine = fine
        self.places: dict[torch.dtype, str] = {}

    def made(self, result: Any, inputs: list[Tensor], bits: int) -> int:
        if not bits & _MOVES:
            return bits
        widest = min((_eps(t) for t in inputs if self.marks(t) & _MOVES), default=1.0)
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.dtype in _NAMES and _eps(leaf) > max(widest, self._fine):
                bits |= _MOVES << (list(_NAMES).index(leaf.dtype) + 1)
                self.places.setdefault(leaf.dtype, _place(sys._getframe()))
        return bits


def _eps(tensor: Tensor) -> float:
    return torch.finfo(tensor.dtype).eps if tensor.is_floating_point() or tensor.is_complex() else 1.0


def _place(frame: FrameType | None) -> str:
    """Where in the code that is neither torch's nor ours."""
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((*_OWN, "<")):
            return f" ({Path(name).name}, line {frame.f_lineno})"
        frame = frame.f_back
    return ""
