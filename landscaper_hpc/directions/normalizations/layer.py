"""`layer`: every tensor of u_i gets the norm of the same tensor of theta*. One of theta* that is zero does not move."""

from __future__ import annotations

import torch
from torch import Tensor

from landscaper_hpc.objective.flat_layout import Layout


def scaled(flat: Tensor, layout: Layout, theta: Tensor) -> Tensor:
    """Flat vectors (n, size), tensor by tensor as long as theta."""
    result = torch.zeros_like(flat)
    for place in layout.slices().values():
        result[:, place] = as_long_as(flat[:, place], theta[place], 1)
    return result


def as_long_as(u: Tensor, theta: Tensor, rows: int) -> Tensor:
    """Vectors (n, m), each cut in `rows` parts of which every one gets the length of its part of theta (m,); what is
    zero in either stays so."""
    parts = u.reshape(len(u), rows, u.shape[1] // max(rows, 1))
    target = torch.linalg.vector_norm(theta.reshape(rows, parts.shape[2]), dim=1, keepdim=True)
    length = torch.linalg.vector_norm(parts, dim=2, keepdim=True)
    scaled: Tensor = torch.where(length > 0, parts / length, 0.0) * target
    return scaled.reshape(u.shape)
