"""Flat vectors made orthonormal in their own memory: a QR decomposition of a tall matrix, block by block (TSQR).

J. Demmel, L. Grigori, M. Hoemmen and J. Langou, Communication-optimal Parallel and Sequential QR and LU Factorizations,
SIAM J. Sci. Comput. 34 (2012), section 3. Of one block it is the plain decomposition, bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from landscaper_hpc.objective.flat_layout import spans


def orthonormalize(rows: Tensor) -> None:
    """Make the rows (n, size) orthonormal in their place, one after the other: each keeps the direction of what is left
    of it outside those before it. Computed in float64; of few numbers at once, of more in two passes."""
    n, size = rows.shape
    parts = list(spans(size, n))
    if len(parts) == 1:
        basis, triangle = torch.linalg.qr(rows.double().T)
        rows.copy_((basis * torch.sign(torch.diagonal(triangle))).T)
        return
    triangles = [torch.linalg.qr(rows[:, part].double().T, mode="r")[1] for part in parts]
    joined, triangle = torch.linalg.qr(torch.cat(triangles))
    joined *= torch.sign(torch.diagonal(triangle))
    heights = [len(t) for t in triangles]
    for part, own in zip(parts, joined.split(heights), strict=True):
        rows[:, part] = (torch.linalg.qr(rows[:, part].double().T)[0] @ own).T
