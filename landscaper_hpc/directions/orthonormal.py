"""Flat vectors made orthonormal in their own memory: a QR decomposition of a tall matrix, block by block (TSQR).

J. Demmel, L. Grigori, M. Hoemmen and J. Langou, Communication-optimal Parallel and Sequential QR and LU Factorizations,
SIAM J. Sci. Comput. 34 (2012), section 3. Of one block it is the plain decomposition, bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from landscaper_hpc.objective.flat_layout import Layout, spans


def orthonormalize(rows: Tensor, layout: Layout | None = None) -> None:
    """Make the rows (n, size) orthonormal in their place, one after the other: each keeps the direction of what is left
    of it outside those before it. Computed in float64; of few numbers at once, of more in two passes, and so of this
    rank's parts of vectors that a `layout` divides."""
    n, size = rows.shape
    parts = list(spans(size, n))
    divided = None if layout is None else layout.parts
    if len(parts) == 1 and divided is None:
        basis, triangle = torch.linalg.qr(rows.double().T)
        rows.copy_((basis * torch.sign(torch.diagonal(triangle))).T)
        return
    triangles = [torch.linalg.qr(rows[:, part].double().T, mode="r")[1] for part in parts]
    mine = torch.cat(triangles)
    heights = [len(t) for t in triangles]
    if divided is not None:  # that of this rank, and then of all
        own_basis, own_triangle = torch.linalg.qr(mine)
        square = own_triangle.new_zeros(n, n)
        square[: len(own_triangle)] = own_triangle
        joined, triangle = torch.linalg.qr(divided.gathered(square).reshape(-1, n))
        place = divided.rank * n
        joined = joined * torch.sign(torch.diagonal(triangle))
        joined = own_basis @ joined[place : place + len(own_triangle)]
    else:
        joined, triangle = torch.linalg.qr(mine)
        joined *= torch.sign(torch.diagonal(triangle))
    for part, own in zip(parts, joined.split(heights), strict=True):
        rows[:, part] = (torch.linalg.qr(rows[:, part].double().T)[0] @ own).T
