"""`model`: ‖u_i‖ = ‖theta*‖ over the parameters that move, so that alpha is a relative distance."""

from __future__ import annotations

from torch import Tensor

from landscaper_hpc.directions.normalizations import change, lengths
from landscaper_hpc.objective.flat_layout import Layout


def scaled(flat: Tensor, layout: Layout, theta: Tensor) -> Tensor:
    """Flat vectors (n, size) as long as theta."""
    length, whole = lengths(flat, layout), lengths(theta, layout)
    change(flat, lambda u: u / length * whole)
    return flat
