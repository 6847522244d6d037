"""`layer`: every tensor of u_i gets the norm of the same tensor of theta*. One of theta* that is zero does not move."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from landscaper_hpc.directions.normalizations import change, lengths
from landscaper_hpc.objective.flat_layout import Layout, spans


def scaled(flat: Tensor, layout: Layout, theta: Tensor) -> Tensor:
    """Flat vectors (n, size), tensor by tensor as long as theta."""
    for place in layout.slices().values():
        make_as_long_as(flat[:, place], theta[place], 1, layout)
    return flat


def make_as_long_as(u: Tensor, theta: Tensor, rows: int, layout: Layout | None = None) -> None:
    """Vectors (n, m), each cut in `rows` parts of which every one gets the length of its part of theta (m,); what is
    zero in either stays so. With a `layout` each is one part, which ranks may hold together."""
    m = u.shape[1] // max(rows, 1)
    for span in spans(rows, len(u) * m):
        parts, own = u.view(len(u), rows, m)[:, span], theta.view(rows, m)[span]
        target, length = lengths(own, layout), lengths(parts, layout)
        change(parts, partial(_as_long, target, length))


def _as_long(target: Tensor, length: Tensor, parts: Tensor) -> Tensor:
    return torch.where(length > 0, parts / length, 0.0) * target
