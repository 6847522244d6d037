"""The elder rule (Edelsbrunner, Letscher and Zomorodian 2002) over a spanning forest of minima."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.kernels.compiled import jit
from landscaper_hpc.topology.kernels.forest import find
from landscaper_hpc.topology.kernels.order import ordered_keys


@jit
def inherit(parent: Any, stays: Any, heir: Any) -> None:
    """Replace in `heir` each minimum that does not stay by the nearest one up the `parent` chain that does."""
    for i in range(heir.size):  # parents come first
        if not stays[i]:
            heir[i] = heir[parent[i]]


@jit
def elder_rule(child: Any, parent: Any, saddle: Any, n_nodes: int, up: Any, died: Any, met: Any) -> None:
    """Over forest edges in order: `up` becomes each minimum's parent, `died` the edge at which it dies, `met` the
    one at which its component first meets another; all -1 for none.

    Nodes beyond the minima are none (see `tree`): they are absorbed without a trace.
    """
    component = np.arange(n_nodes)
    n_minima = up.size
    for e in range(child.size):
        a = find(component, child[e])
        b = find(component, parent[e])
        if b < a:
            a, b = b, a
        component[b] = a
        if b < n_minima:
            up[b] = a
            died[b] = e
            if met[a] < 0:
                met[a] = e
            if met[b] < 0:
                met[b] = e
    for i in range(n_minima):
        # several components at one vertex: the eldest of all absorbs each of the others
        a = up[i]
        if a >= 0 and up[a] >= 0 and saddle[died[a]] == saddle[died[i]]:
            up[i] = up[a]


def first_saddles(
    parent: NDArray[np.int64], death: NDArray[np.int64], death_value: NDArray[np.float64], sign: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A minimum's component is first met either where it dies or where the first other one dies in it."""
    first = death.copy()
    value = death_value.copy()
    children = np.flatnonzero(parent >= 0)
    if len(children):
        keys = ordered_keys(sign * death_value[children])
        order = np.lexsort((death[children], keys))
        children = children[order]
        elders, at = np.unique(parent[children], return_index=True)
        earliest = children[at]
        rank = np.full(len(parent), len(parent), np.int64)
        rank[children] = np.arange(len(children))
        sooner = rank[earliest] < rank[elders]
        first[elders[sooner]] = death[earliest[sooner]]
        value[elders[sooner]] = death_value[earliest[sooner]]
    return first, value
