"""`unit`: ‖u_i‖ = 1."""

from __future__ import annotations

import torch
from torch import Tensor

from landscaper_hpc.objective.flat_layout import Layout


def scaled(flat: Tensor, layout: Layout, theta: Tensor) -> Tensor:
    """Flat vectors (n, size) of length 1."""
    lengths = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    result: Tensor = flat / lengths
    return result
