"""theta(alpha) = ((theta* + alpha_1 u_1) + alpha_2 u_2) + …, in that order, for one point or many."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscaper_hpc.directions.directions import Directions
from landscaper_hpc.objective.objective import Objective, Parameters

_PARTIAL = 64 << 20
"""Bytes of partial sums that are kept: of models so large that there is no room for more, the loss takes much longer
than additions."""


class Walk:
    """theta(alpha) for a sequence of points. Partial sums are shared between points with the same leading coordinates:
    along the last axis of a grid a point of a small model costs one addition of a multiple. What a call returns are
    views, by name, of memory that the next call overwrites."""

    def __init__(self, objective: Objective, directions: Directions, memory: Tensor | None = None) -> None:
        """`memory` (size,): where single points are put, if not in memory of its own."""
        self.layout = objective.layout
        self._theta = self.layout.whole(objective.parameters)
        ordered = {name: directions.vectors[name].to(p) for name, p in objective.parameters.items()}
        self._u = self.layout.whole(ordered)
        more = len(self._u) - 1
        kept = more if more * self._theta.nbytes <= _PARTIAL else 0
        self._partial = [torch.empty_like(self._theta) for _ in range(kept)]
        self._partial.append(torch.empty_like(self._theta) if memory is None else memory)
        self._last: NDArray[np.float64] | None = None
        self._point = self.layout.unflatten(self._partial[-1])
        self._rows = self._theta.new_empty(0, len(self._theta))
        self._points = self.layout.unflatten(self._rows)

    def one(self, alpha: NDArray[np.float64]) -> Parameters:
        """theta(alpha), tensors of shape (*shape)."""
        if len(self._partial) < len(alpha):
            before = self._theta
            for a, u in zip(alpha.tolist(), self._u, strict=True):
                before = torch.add(before, u, alpha=a, out=self._partial[0])
            return self._point
        changed = 0
        if self._last is not None:
            while changed < len(alpha) - 1 and alpha[changed] == self._last[changed]:
                changed += 1
        for i in range(changed, len(alpha)):
            before = self._theta if i == 0 else self._partial[i - 1]
            torch.add(before, self._u[i], alpha=float(alpha[i]), out=self._partial[i])
        self._last = alpha
        return self._point

    def many(self, alphas: NDArray[np.float64]) -> Parameters:
        """theta(alpha) for all rows of `alphas` (b, n), tensors of shape (b, *shape). Product and sum are rounded one
        after the other, so that no element depends on where a vector register ends."""
        if len(self._rows) != len(alphas):
            self._rows = self._theta.new_empty(len(alphas), len(self._theta))
            self._points = self.layout.unflatten(self._rows)
        new = (alphas[1:, :-1] != alphas[:-1, :-1]).any(axis=1)
        starts = [0, *(np.flatnonzero(new) + 1).tolist()]  # of points with the same leading coordinates
        leading = self._leading(alphas[starts, :-1])
        torch.mul(torch.from_numpy(alphas[:, -1:]).to(self._u), self._u[-1], out=self._rows)
        for row, start, stop in zip(leading, starts, [*starts[1:], len(alphas)], strict=True):
            self._rows[start:stop] += row
        return self._points

    def _leading(self, alphas: NDArray[np.float64]) -> Tensor:
        """theta* plus all displacements but the last, for all rows of `alphas` (b, n - 1), shape (b, size)."""
        rows = self._theta.expand(len(alphas), -1)
        for alpha, u in zip(torch.from_numpy(alphas.T).to(self._u), self._u, strict=False):
            rows = torch.mul(alpha[:, None], u).add_(rows)
        return rows
