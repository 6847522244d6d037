"""Fused operations of torch that are wrong in higher derivatives, by what they are made of while one differentiates.

In torch 2.13 the second derivatives of `_weight_norm` lack a term, and so do the third ones of `layer_norm`, which a
loss with derivatives inside meets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

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


class Decomposed(TorchFunctionMode):
    """While it is active, weight normalisation is computed by plain operations, and layer normalisation too if
    `layer_norm`. The values are the same, to rounding."""

    def __init__(self, *, layer_norm: bool) -> None:
        super().__init__()
        self._layer_norm = layer_norm

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch._weight_norm:
            return _weight_norm(*args, **kwargs)
        if self._layer_norm and function is torch.nn.functional.layer_norm:
            return _layer_norm(*args, **kwargs)
        if self._layer_norm and function is torch.layer_norm:
            return _layer_norm(*args[:5])
        return function(*args, **kwargs)


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    result: Tensor = v * (g / torch.norm_except_dim(v, 2, dim))
    return result


def _layer_norm(
    input: Tensor,
    normalized_shape: Iterable[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    dims = tuple(range(-len(tuple(normalized_shape)), 0))
    centred = input - input.mean(dim=dims, keepdim=True)
    result = centred * torch.rsqrt(centred.square().mean(dim=dims, keepdim=True) + eps)
    if weight is not None:
        result = result * weight
    return result if bias is None else result + bias


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the names of the operations that run while it is active."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports the compiler to switch it off

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))
