"""The basin graph of one block: a box of vertices with one layer of ghost vertices wherever the grid goes on.

Basins and steepest descent on a grid as in Maack et al., *Parallel Computation of Piecewise Linear Morse-Smale
Segmentations* (2023): pointers to the lowest neighbour, then path compression. Every vertex of the core looks at all
its lower neighbours, so that each edge of the grid is examined once, by the block that owns its higher end.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.grid import Connectivity

from . import kernels, saddles
from .forest import radix_argsort, spanning_forest
from .order import Census, census, key_values, keys_at, ordered_keys
from .stencil import block_stencil

_SMALL = 1 << 15

T = TypeVar("T")


class Threads:
    """Calls a function on consecutive parts of a range, results in the order of the parts.

    The results of the kernels do not depend on how the range is split.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count) if count > 1 else None

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[int, int], T], stop: int, parts: int) -> list[T]:
        if self._pool is None or parts <= 1:
            return [function(0, stop)]
        edges = [stop * i // parts for i in range(parts + 1)]
        return list(self._pool.map(function, edges[:-1], edges[1:]))


class Block:
    """Descent, basins and basin graph of a block; everything in flat positions of the block.

    values      the block with its ghost layer, C order, float32 or float64, to be minimised
    low, high   the core's box within it
    minima      (m,) positions in the order of (value, position); their labels are 0 ... m - 1
    exits       (e,) ghost vertices on which descents of the core end; labels m ... m + e - 1
    sizes       (m + e,) core vertices per label
    root        per vertex the complement of its label (core and exits)
    census      of the core
    """

    def __init__(
        self,
        values: NDArray[Any],
        low: tuple[int, ...],
        high: tuple[int, ...],
        connectivity: Connectivity,
        threads: Threads,
    ) -> None:
        keep = [d for d, k in enumerate(values.shape) if k > 1] or [0]
        shape = tuple(values.shape[d] for d in keep)
        self._shape = np.array(shape, np.int64)
        self._low = np.array([low[d] for d in keep], np.int64)
        self._high = np.array([high[d] for d in keep], np.int64)
        self._rows = int(np.prod((self._high - self._low)[:-1]))
        self._threads = threads
        self._connectivity = connectivity
        self._parts = 1 if values.size < _SMALL else min(self._rows, 4 * threads.count)
        core = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        whole = values[core].size == values.size
        self.census = self._count(values if whole else np.ascontiguousarray(values[core]))
        self._f = ordered_keys(values.reshape(-1)) if self._has_nan(values, whole) else values.reshape(-1)
        width = np.dtype(f"i{self._f.dtype.itemsize}")
        self._stencil = block_stencil(connectivity, shape, width)
        self.root = np.empty(values.size, np.int32)
        if not whole:
            self.root.fill(kernels.UNSEEN)
        self._find_basins(whole)

    def _count(self, core: NDArray[Any]) -> Census:
        flat = core.reshape(-1)
        parts = self._threads.map(lambda a, b: census(flat[a:b]), flat.size, self._parts)
        return sum(parts, Census())

    def _has_nan(self, values: NDArray[Any], whole: bool) -> bool:
        return self.census.nan > 0 or (not whole and bool(np.isnan(values).any()))

    def values_at(self, positions: NDArray[Any]) -> NDArray[np.float64]:
        """The field at flat positions, as float64, -0.0 as 0.0."""
        found = self._f[positions]
        floats = key_values(found) if found.dtype.kind == "i" else found
        return floats.astype(np.float64) + 0.0

    def forget_values(self) -> None:
        """Free the values; labels stay."""
        self._f = np.empty(0, self._f.dtype)

    def forget_labels(self) -> None:
        """Free the labels; their sizes stay."""
        self.root = np.empty(0, np.int32)

    def _keys_at(self, positions: NDArray[Any]) -> NDArray[np.int64]:
        floats = self._f.dtype.kind == "f"
        keys: NDArray[np.int64] = keys_at(self._f.view(f"i{self._f.itemsize}"), positions, floats)
        return keys

    def _find_basins(self, whole: bool) -> None:
        f, root, box, s = self._f, self.root, (self._shape, self._low, self._high), self._stencil
        rows, parts = self._rows, self._parts
        found = self._threads.map(lambda a, b: kernels.descend(f, root, *box, s.steps, s.dist, a, b), rows, parts)
        minima = np.concatenate(found)
        self.minima = minima[radix_argsort(self._keys_at(minima))]
        m = len(self.minima)
        root[self.minima] = ~np.arange(m, dtype=np.int32)
        self.exits = np.empty(0, np.int32) if whole else kernels.collect_exits(root, *box, m)
        n = m + len(self.exits)
        # every part counts for itself, and there may be nearly as many labels as vertices
        parts = min(parts, max(1, root.size // (8 * n)))
        counted = self._threads.map(lambda a, b: kernels.compress(root, *box, a, b, n), rows, parts)
        self.sizes: NDArray[np.int32] = counted[0] if parts == 1 else np.sum(counted, axis=0, dtype=np.int32)

    def forest(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """The spanning forest of the basin graph: child, parent (labels) and saddle (positions) in order; and the
        ghost vertices (positions) that appear in it without being exits, whose labels follow those of the exits."""
        n = len(self.minima) + len(self.exits)
        parts = 1 if self._parts == 1 else min(self._rows, self._threads.count)
        found = self._threads.map(lambda a, b: self._forest_of_rows(a, b), self._rows, parts)
        child, parent, saddle = (np.concatenate(x) for x in zip(*found, strict=True))
        # what lies beyond the exits are positions of ghost vertices, until here
        ghosts = np.empty(0, np.int32)
        if len(self.root) > self.sizes.sum():
            nodes = np.concatenate([child, parent])
            ghosts, labels = np.unique(nodes[nodes >= n], return_inverse=True)
            nodes[nodes >= n] = n + labels
            child, parent = nodes.reshape(2, -1)
        if len(found) > 1:
            # equal values are in id order: within each part, and the parts are
            stops = 2 * np.arange(1, len(child) + 1, dtype=np.int32)
            pairs = np.stack([child, parent], axis=1).reshape(-1)
            child, parent, saddle = spanning_forest(self._keys_at(saddle), saddle, stops, pairs, n + len(ghosts))
        return child, parent, saddle, (ghosts - n).astype(np.int32)

    def _forest_of_rows(self, begin: int, end: int) -> Any:
        s, n = self._stencil, len(self.minima) + len(self.exits)
        block = (self._f, self.root, self._shape, self._low, self._high, s.steps, s.dist)
        if self._connectivity == "axis" and len(self._shape) <= saddles.MOST_AXES:
            vertices, stops, labels = saddles.axis_candidates(*block, begin, end, n)
        else:
            vertices, stops, labels = saddles.dense_candidates(*block, s.adjacent, begin, end, n)
        keys = self._keys_at(vertices)
        if len(self.root) == self.sizes.sum():  # no ghosts
            return spanning_forest(keys, vertices, stops, labels, n)
        nodes, dense = np.unique(labels, return_inverse=True)
        child, parent, saddle = spanning_forest(keys, vertices, stops, dense.astype(np.int32), len(nodes))
        return nodes[child], nodes[parent], saddle
