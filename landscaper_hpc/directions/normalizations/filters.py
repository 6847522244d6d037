"""`filter`: every filter (slice along the first axis) of a tensor with two or more axes gets the norm of the same one
of theta*; tensors with one axis or none (biases, BatchNorm) do not move, nor does a filter of theta* that is zero.

Li et al., Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018, section 4, and `biasbn` of their code.
"""

from __future__ import annotations

from torch import Tensor

from landscaper_hpc.directions.normalizations.layer import make_as_long_as
from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.flat_layout import Layout


def scaled(flat: Tensor, layout: Layout, theta: Tensor) -> Tensor:
    """Flat vectors (n, size), filter by filter as long as theta. `InputError` where ranks hold parts of one."""
    if layout.parts is not None and not layout.parts.by_rows:
        raise InputError(
            "directions.normalization is 'filter', and the model is divided across its filters (along another axis "
            "than the first); choose 'model' or 'layer', or divide it with fully_shard"
        )
    for name, place in layout.slices().items():
        if len(layout.whole_shapes[name]) > 1:
            make_as_long_as(flat[:, place], theta[place], layout.shapes[name][0])
        else:
            flat[:, place] = 0
    return flat
