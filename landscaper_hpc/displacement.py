"""theta(alpha) = ((theta* + alpha_1 u_1) + alpha_2 u_2) + …, in that order, for one point or many."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscaper_hpc.directions import Directions
from landscaper_hpc.layout import Layout
from landscaper_hpc.objective import Objective


class Walk:
    """theta(alpha) for a sequence of points, as flat vectors (see `Layout`). Partial sums are shared between points
    with the same leading coordinates: along the last axis of a grid a point costs one addition of a multiple."""

    def __init__(self, objective: Objective, directions: Directions) -> None:
        self.layout = Layout.of(objective.parameters)
        self._theta = self.layout.flatten(objective.parameters)
        ordered = {name: directions.vectors[name].to(p) for name, p in objective.parameters.items()}
        self._u = self.layout.flatten(ordered)
        self._partial = [self._theta.clone() for _ in range(len(self._u))]
        self._last: NDArray[np.float64] | None = None

    def one(self, alpha: NDArray[np.float64]) -> Tensor:
        """theta(alpha), shape (size,). Always the same memory: the next call overwrites it."""
        changed = 0
        if self._last is not None:
            while changed < len(alpha) - 1 and alpha[changed] == self._last[changed]:
                changed += 1
        for i in range(changed, len(alpha)):
            before = self._theta if i == 0 else self._partial[i - 1]
            torch.add(before, self._u[i], alpha=float(alpha[i]), out=self._partial[i])
        self._last = alpha
        return self._partial[-1]

    def many(self, alphas: NDArray[np.float64]) -> Tensor:
        """theta(alpha) for all rows of `alphas` (b, n), shape (b, size). Product and sum are rounded one after the
        other, so that no element depends on where a vector register ends."""
        rows = self._theta[None]
        parent = np.zeros(len(alphas), dtype=np.int64)  # for each point, its row so far
        for i in range(alphas.shape[1]):
            new = np.ones(len(alphas), dtype=bool)
            new[1:] = (alphas[1:, : i + 1] != alphas[:-1, : i + 1]).any(axis=1)
            first = np.flatnonzero(new)
            step = torch.from_numpy(alphas[first, i]).to(rows)[:, None] * self._u[i]
            step += rows if len(rows) == 1 else rows[torch.from_numpy(parent[first]).to(rows.device)]
            rows, parent = step, np.cumsum(new) - 1
        return rows if len(rows) == len(alphas) else rows[torch.from_numpy(parent).to(rows.device)]
