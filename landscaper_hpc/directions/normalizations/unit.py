"""`unit`: ‖u_i‖ = 1."""

from __future__ import annotations

from torch import Tensor

from landscaper_hpc.directions.normalizations import change, lengths
from landscaper_hpc.objective.flat_layout import Layout


def scaled(flat: Tensor, layout: Layout, theta: Tensor) -> Tensor:
    """Flat vectors (n, size) of length 1."""
    length = lengths(flat, layout)
    change(flat, lambda u: u / length)
    return flat
