"""Fused operations of torch that are wrong in higher derivatives, by what they are made of while one differentiates.

In torch 2.13 the second derivatives of `_weight_norm` lack a term, and so do the third ones of `layer_norm`, and of
`batch_norm` and `instance_norm` on statistics of the batch, which a loss with derivatives inside meets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from landscaper_hpc.objective.listening import Listener, takes_functions

KINKS = {
    *(
        "relu",
        "threshold",
        "threshold_backward",
        "leaky_relu",
        "_prelu_kernel",
        "abs",
        "clamp",
        "clamp_min",
        "clamp_max",
    ),
    *("hardtanh", "hardswish", "hardsigmoid", "maximum", "minimum", "max", "min", "amax", "amin", "sort", "topk"),
    *("median", "kthvalue", "max_pool2d_with_indices", "max_pool3d_with_indices", "where", "sign", "sgn", "floor"),
    *("ceil", "round", "trunc", "smooth_l1_loss", "huber_loss", "softshrink", "hardshrink", "argmax", "argmin"),
    *("elu", "celu", "selu", "hardswish_", "relu_", "adaptive_max_pool2d", "fmax", "fmin", "linalg_vector_norm"),
}
"""Operations without a derivative everywhere, or with a second one that jumps."""

BATCH_STATISTICS = "statistics of the batch"
"""What `Operations` calls normalisation by the mean and variance of the batch itself."""
_BATCH_NORMS = {"native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm"}


class Decomposed(TorchFunctionMode):
    """While it is active, weight normalisation is computed by plain operations, and normalisation of layers, batches
    and instances too if `norms`. The values are the same, to rounding."""

    def __init__(self, *, norms: bool) -> None:
        super().__init__()
        self._plain = _NORMS if norms else {}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch._weight_norm:
            return _weight_norm(*args, **kwargs)
        found = self._plain[function](*args, **kwargs) if function in self._plain else None
        return function(*args, **kwargs) if found is None else found


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    result: Tensor = v * (g / torch.norm_except_dim(v, 2, dim))
    return result


def _layer_norm(
    input: Tensor,
    normalized_shape: Iterable[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    result = _normalised(input, tuple(range(-len(tuple(normalized_shape)), 0)), eps)
    if weight is not None:
        result = result * weight
    return result if bias is None else result + bias


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    over_examples: bool = True,
) -> Tensor | None:
    """None where running statistics are used, whose derivatives are right, or written."""
    if not training or running_mean is not None:
        return None
    result = _normalised(input, (*(0,) * over_examples, *range(2, input.ndim)), eps)
    shape = (1, -1, *[1] * (input.ndim - 2))
    if weight is not None:
        result = result * weight.view(shape)
    return result if bias is None else result + bias.view(shape)


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    return _batch_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps, over_examples=False
    )


def _normalised(input: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = input - input.mean(dim=dims, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dim=dims, keepdim=True) + eps)


_NORMS: dict[Any, Callable[..., Tensor | None]] = {
    torch.nn.functional.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    torch.nn.functional.batch_norm: _batch_norm,
    torch.batch_norm: lambda x, w, b, mean, var, *more: _batch_norm(x, mean, var, w, b, *more[:3]),
    torch.nn.functional.instance_norm: _instance_norm,
    torch.instance_norm: lambda x, w, b, mean, var, *more: _instance_norm(x, mean, var, w, b, *more[:3]),
}


class Operations(Listener):
    """Notes the names of the operations that run while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if takes_functions(function):
            return function(*self.heard_inside(args), **(kwargs or {}))
        name = function.overloadpacket.__name__
        self.names.add(name)
        if name in _BATCH_NORMS and args[5] is True:
            self.names.add(BATCH_STATISTICS)
        return function(*args, **(kwargs or {}))
