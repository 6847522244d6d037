"""Precision is a choice that is recorded: what each name means for parameters, data and matrix products.

| name      | parameters and data | matrix products                          |
|-----------|---------------------|------------------------------------------|
| `float64` | float64             | float64                                  |
| `float32` | float32             | float32 (TF32 off)                       |
| `tf32`    | float32             | TF32 on GPUs that have it, else float32  |
| `bf16`    | float32             | bfloat16 autocast                        |

Whatever the choice, losses are averaged over the data in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscaper_hpc.errors import InputError

PRECISIONS: tuple[str, ...] = ("float64", "float32", "tf32", "bf16")

# How products of float32 numbers are rounded: in torch since 2.9 a setting of each kind of operation, before that two
# switches. Reading those fails where a user's code has used the new settings.
_BACKENDS: Any = torch.backends
_ON_GPU: tuple[Any, ...]
_ON_CPU: tuple[Any, ...]
_TF32: str | bool
_FULL: str | bool
if hasattr(_BACKENDS.cudnn, "conv"):
    _SETTING, _TF32, _FULL = "fp32_precision", "tf32", "ieee"
    _ON_GPU = (_BACKENDS.cuda.matmul, _BACKENDS.cudnn.conv, _BACKENDS.cudnn.rnn)
    _ON_CPU = (_BACKENDS.mkldnn.matmul, _BACKENDS.mkldnn.conv, _BACKENDS.mkldnn.rnn)
else:
    _SETTING, _TF32, _FULL = "allow_tf32", True, False
    _ON_GPU, _ON_CPU = (_BACKENDS.cuda.matmul, _BACKENDS.cudnn), ()


def dtype_of(precision: str) -> torch.dtype:
    """The real dtype of parameters and data (complex parameters take the complex dtype of the same width)."""
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}")
    return torch.float64 if precision == "float64" else torch.float32


def epsilon(precision: str, device: torch.device) -> float:
    """The relative rounding error of one operation in this precision, or in float16, to which a loss may round."""
    if precision in ("bf16", "float16"):
        return torch.finfo(torch.bfloat16 if precision == "bf16" else torch.float16).eps
    if precision == "tf32" and device.type == "cuda":
        return 2.0**-10
    return torch.finfo(dtype_of(precision)).eps


def dtype_in(tensor: torch.Tensor, dtype: torch.dtype) -> torch.dtype:
    """What `cast` makes of a tensor's dtype."""
    if tensor.is_complex():
        return dtype.to_complex()
    return dtype if tensor.is_floating_point() else tensor.dtype


def cast(tensor: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`, in the real dtype or its complex partner; integer and boolean tensors keep theirs."""
    # moved before it is converted: the result of a conversion on the host would lie in memory that is not pinned
    return tensor.to(device, non_blocking=True).to(dtype_in(tensor, dtype))


@contextmanager
def arithmetic(precision: str, device: torch.device, *, autocast: bool = True) -> Iterator[None]:
    """Matrix products as `precision` says, whatever the user's code has chosen, and cuDNN without algorithms chosen by
    timing; restored on exit."""
    cudnn = torch.backends.cudnn
    switches = (*_ON_GPU, *_ON_CPU)
    before = [getattr(switch, _SETTING) for switch in switches]
    timing = cudnn.benchmark, cudnn.deterministic
    for switch in switches:
        setattr(switch, _SETTING, _TF32 if precision == "tf32" and switch in _ON_GPU else _FULL)
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        # the cache of cast weights must be off: it would keep the weights of an earlier point
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast and precision == "bf16", cache_enabled=False):
            yield
    finally:
        cudnn.benchmark, cudnn.deterministic = timing
        for switch, value in zip(switches, before, strict=True):
            setattr(switch, _SETTING, value)


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU, run torch with one thread: sums then do not depend on how many there are. Parallelism comes from
    processes. Restored on exit."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention by plain matrix products: the fused kernels have no second derivative and no batching rule."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
