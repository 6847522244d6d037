"""`landscaper`: the directions of Landscaper 1.3.1, of its `landscaper.compute.compute_loss_landscape`.

They are scaled per tensor to the root of the number of entries, then as a whole to ‖theta*‖. The points on them are
`grid.Axis.of_landscaper`. They are Landscaper's to rounding, which scales in the model's precision, where all of the
model's parameters move: with frozen ones it takes tensors for each other's directions.
"""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor

from landscaper_hpc.directions.normalizations import change, lengths
from landscaper_hpc.objective.flat_layout import Layout


def scaled(flat: Tensor, layout: Layout, theta: Tensor) -> Tensor:
    """Flat vectors (n, size) scaled as Landscaper scales them: its `normalize_direction` and the scaling
    after it."""
    for name, place in layout.slices().items():
        root = math.sqrt(math.prod(layout.whole_shapes[name]))
        change(flat[:, place], partial(_to_root, root, lengths(flat[:, place], layout)))
    factor = lengths(theta, layout) / lengths(flat, layout)
    change(flat, lambda u: u * factor)
    return flat


def _to_root(root: float, length: Tensor, part: Tensor) -> Tensor:
    return part * root / (length + 1e-10)
