"""Compiled kernels of the contour tree: Carr, Snoeyink and Axen, *Computing contour trees in all dimensions* (2003).

Nodes are numbered in order from the lowest up. In a tree of sublevel sets a pointer leads to the next node above, in
one of superlevel sets to the next below; -1 at its end. Both hold all nodes, each tree the critical vertices of the
other as regular ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from landscaper_hpc.topology.kernels.compiled import jit
from landscaper_hpc.topology.kernels.forest import find


@jit
def arcs(leaf: Any, child: Any, parent: Any, at: Any, n_leaves: int, next_: Any, count: Any) -> None:
    """The merge tree with all nodes on its arcs: `next_` of each node, and the `count` of nodes that lead to it.

    leaf    (c,) the number of the leaf that each node descends to; nodes in the order of the sweep
    child, parent, at   (e,) leaves whose components meet at a node, in the order of these nodes
    """
    component = np.arange(n_leaves).astype(np.int32)
    top = np.full(n_leaves, -1, np.int32)
    e = 0
    for i in range(leaf.size):
        own = find(component, leaf[i])
        if top[own] >= 0:
            next_[top[own]] = i
            count[i] += 1
        while e < at.size and at[e] == i:
            for x in (child[e], parent[e]):
                other = find(component, x)
                if other != own:
                    if top[other] >= 0:
                        next_[top[other]] = i
                        count[i] += 1
                    if other < own:
                        own, other = other, own
                    component[other] = own
            e += 1
        top[own] = i


@jit
def follow(next_: Any, alive: Any, v: int) -> Any:
    """The next node of a tree that is still in it; -1 for none."""
    end = next_[v]
    while end >= 0 and not alive[end]:
        end = next_[end]
    while next_[v] != end:
        after = next_[v]
        next_[v] = end
        v = after
    return end


@jit
def strip(next_: Any, count: Any, here: Any, other: Any, other_count: Any, there: Any, edges: Any, found: int) -> int:
    """Take leaves off one tree, one after the other, that at most one node of the other tree leads to; each with its
    arc becomes an edge. Returns the number of edges, or -1 where such a leaf has no arc although nodes are left.

    `here`, `there`: which nodes are in this tree and in the other. The result does not depend on the order: taking a
    leaf makes no other one unfit and changes no other's arc.
    """
    left = 0
    stack = np.empty(here.size, np.int32)
    waiting = 0
    for v in range(here.size):
        left += here[v]
        if here[v] and count[v] == 0 and there[v] and other_count[v] < 2:
            stack[waiting] = v
            waiting += 1
    while waiting and left > 1:
        waiting -= 1
        v = stack[waiting]
        w = follow(next_, here, v)
        if w < 0:
            return -1
        edges[found, 0] = v
        edges[found, 1] = w
        found += 1
        here[v] = False
        left -= 1
        there[v] = False
        x = follow(other, there, v)
        if other_count[v] == 0 and x >= 0:
            other_count[x] -= 1
            if other_count[x] == 1 and x != w and here[x] and count[x] == 0:
                stack[waiting] = x
                waiting += 1
        count[w] -= 1
        if count[w] == 0 and there[w] and other_count[w] < 2:
            stack[waiting] = w
            waiting += 1
    return found


@jit
def combine(up: Any, below: Any, down: Any, above: Any) -> Any:
    """The edges of the contour tree, (c - 1, 2), each as it was taken, from both merge trees, which are used up."""
    n = up.size
    edges = np.empty((n - 1, 2), np.int32)
    lower = np.ones(n, np.bool_)
    upper = np.ones(n, np.bool_)
    found = 0
    while found < n - 1:
        found = strip(down, above, upper, up, below, lower, edges, found)
        found = strip(up, below, lower, down, above, upper, edges, found)
    return edges
