"""Whether vmap may loop over what has no batching rule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def looping(allowed: bool) -> Iterator[None]:
    """Whether an operation without a batching rule may be looped over: slow, unless it is recorded as what it loops
    over. torch's warning of it passes by Python, and is left out."""
    functorch: Any = torch._C._functorch
    functorch._set_vmap_fallback_enabled(allowed)
    functorch._set_vmap_fallback_warning_enabled(False)
    try:
        yield
    finally:
        functorch._set_vmap_fallback_enabled(True)
        functorch._set_vmap_fallback_warning_enabled(True)
