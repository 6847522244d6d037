"""Compiled functions of vertices by their ids: where they are, followed to where they lead, and counted.

Compiled, because there can be as many as a face has vertices, and numpy would make half a dozen copies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.kernels.compiled import jit


@jit
def place(vertex: int, shape: Any, at: Any) -> None:
    """Write the index of a vertex along each axis to `at`."""
    for d in range(shape.size - 1, -1, -1):
        at[d] = vertex % shape[d]
        vertex //= shape[d]


@jit
def follow(at: Any, to: Any, nodes: Any) -> bool:
    """Replace, in place, each node that is in the sorted array `at` by its entry in `to`; tell whether any changed."""
    changed = False
    at_last = 0
    for i in range(nodes.size):
        node = nodes[i]
        low = 0
        high = at.size
        if at_last < at.size and at[at_last] < node:  # nodes in order: not far from the last
            low = at_last + 1
            step = 1
            while low + step < at.size and at[low + step] < node:
                low += step
                step *= 2
            high = min(at.size, low + step)
        while low < high:
            middle = (low + high) // 2
            if at[middle] < node:
                low = middle + 1
            else:
                high = middle
        at_last = low
        if low < at.size and at[low] == node and to[low] != node:
            nodes[i] = to[low]
            changed = True
    return changed


@jit
def add_counts(sizes: Any, labels: Any, counts: Any) -> None:
    """Add, in place, each entry of `counts` to the size of its label."""
    for i in range(labels.size):
        sizes[labels[i]] += counts[i]


def present(numbers: NDArray[np.int32], size: int) -> list[int]:
    """The different ones, of which there are few, in order; all are below `size`."""
    return [int(b) for b in np.flatnonzero(_seen(numbers, size))]


@jit
def _seen(numbers: Any, size: int) -> Any:
    seen = np.zeros(size, np.bool_)
    for b in numbers:
        seen[b] = True
    return seen


def summed(ids: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different ids in order, and the sum of the sizes of each."""
    found: tuple[NDArray[np.int64], NDArray[np.int64]] = _add_up(ids, sizes, np.argsort(ids, kind="stable"))
    return found


@jit
def _add_up(ids: Any, sizes: Any, order: Any) -> Any:
    """The different ids, in the given order of theirs, and the sum of the sizes of each."""
    n = 0
    last = np.int64(-1)
    for i in order:
        n += ids[i] != last
        last = ids[i]
    kept = np.empty(n, np.int64)
    total = np.zeros(n, np.int64)
    n = -1
    last = np.int64(-1)
    for i in order:
        if ids[i] != last:
            last = ids[i]
            n += 1
            kept[n] = last
        total[n] += sizes[i]
    return kept, total


def union(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """The different ids of both, in order. numpy's union1d hashes them, which takes many times as long as merging what
    is nearly sorted."""
    ids = np.sort(np.concatenate([one, other]), kind="stable")
    first = np.ones(len(ids), bool)
    np.not_equal(ids[1:], ids[:-1], out=first[1:])
    return ids[first]


@jit
def is_sorted(ids: Any) -> bool:
    for i in range(1, ids.size):  # noqa: SIM110, compiled
        if ids[i] < ids[i - 1]:
            return False
    return True
