"""How long directions are: one module a normalisation, found through `study.choices.NORMALIZATIONS`.

Each has `scaled(flat, layout, theta)`: directions as flat vectors (n, size), scaled for the flat parameters `theta`
(size,), in the same memory or in new. They are float64 where they are small, and else of the objective's own type:
there may be no room for them twice, so what is here computes in float64 by parts (`lengths`, `change`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from landscaper_hpc.objective.flat_layout import Layout, spans


def lengths(vectors: Tensor, layout: Layout | None = None) -> Tensor:
    """The norms along the last axis, which is kept, float64; over all ranks of what a `layout` divides."""
    parts = [
        torch.linalg.vector_norm(vectors[..., span].double(), dim=-1, keepdim=True)
        for span in spans(vectors.shape[-1], vectors[..., :1].numel())
    ]
    found: Tensor = torch.linalg.vector_norm(torch.cat(parts, -1), dim=-1, keepdim=True)
    found = parts[0] if len(parts) == 1 else found
    return found if layout is None or layout.parts is None else layout.total(found.square()).sqrt()


def change(vectors: Tensor, f: Callable[[Tensor], Tensor]) -> None:
    """Put f(vectors), computed in float64 number by number along the last axis, in their place."""
    for span in spans(vectors.shape[-1], vectors[..., :1].numel()):
        vectors[..., span] = f(vectors[..., span].double())
