"""Brute force: the definitions of the design, vertex by vertex, in plain Python."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np


@dataclass
class OracleTree:
    """What `MergeTree` says, from a sweep over all vertices with union-find. Minima in order; -1 for none."""

    minima: list[int] = field(default_factory=list)
    basin_size: list[int] = field(default_factory=list)
    first_saddle: list[int] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    death: list[int] = field(default_factory=list)
    saddles: set[int] = field(default_factory=set)
    labels: list[int] = field(default_factory=list)


def grid_neighbours(shape: tuple[int, ...], connectivity: str) -> list[list[int]]:
    """Neighbours of each vertex by flat id, from the definition of each connectivity."""
    offsets = [o for o in itertools.product((-1, 0, 1), repeat=len(shape)) if any(o)]
    if connectivity == "axis":
        offsets = [o for o in offsets if sum(map(abs, o)) == 1]
    elif connectivity == "freudenthal":
        offsets = [o for o in offsets if min(o) >= 0 or max(o) <= 0]
    places = np.array(list(np.ndindex(*shape)))
    result: list[list[int]] = [[] for _ in places]
    for o in offsets:
        near = places + o
        inside = np.flatnonzero(((near >= 0) & (near < shape)).all(axis=1))
        for v, w in zip(inside, np.ravel_multi_index(tuple(near[inside].T), shape), strict=True):
            result[v].append(int(w))
    return result


def oracle_tree(values: Iterable[float], neighbours: list[list[int]], direction: str = "sublevel") -> OracleTree:
    """The merge tree of a field on a graph. Components that hold no proper minimum (one below +inf) are carried
    along, but meeting one is no event."""
    f = np.asarray(values, np.float64).reshape(-1)
    if direction == "superlevel":
        f = -f
    n = len(f)
    rank_of = sorted(range(n), key=lambda v: (bool(np.isnan(f[v])), 0.0 if np.isnan(f[v]) else f[v], v))
    rank = [0] * n
    for r, v in enumerate(rank_of):
        rank[v] = r

    # basins by walking
    end = []
    for v in range(n):
        while True:
            low = min([v, *neighbours[v]], key=rank.__getitem__)
            if low == v:
                break
            v = low
        end.append(v)
    tree = OracleTree()
    tree.minima = [v for v in rank_of if end[v] == v and f[v] < np.inf]
    index = {v: i for i, v in enumerate(tree.minima)}
    m = len(tree.minima)
    tree.labels = [index.get(e, -1) for e in end]
    tree.basin_size = [tree.labels.count(i) for i in range(m)]
    tree.first_saddle, tree.parent, tree.death = [-1] * m, [-1] * m, [-1] * m

    component: list[set[int]] = [set() for _ in range(n)]  # of each vertex: the vertices in it
    alive: dict[int, list[int]] = {}  # id of a component: its proper minima, eldest first
    for v in rank_of:
        below = {id(component[u]): component[u] for u in neighbours[v] if rank[u] < rank[v]}
        merged = {v}
        proper = sorted((alive.pop(c) for c in list(below) if alive.get(c)), key=lambda a: a[0])
        if len(proper) >= 2:
            tree.saddles.add(v)
            for minima in proper:
                if len(minima) == 1:
                    tree.first_saddle[minima[0]] = v
            for minima in proper[1:]:
                tree.death[minima[0]] = v
                tree.parent[minima[0]] = proper[0][0]
        for c in below.values():
            merged |= c
        for u in merged:
            component[u] = merged
        everything = sorted(i for a in proper for i in a) + ([index[v]] if v in index else [])
        if everything:
            alive[id(merged)] = everything
    return tree
