"""Compiled kernel that finds the lowest saddle of every pair of adjacent basins: for the axis connectivity, where
basins are few. Where they are many, `saddles` serves.

Each edge of the block is looked at once, those into the ghost layer included: from a vertex towards the end of an axis.
Most lie within a basin, and that is seen by vector operations over runs of vertices that are contiguous in memory:
over an axis of length k with s vertices below each of its points, (k - 1) s at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from landscaper_hpc.topology.kernels.compiled import jit, lowest_bit

MOST_AXES = 8
"""The directions that lead on are bits of a byte."""
MOST_LABELS = 512
"""The saddles are in a square table."""
_GROUP = 4096


def groups(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many trailing axes make a group of vertices that stays in the cache, and how many vertices that is."""
    axes, size = 1, shape[-1]
    while axes < len(shape) and size * shape[-axes - 1] <= _GROUP:
        axes += 1
        size *= shape[-axes]
    return axes, size


@jit
def _mark(root: Any, start: int, step: int, bit: Any, a: int, b: int, mark: Any) -> None:
    """Set `bit` in the mark of j, for a <= j < b, where the labels at start + j and a step further differ."""
    s = np.uint64(start)
    t = np.uint64(start + step)
    none = np.uint8(0)
    for j in range(np.uint64(a), np.uint64(b)):
        mark[j] |= bit if root[s + j] != root[t + j] else none


@jit
def _lower_edges(f: Any, root: Any, base: int, dist: Any, words: Any, saddle: Any, height: Any) -> None:
    """Note the marked edges that are lower than what the table has for their pair of labels; clear the marks."""
    one = np.uint64(1)
    for w in range(words.size):
        word = words[w]
        if word == 0:
            continue
        words[w] = 0
        while word:
            b = lowest_bit(word)
            word &= word - one
            u = np.uint64(base + 8 * w + (b >> 3))
            v = u + np.uint64(dist[b & 7])
            p, q = ~root[u], ~root[v]
            if q < p:
                p, q = q, p
            top, at = f[u], u
            if f[v] >= top:
                top, at = f[v], v
            best = height[p, q]
            if top < best or (top == best and at < np.uint64(saddle[p, q])):
                height[p, q] = top
                saddle[p, q] = at


@jit
def lowest_saddles(f: Any, root: Any, box: Any, axes: int, begin: int, end: int, n_labels: int, most: Any) -> Any:
    """The lowest vertex at which each pair of labels meets, for edges that begin in the groups `begin` to `end`. Edges
    between ghost vertices belong to other blocks and are left out where that is simple.

    `axes`: how many trailing axes make a group, see `groups`; `most`: no value is above it. Returns positions (c,) and
    labels (c, 2). An edge is as high as its higher end.
    """
    shape, low, high = box
    n = shape.size
    size = 1
    for d in range(n - axes, n):
        size *= shape[d]
    dist = np.empty(n, np.int64)
    stride = 1
    for d in range(n - 1, -1, -1):
        dist[d] = stride
        stride *= shape[d]
    words = np.zeros(-(-size // 8), np.uint64)
    mark = words.view(np.uint8)
    saddle = np.full((n_labels, n_labels), np.int32(2**31 - 1))
    height = np.full((n_labels, n_labels), most)
    for g in range(begin, end):
        base = g * size
        outside = 0  # on how many axes, and the axis that leads into the core
        inwards = -1
        for d in range(n - axes):
            x = base // dist[d] % shape[d]
            if x < low[d]:
                inwards = d
            outside += (x < low[d]) | (x >= high[d])
        if outside:
            if outside == 1 and inwards >= 0:
                _mark(root, base, dist[inwards], np.uint8(1 << inwards), 0, size, mark)
                _lower_edges(f, root, base, dist, words, saddle, height)
            continue
        for d in range(n):
            bit = np.uint8(1 << d)
            step = dist[d]
            if d < n - axes:
                if base // step % shape[d] < shape[d] - 1:
                    _mark(root, base, step, bit, 0, size, mark)
            else:
                for start in range(0, size, step * shape[d]):
                    _mark(root, base, step, bit, start, start + step * (shape[d] - 1), mark)
        _lower_edges(f, root, base, dist, words, saddle, height)
    found = 0
    for p in range(n_labels):
        for q in range(p + 1, n_labels):
            found += saddle[p, q] != 2**31 - 1
    vertices = np.empty(found, np.int32)
    labels = np.empty((found, 2), np.int32)
    found = 0
    for p in range(n_labels):
        for q in range(p + 1, n_labels):
            if saddle[p, q] != 2**31 - 1:
                vertices[found] = saddle[p, q]
                labels[found, 0] = p
                labels[found, 1] = q
                found += 1
    return vertices, labels
