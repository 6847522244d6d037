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

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscaper_hpc.errors import InputError

PRECISIONS: tuple[str, ...] = ("float64", "float32", "tf32", "bf16")


def dtype_of(precision: str) -> torch.dtype:
    """The real dtype of parameters and data (complex parameters take the complex dtype of the same width)."""
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}")
    return torch.float64 if precision == "float64" else torch.float32


def cast(tensor: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`, in the real dtype or its complex partner; integer and boolean tensors keep theirs."""
    if tensor.is_complex():
        return tensor.to(device, dtype.to_complex(), non_blocking=True)
    return tensor.to(device, dtype if tensor.is_floating_point() else None, non_blocking=True)


@contextmanager
def arithmetic(precision: str, device: torch.device, *, autocast: bool = True) -> Iterator[None]:
    """Matrix products as `precision` says, and cuDNN without algorithms chosen by timing; restored on exit."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        # the cache of cast weights must be off: it would keep the weights of an earlier point
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast and precision == "bf16", cache_enabled=False):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before


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
