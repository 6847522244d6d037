"""The gradient of an objective, over all data and of one batch, and the proof that it is that of the losses."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.stateless import _reparametrize_module
from torch.utils.checkpoint import CheckpointError

from landscaper_hpc.directions.proof import Estimate, along
from landscaper_hpc.errors import InputError, RankRaised, user_traceback
from landscaper_hpc.objective.flat_layout import real
from landscaper_hpc.objective.in_step import is_broken
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import arithmetic, epsilon, plain_attention

# Relative differences that a wrong derivative exceeds and a right one does not.
TOLERANCE = {"float64": 1e-3, "float32": 3e-2}


_TORCH = Path(torch.__file__).parent

_checkpointed: weakref.WeakSet[Objective] = weakref.WeakSet()


def gradient(
    objective: Objective, at: Mapping[str, Tensor] | None = None, buffers: Mapping[str, Tensor] | None = None
) -> Tensor:
    """The gradient of the loss at theta*, or at the parameters `at` with these `buffers`, as a flat vector in the
    objective's dtype."""
    layout = objective.layout
    total, examples = torch.zeros(layout.size, dtype=torch.float64, device=objective.device), 0
    for batch, count in zip(objective.batches, objective.examples, strict=True):
        parts, weight = batch_gradient(objective, at or objective.parameters, batch, count, buffers=buffers)
        for name, place in layout.slices().items():
            total[place] += weight * real(parts.pop(name)).reshape(-1)
        examples += weight
    return (total / examples).to(objective.dtype)


def batch_gradient(
    objective: Objective,
    at: Mapping[str, Tensor],
    batch: Any,
    count: int,
    *,
    keep: bool = False,
    buffers: Mapping[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], int]:
    """Gradient of one batch's mean loss at `at`, whose tensors are or become leaves that require gradients; with
    `keep` it can be differentiated again."""
    _, parts, weight = value_and_gradient(objective, at, batch, count, keep=keep, buffers=buffers)
    return parts, weight


def value_and_gradient(
    objective: Objective,
    at: Mapping[str, Tensor],
    batch: Any,
    count: int,
    *,
    keep: bool = False,
    buffers: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor], int]:
    """One batch's mean loss with its gradient, as `batch_gradient`, and its weight."""
    params = {name: p if keep else p.detach().requires_grad_() for name, p in at.items()}

    def found() -> tuple[Tensor, dict[str, Tensor], int]:
        with in_place(objective, params | dict(buffers or {})):
            value, weight = objective.part(params | dict(buffers or {}), batch, count)
            if not value.requires_grad:
                return value, {name: torch.zeros_like(p) for name, p in params.items()}, weight
            with arithmetic(objective.precision, objective.device, autocast=False):
                leaves = list(params.values())
                gradients = torch.autograd.grad(value, leaves, create_graph=keep, materialize_grads=True)
        return value.detach(), dict(zip(params, gradients, strict=True)), weight

    try:
        return found()
    except CheckpointError:
        if objective in _checkpointed:
            raise
        _checkpointed.add(objective)
        return found()
    except RuntimeError as error:
        if "use_reentrant=True" in str(error):
            raise InputError(
                f"{objective.source}: calls torch.utils.checkpoint with use_reentrant=True, through which torch gives "
                "no gradients of single parameters; call it with use_reentrant=False, or use random directions "
                "(directions.kind: random), which need none"
            ) from None
        if "not implemented" not in str(error):
            raise
        with plain_attention():  # the fused kernels inside a loss with derivatives of its own
            return found()


def in_place(objective: Objective, params: Mapping[str, Tensor]) -> AbstractContextManager[None]:
    """Have the parameters in the model in backward passes too, where torch.utils.checkpoint runs the model again."""
    if objective not in _checkpointed:
        return nullcontext()
    return _reparametrize_module(objective._bound, objective._bound.under_all_names(params))


def two_functions(measured: Estimate, claimed: float, tolerance: float) -> str:
    if not measured.contradicts(claimed, tolerance):
        return ""
    return (
        "the loss and its gradient are of two functions: along a random direction the slope of the loss is "
        f"{measured.value:.6g}, and its gradient says {claimed:.6g} (a detach(), torch.no_grad() or straight-through "
        "estimator inside the loss, a custom backward pass, torch.utils.checkpoint with use_reentrant=True, or a kink "
        "at the checkpoint itself); use random directions (directions.kind: random), which need no gradient"
    )


def of_backward(error: Exception) -> bool:
    """Whether it is of a backward pass: of the user's own, or of what torch cannot differentiate, as it may raise
    anything."""
    if isinstance(error, RuntimeError):
        return not isinstance(error, RankRaised) and not is_broken(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(_TORCH)


def refuse_wrong_gradient(objective: Objective) -> None:
    """InputError where the gradient at theta* is not that of the losses."""
    layout = objective.layout
    theta = layout.whole(objective.parameters)
    line = layout.gaussian(1, seed=0, dtype=theta.dtype)[0].to(theta.device)
    line = line / layout.norm(line) * (float(layout.norm(theta)) or 1.0)
    tolerance = TOLERANCE.get(objective.precision, 0.3)
    slope, _ = along(
        lambda t: float(objective.loss(layout.unflatten(torch.add(theta, line, alpha=t))).detach()),
        epsilon(objective.precision, objective.device),
        tolerance,
    )
    try:
        claimed = float(layout.dot(gradient(objective).double(), line.double()))
    except InputError:
        raise
    except Exception as error:
        if not of_backward(error):
            raise
        raise InputError(
            f"{objective.source}: the loss has no gradient ({' '.join(str(error).split())[:200]}); use random "
            "directions (directions.kind: random), which need none",
            user_traceback(error),
        ) from error
    if not math.isfinite(claimed):
        raise InputError(
            f"{objective.source}: the gradient at the checkpoint is not finite, though the loss is (a root of zero, or "
            "a torch.where() beside a branch that is NaN there); use random directions (directions.kind: random), "
            "which need none"
        )
    if problem := two_functions(slope, claimed, tolerance):
        raise InputError(f"{objective.source}: {problem}")
