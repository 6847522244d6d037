"""`landscaper`: the directions of Landscaper 1.3.1, of its `landscaper.compute.compute_loss_landscape`.

They are scaled per tensor to the root of the number of entries, then as a whole to ‖theta*‖. The points on them are
`grid.Axis.of_landscaper`. They are Landscaper's to rounding, which scales in the model's precision, where all of the
model's parameters move: with frozen ones it takes tensors for each other's directions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from landscaper_hpc.objective.flat_layout import Layout


def scaled(flat: Tensor, layout: Layout, theta: Tensor) -> Tensor:
    """Flat float64 vectors (n, size) scaled as Landscaper scales them: its `normalize_direction` and the scaling
    after it."""
    result = torch.zeros_like(flat)
    for name, place in layout.slices().items():
        entries = math.prod(layout.shapes[name])
        lengths = torch.linalg.vector_norm(flat[:, place], dim=1, keepdim=True)
        result[:, place] = flat[:, place] * math.sqrt(entries) / (lengths + 1e-10)
    whole = torch.linalg.vector_norm(result, dim=1, keepdim=True)
    found: Tensor = result * (torch.linalg.vector_norm(theta) / whole)
    return found
