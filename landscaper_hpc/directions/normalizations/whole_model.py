"""`model`: ‖u_i‖ = ‖theta*‖ over the parameters that move, so that alpha is a relative distance."""

from __future__ import annotations

import torch
from torch import Tensor

from landscaper_hpc.directions.normalizations import unit
from landscaper_hpc.objective.flat_layout import Layout


def scaled(flat: Tensor, layout: Layout, theta: Tensor) -> Tensor:
    """Flat vectors (n, size) as long as theta."""
    result: Tensor = unit.scaled(flat, layout, theta) * torch.linalg.vector_norm(theta)
    return result
