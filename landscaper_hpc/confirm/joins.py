"""Which ends hang together, and which to join besides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.confirm.surface import Array


class Sets:
    """Sets of some ends, which are joined; each end is alone at first."""

    def __init__(self, count: int) -> None:
        self._of = list(range(count))

    def root(self, i: int) -> int:
        """The one that stands for its set."""
        while self._of[i] != i:
            self._of[i] = self._of[self._of[i]]
            i = self._of[i]
        return i

    def join(self, a: int, b: int) -> bool:
        """Whether they were apart."""
        a, b = self.root(a), self.root(b)
        self._of[max(a, b)] = min(a, b)
        return a != b


def nearest(points: Array, joined: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which of some ends (m, n) to join besides, so that all hang together: the nearest of those apart, (k, 2)."""
    component = Sets(len(points))
    for a, b in joined.tolist():
        component.join(a, b)
    first, last = np.triu_indices(len(points), 1)
    apart = np.linalg.norm(points[first] - points[last], axis=1) if len(first) else np.empty(0)
    order = np.argsort(apart, kind="stable").tolist()
    more = [(int(first[i]), int(last[i])) for i in order if component.join(int(first[i]), int(last[i]))]
    return np.array(more, np.int64).reshape(-1, 2)
