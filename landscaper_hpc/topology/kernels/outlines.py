"""The loops of `landscape_profile`: how basins grow with the height, and where their outlines are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from landscaper_hpc.topology.kernels.compiled import jit

_POINTS_PER_E = 25
"""An outline gets a new point when it has grown by this fraction of itself, so that small basins and deep bottoms are
as smooth."""


@jit
def sweep_upwards(order: Any, labels: Any, parent: Any, dying: Any, death: Any, step: int) -> Any:
    """Add the vertices from the lowest up and note outline points: branch, vertex, size of the branch's component, and
    which branch it has just absorbed (-1 for none)."""
    m = parent.size
    size = np.zeros(m, np.int64)
    noted = np.zeros(m, np.int64)
    component = np.arange(m)
    last = np.zeros(m, np.int64)
    most = order.size + 4 * m
    branch = np.empty(most, np.int64)
    vertex = np.empty(most, np.int64)
    sizes = np.empty(most, np.int64)
    after = np.full(most, -1, np.int64)
    p = 0
    d = 0
    for v in order:
        while d < dying.size and death[dying[d]] == v:
            child = dying[d]
            elder = parent[child]
            d += 1
            for i in (child, elder):
                branch[p], vertex[p], sizes[p] = i, v, size[i]
                p += 1
            size[elder] += size[child]
            component[child] = elder
            branch[p], vertex[p], sizes[p], after[p] = elder, v, size[elder], child
            noted[elder] = size[elder]
            p += 1
        i = labels[v]
        while component[i] != i:
            component[i] = component[component[i]]
            i = component[i]
        size[i] += 1
        last[i] = v
        if size[i] - noted[i] >= min(step, max(1, noted[i] // _POINTS_PER_E)):
            branch[p], vertex[p], sizes[p] = i, v, size[i]
            noted[i] = size[i]
            p += 1
    for i in range(m):
        if component[i] == i and size[i] > noted[i]:  # lives to the top
            branch[p], vertex[p], sizes[p] = i, last[i], size[i]
            p += 1
    return branch[:p], vertex[:p], sizes[:p], after[:p]


@jit
def place(start: Any, size: Any, after: Any, parent: Any, dies: Any) -> Any:
    """Left edges of all outline points, from the top down, and how deeply branches are nested.

    An outline narrows about its middle; where it splits, the absorbed branch goes to the side that keeps the
    elder's bottom nearer the middle.
    """
    m = parent.size
    left = np.zeros(size.size)
    depth = np.zeros(m, np.int64)
    top = np.zeros(m)  # left edge at the top of each branch
    x = 0.0
    for i in range(m):
        if not dies[i]:  # essential: side by side
            top[i] = x
            x += size[start[i + 1] - 1]
    for i in range(m):  # parents come first
        edge = top[i]
        width = size[start[i + 1] - 1]
        middle = edge + width / 2
        for p in range(start[i + 1] - 1, start[i] - 1, -1):
            edge += (width - size[p]) / 2
            width = size[p]
            left[p] = edge
            child = after[p]
            if child >= 0:
                own = size[p - 1]
                depth[child] = depth[i] + 1
                if edge + width / 2 <= middle:  # we have drifted left: the child takes the left side
                    top[child] = edge
                    edge += width - own
                else:
                    top[child] = edge + own
                width = own
    return left, depth
