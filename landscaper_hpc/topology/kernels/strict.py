"""Compiled kernels of topopy 1.0.4, on which Landscaper 1.3.1 stands: merge trees in which a vertex meets only
neighbours that are strictly lower, and descent along the steepest edge, both in single precision (its MergeTree.cpp and
MorseComplex.cpp).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from landscaper_hpc.topology.kernels.compiled import jit
from landscaper_hpc.topology.kernels.forest import find
from landscaper_hpc.topology.kernels.ids import place


@jit
def _inside(at: Any, shape: Any, step: Any) -> bool:
    for d in range(shape.size):
        x = at[d] + step[d]
        if x < 0 or x >= shape[d]:
            return False
    return True


@jit
def strict_tree(y: Any, order: Any, shape: Any, steps: Any, dist: Any, end: Any, owner: Any, node: Any) -> bool:
    """Sweep the vertices in `order`; each meets the components of its neighbours that are strictly lower.

    A vertex that meets none or several is a `node`; `end` is the node that an arc leads to from each node, `owner` the
    node on whose arc a regular vertex lies; -1 for none. The last vertex is a node, too. False where that is one
    already: topopy cannot work with such a tree.
    """
    component = np.arange(y.size).astype(np.int32)
    top = np.full(y.size, -1, np.int32)
    at = np.empty(shape.size, np.int64)
    for v in order:
        place(v, shape, at)
        own = np.int32(v)
        met = 0
        for k in range(dist.size):
            if not _inside(at, shape, steps[k]) or not y[v + dist[k]] < y[v]:
                continue
            other = find(component, np.int32(v + dist[k]))
            if other == own:
                continue
            if met == 1:  # a node after all: what is met so far ends here
                end[top[own]] = v
            if met >= 1:
                end[top[other]] = v
            if met == 0:
                component[own] = other
                own = other
            elif other < own:
                component[own] = other
                top[other] = top[own]
                own = other
            else:
                component[other] = own
            met += 1
        if met == 1:
            owner[v] = top[own]
        else:
            node[v] = True
            top[own] = v
    last = order[-1]
    if node[last]:
        return False
    node[last] = True
    end[owner[last]] = last
    return True


@jit
def strict_arcs(order: Any, end: Any, owner: Any, node: Any, number: Any, next_: Any, inside: Any) -> Any:
    """Pointers along the arcs of a tree between the vertices that have a `number`, which are all nodes of it and
    others, and which of them are `inside` it: regular vertices whose arc has no end are not. Returns how many lead to
    each."""
    last = np.full(next_.size, -1, np.int32)
    for v in order:
        i = number[v]
        if i < 0:
            continue
        if node[v]:
            last[i] = i
            if end[v] >= 0:
                inside[i] = True
                inside[number[end[v]]] = True
        elif owner[v] >= 0 and end[owner[v]] >= 0:
            j = number[owner[v]]
            next_[last[j]] = i
            last[j] = i
            inside[i] = True
    for v in order:
        if node[v] and end[v] >= 0:
            next_[last[number[v]]] = number[end[v]]
    count = np.zeros(next_.size, np.int32)
    for i in next_:
        if i >= 0:
            count[i] += 1
    return count


@jit
def steepest(y: Any, x: Any, shape: Any, steps: Any, dist: Any) -> Any:
    """The vertex at which the descent from each one ends: along the edge with the largest (y[v] - y[w]) / distance;
    of equal ones to the lowest id, on the level to a lower id than its own. `x` (n, k): coordinates along each axis."""
    root = np.empty(y.size, np.int32)
    at = np.empty(shape.size, np.int64)
    for v in range(y.size):
        place(v, shape, at)
        best = np.float32(0)
        to = -1
        for k in range(dist.size):
            if not _inside(at, shape, steps[k]):
                continue
            w = v + dist[k]
            square = np.float32(0)
            for d in range(shape.size):
                away = x[d, at[d]] - x[d, at[d] + steps[k, d]]
                square += away * away
            slope = (y[v] - y[w]) / np.sqrt(square)
            if slope > best or (slope == best and w < (v if to < 0 else to)):
                best = slope
                to = w
        root[v] = v if to < 0 else to
    for v in range(y.size):
        bottom = root[v]
        while root[bottom] != bottom:
            bottom = root[bottom]
        w = v
        while root[w] != bottom:
            below = root[w]
            root[w] = bottom
            w = below
    return root
