"""Union-find over candidate saddles in order: a spanning forest of the basin graph, one edge per node that is absorbed.

Each edge says: the component of `child` meets that of `parent` at vertex `saddle`. This is the triplet
representation of Smirnov and Morozov, *Triplet Merge Trees* (2017), before normalisation. A forest of the union of
two graphs is a forest of the union of their forests, which is what blocks, threads and ranks rely on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.kernels.compiled import jit
from landscaper_hpc.topology.kernels.order import ordered_keys

_BITS = 11
_FEW = 50_000


class Candidates(NamedTuple):
    """Vertices (c,) that may join labels: those of vertex i are labels[stops[i - 1] : stops[i]], its own first."""

    vertices: NDArray[Any]
    stops: NDArray[Any]
    labels: NDArray[Any]


class LabelEdges(NamedTuple):
    """Edges: the component of the label `child` meets that of `parent` at the vertex `saddle`."""

    child: NDArray[np.int32]
    parent: NDArray[np.int32]
    saddle: NDArray[Any]


@jit
def radix_argsort(keys: Any) -> Any:
    """Stable argsort of int64 keys by least significant digits; digits in which all keys agree cost one count."""
    n = keys.size
    size = 1 << _BITS
    mask = np.uint64(size - 1)
    source = np.empty(n, np.uint64)
    order = np.arange(n).astype(np.int32)
    for i in range(n):
        source[i] = np.uint64(keys[i]) ^ np.uint64(0x8000000000000000)
    target = np.empty(n, np.uint64)
    order2 = np.empty(n, np.int32)
    counts = np.empty(size, np.int64)
    for digit in range((64 + _BITS - 1) // _BITS):
        right = np.uint64(digit * _BITS)
        counts[:] = 0
        for i in range(n):
            counts[np.int64((source[i] >> right) & mask)] += 1
        if n and counts[np.int64((source[0] >> right) & mask)] == n:
            continue
        total = 0
        for bucket in range(size):
            here = counts[bucket]
            counts[bucket] = total
            total += here
        for i in range(n):
            b = np.int64((source[i] >> right) & mask)
            to = counts[b]
            counts[b] = to + 1
            target[to] = source[i]
            order2[to] = order[i]
        source, target = target, source
        order, order2 = order2, order
    return order


@jit
def find(up: Any, x: Any) -> Any:
    """The smallest node of x's component, halving the path."""
    while up[x] != x:
        up[x] = up[up[x]]
        x = up[x]
    return x


@jit
def _sweep(candidates: Any, order: Any, up: Any, edges: Any, n: int) -> int:
    """Kruskal's algorithm over candidates in order; the smaller label stays. Appends to the first `n` of the edges;
    returns how many there are now."""
    vertices, stops, labels = candidates
    child, parent, saddle = edges
    for c in order:
        start = stops[c - 1] if c > 0 else 0
        a = find(up, labels[start])
        for i in range(start + 1, stops[c]):
            b = find(up, labels[i])
            if a == b:
                continue
            if b < a:
                a, b = b, a
            up[b] = a
            child[n] = b
            parent[n] = a
            saddle[n] = vertices[c]
            n += 1
    return n


@jit
def _still_apart(candidates: Any, up: Any, some: Any) -> Any:
    """Those of `some` candidates whose labels do not yet lie within one component."""
    _, stops, labels = candidates
    kept = np.empty(some.size, np.int32)
    n = 0
    for c in some:
        start = stops[c - 1] if c > 0 else 0
        a = find(up, labels[start])
        for i in range(start + 1, stops[c]):
            if find(up, labels[i]) != a:
                kept[n] = c
                n += 1
                break
    return kept[:n]


@jit
def spanning_forest(keys: Any, candidates: Any, n_labels: int) -> Any:
    """The `LabelEdges` by which `Candidates` join labels, in the order of (key, position in the arrays).

    Filter-Kruskal (Osipov, Sanders and Singler 2009): the lowest
    part is sorted and swept, and what then lies within one component is dropped before the rest is sorted.
    """
    up = np.arange(n_labels).astype(np.int32)
    edges = LabelEdges(
        np.empty(n_labels, np.int32), np.empty(n_labels, np.int32), np.empty(n_labels, candidates.vertices.dtype)
    )
    n = 0
    rest = np.arange(keys.size).astype(np.int32)
    while rest.size > _FEW:
        sample = keys[rest[:: rest.size // 1000]]
        pivot = sample[radix_argsort(sample)[sample.size // 5]]
        below = 0
        same = 0
        for c in rest:
            below += keys[c] < pivot
            same += keys[c] == pivot
        parts = np.empty(rest.size, np.int32)
        i = 0
        j = below
        k = below + same
        for c in rest:
            key = keys[c]
            if key < pivot:
                parts[i] = c
                i += 1
            elif key == pivot:
                parts[j] = c
                j += 1
            else:
                parts[k] = c
                k += 1
        order = parts[:below]
        n = _sweep(candidates, order[radix_argsort(keys[order])], up, edges, n)
        n = _sweep(candidates, parts[below:j], up, edges, n)  # of a plateau: in order already
        rest = _still_apart(candidates, up, parts[j:])
    n = _sweep(candidates, rest[radix_argsort(keys[rest])], up, edges, n)
    return LabelEdges(edges.child[:n].copy(), edges.parent[:n].copy(), edges.saddle[:n].copy())


@jit
def component_labels(child: Any, parent: Any, n_labels: int) -> Any:
    """The smallest label of each label's component, for edges of `spanning_forest`."""
    table = np.arange(n_labels).astype(np.int32)
    for i in range(child.size):
        table[child[i]] = parent[i]
    for i in range(n_labels):  # a parent is smaller than its child
        table[i] = table[table[i]]
    return table


@dataclass(frozen=True)
class Forest:
    """Edges (child, parent, saddle) with nodes and saddles as flat ids of the grid (int64), and the saddles' values
    (float64; NaN stays NaN)."""

    child: NDArray[np.int64]
    parent: NDArray[np.int64]
    saddle: NDArray[np.int64]
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.child)

    @classmethod
    def empty(cls) -> Forest:
        none = np.empty(0, np.int64)
        return cls(none, none, none, np.empty(0))

    @classmethod
    def concatenate(cls, forests: list[Forest]) -> Forest:
        if not forests:
            return cls.empty()
        return cls(
            np.concatenate([f.child for f in forests]),
            np.concatenate([f.parent for f in forests]),
            np.concatenate([f.saddle for f in forests]),
            np.concatenate([f.value for f in forests]),
        )

    def reduced(self) -> Forest:
        """The spanning forest of these edges, in the order of (value, id) of the saddles."""
        if len(self) == 0:
            return self
        nodes, labels = np.unique(np.concatenate([self.child, self.parent]), return_inverse=True)
        by_id = np.argsort(self.saddle, kind="stable").astype(np.int32)
        pairs = labels.astype(np.int32).reshape(2, -1).T[by_id].reshape(-1)
        stops = 2 * np.arange(1, len(self) + 1, dtype=np.int32)
        keys = ordered_keys(self.value[by_id])
        child, parent, edge = spanning_forest(keys, Candidates(by_id, stops, pairs), len(nodes))
        return Forest(nodes[child], nodes[parent], self.saddle[edge], self.value[edge])
