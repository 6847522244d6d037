"""The basin graph of one block: a box of vertices with one layer of ghost vertices wherever the grid goes on.

Basins and steepest descent on a grid as in Maack et al., *Parallel Computation of Piecewise Linear Morse-Smale
Segmentations* (2023): pointers to the lowest neighbour, then path compression. Every vertex of the core looks at all
its lower neighbours, so that each edge of the grid is examined once, by the block that owns its higher end.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.grid import Connectivity
from landscaper_hpc.topology.kernels import basins, dense_saddles, descent, pairs, saddles
from landscaper_hpc.topology.kernels.forest import component_labels, radix_argsort, spanning_forest
from landscaper_hpc.topology.kernels.order import Census, census, key_values, keys_at, ordered_keys
from landscaper_hpc.topology.kernels.rows import Box, joined, row_count
from landscaper_hpc.topology.kernels.stencil import block_stencil
from landscaper_hpc.topology.kernels.threads import Threads

_SMALL = 1 << 15
_MANY = 64
_LIMITS = (0.2, 0.35)


class TooManyMinima(Exception):
    """The block has more minima than it may have; the argument is how many."""


class Block:
    """Descent, basins and basin graph of a block; everything in flat positions of the block.

    values      the block with its ghost layer, C order, float32 or float64, to be minimised
    low, high   the core's box within it
    room        at least as many numbers as vertices, to be used for `root`
    minima      (m,) positions in the order of (value, position); their labels are 0 ... m - 1
    exits       (e,) ghost vertices on which descents of the core end, layer by layer; labels m ... m + e - 1
    sizes       (m + e,) core vertices per label
    root        per vertex the complement of its label (core and exits), until `forest` joins what lies beyond the exits
    census      of the core
    """

    def __init__(
        self,
        values: NDArray[Any],
        low: tuple[int, ...],
        high: tuple[int, ...],
        connectivity: Connectivity,
        threads: Threads,
        most_minima: int = 2**31 - 1,
        room: NDArray[np.int32] | None = None,
    ) -> None:
        keep = [d for d, k in enumerate(values.shape) if k > 1] or [0]
        shape = tuple(values.shape[d] for d in keep)
        self._shape = np.array(shape, np.int64)
        self._low = np.array([low[d] for d in keep], np.int64)
        self._high = np.array([high[d] for d in keep], np.int64)
        self._box: Box = (self._shape, self._low, self._high)
        self._rows = row_count(self._box)
        self._threads = threads
        self._connectivity = connectivity
        self._parts = 1 if values.size < _SMALL else min(self._rows, 4 * threads.count)
        self._core = tuple(b - a for a, b in zip(low, high, strict=True))
        self._slabs = self._ghost_slabs()
        self._f = values.reshape(-1)
        self.census = self._count(*self._box)
        if self.census.nan or any(self._count(*slab).nan for slab in self._slabs):
            self._f = ordered_keys(self._f)
        # all values lie between these
        floats = self._f.dtype.kind == "f"
        self._band = (
            np.array([-np.inf, np.inf], self._f.dtype)
            if floats
            else np.array([np.iinfo(self._f.dtype).min, np.iinfo(self._f.dtype).max], self._f.dtype)
        )
        width = np.dtype(f"i{self._f.dtype.itemsize}")
        self._stencil = block_stencil(connectivity, shape, width)
        self._axes = np.cumprod([1, *shape[:0:-1]])[::-1].astype(np.int32)
        self.root = np.empty(values.size, np.int32) if room is None else room[: values.size]
        for _, start, stop in self._slabs:
            self.root.reshape(shape)[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = basins.UNSEEN
        # where a label is not that of a minimum
        self._touched = np.zeros((values.size >> basins.PIECE) + 1, np.uint8)
        self._find_basins(most_minima)

    def _count(self, shape: Any, low: Any, high: Any) -> Census:
        box = joined(shape, low, high, self._parts)
        rows = row_count(box)
        parts = self._threads.map(lambda a, b: census(self._f, box, a, b), rows, min(rows, self._parts))
        return sum(parts, Census())

    def values_at(self, positions: NDArray[Any]) -> NDArray[np.float64]:
        """The field at flat positions, as float64, -0.0 as 0.0."""
        found = self._f[positions]
        floats = key_values(found) if found.dtype.kind == "i" else found
        return floats.astype(np.float64) + 0.0

    def labels(self, names: NDArray[Any]) -> NDArray[Any]:
        """The core, each vertex with the entry of `names` for its label. Uses up values and labels."""
        self._f = np.empty(0, self._f.dtype)
        core = tuple(slice(a, b) for a, b in zip(self._low, self._high, strict=True))
        root = np.invert(self.root, out=self.root).reshape(self._shape)[core]
        named = np.empty(root.shape, names.dtype)
        for i in range(len(root)):
            np.take(
                names, root[i : i + 1], out=named[i : i + 1], mode="clip"
            )  # with "raise" it would make another copy
        self.root = np.empty(0, np.int32)
        return named.reshape(self._core)

    def forget(self) -> None:
        """Free values and labels; the basins' sizes stay."""
        self._f, self.root = np.empty(0, self._f.dtype), np.empty(0, np.int32)

    def _keys_at(self, positions: NDArray[Any]) -> NDArray[np.int64]:
        floats = self._f.dtype.kind == "f"
        keys: NDArray[np.int64] = keys_at(self._f.view(f"i{self._f.itemsize}"), positions, floats)
        return keys

    def _descend(self, box: Box, most: int = 2**31 - 1) -> NDArray[np.int32]:
        """Pointers for all vertices of a box within the block; the positions of those that are lowest."""
        f, root, s, rows = self._f, self.root, self._stencil, row_count(box)

        def part(a: int, b: int) -> tuple[NDArray[np.int32], int]:
            if self._connectivity == "axis":
                found = descent.descend_axes(f, root, *box, self._axes, a, b, most)
            else:
                found = descent.descend(f, root, *box, s.steps, s.dist, a, b, most)
            return found  # type: ignore[no-any-return]

        found = self._threads.map(part, rows, min(rows, self._parts))
        total = sum(count for _, count in found)
        if total > most:
            raise TooManyMinima(total)
        return np.concatenate([minima for minima, _ in found])

    def _find_basins(self, most: int) -> None:
        root, parts = self.root, self._parts
        minima = self._descend(self._box, most)
        self.minima = minima[radix_argsort(self._keys_at(minima))]
        m = len(self.minima)
        root[self.minima] = ~np.arange(m, dtype=np.int32)
        n = m
        exits = [np.empty(0, np.int32)]
        for face in self._faces():
            basins.mark_exits(root, *joined(*face))
        for slab in self._slabs:
            exits.append(basins.collect_exits(root, *joined(*slab), n))
            n += len(exits[-1])
        self.exits = np.concatenate(exits)
        # every part counts for itself, and there may be nearly as many labels as vertices
        parts = min(parts, max(1, root.size // (8 * n)))
        box = joined(*self._box, parts)
        rows = row_count(box)
        counted = self._threads.map(
            lambda a, b: basins.compress(root, *box, a, b, m, n, self._touched), rows, min(rows, parts)
        )
        self.sizes: NDArray[np.int32] = counted[0] if len(counted) == 1 else np.sum(counted, axis=0, dtype=np.int32)

    def _ghost_slabs(self) -> list[Box]:
        """The ghost vertices: one box for each side on which the grid goes on, none of which overlap."""
        slabs = []
        low, high = np.zeros_like(self._shape), self._shape.copy()
        for d, k in enumerate(self._shape):
            for a, b in ((0, self._low[d]), (self._high[d], k)):
                if a < b:
                    slabs.append((self._shape, low.copy(), high.copy()))
                    slabs[-1][1][d], slabs[-1][2][d] = a, b
            low[d], high[d] = self._low[d], self._high[d]
        return slabs

    def _faces(self) -> list[Box]:
        """The layers of the core beside ghost vertices."""
        faces = []
        for d, k in enumerate(self._shape):
            for side, on in ((self._low[d], self._low[d] > 0), (self._high[d] - 1, self._high[d] < k)):
                if on:
                    faces.append((self._shape, self._low.copy(), self._high.copy()))
                    faces[-1][1][d], faces[-1][2][d] = side, side + 1
        return faces

    def _join_ghosts(self) -> NDArray[np.int32]:
        """Follow the descents that leave the core through the ghost layer, as far as the block shows it, and label all
        vertices by where they end: at a minimum, or at a ghost vertex that is lowest among its neighbours here.
        Returns the positions of these; their labels follow those of the minima.

        A vertex and where it ends here are connected below it, which is all that a candidate needs. So a block whose
        exits are many joins hardly more labels than it has minima.
        """
        root = self.root
        m, n = len(self.minima), len(self.minima) + len(self.exits)
        ends = np.sort(np.concatenate([self._descend(slab) for slab in self._slabs]))
        root[ends] = ~np.arange(n, n + len(ends), dtype=np.int32)
        for slab in (joined(*s) for s in self._slabs):
            basins.compress(root, *slab, 0, row_count(slab), m, n + len(ends), self._touched)
        self._relabel(basins.exit_labels(root, self.exits, m, len(ends)), self._touched)
        return ends

    def forest(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """The spanning forest of the basin graph: child, parent (labels) and saddle (positions) in order; and the
        ghost vertices (positions) that appear in it, whose labels follow those of the minima. Uses up `root`."""
        ghosts = self._join_ghosts() if self._slabs else np.empty(0, np.int32)
        n = len(self.minima) + len(ghosts)
        few = n <= pairs.MOST_LABELS and self._connectivity == "axis" and len(self._shape) <= pairs.MOST_AXES
        child, parent, saddle = self._forest_of_pairs(n) if few else self._forest_of_candidates(n)
        return child, parent, saddle, ghosts

    def _forest_of_pairs(self, n: int) -> Any:
        axes, size = pairs.groups(tuple(self._shape.tolist()))
        groups = self.root.size // size
        block = (self._f, self.root, *self._box, axes)
        most = self._band[1]
        found = self._threads.map(
            lambda a, b: pairs.lowest_saddles(*block, a, b, n, most), groups, min(groups, self._threads.count)
        )
        vertices, labels = (np.concatenate(x) for x in zip(*found, strict=True))
        order = np.argsort(vertices, kind="stable")  # equal values are in id order
        stops = 2 * np.arange(1, len(vertices) + 1, dtype=np.int32)
        vertices = vertices[order]
        return spanning_forest(self._keys_at(vertices), vertices, stops, labels[order].reshape(-1), n)

    def _forest_of_candidates(self, n: int) -> Any:
        """Where minima are many, first what is low: what then lies within one component is no candidate any more."""
        parts = 1 if self._parts == 1 else min(self._rows, self._threads.count)
        forests: list[Any] = []
        for band in self._bands(n):
            if forests:
                child, parent, _ = forests[-1]
                table = component_labels(child, parent, n)
                self._relabel(table, np.ones_like(self._touched))
            found = self._threads.map(partial(self._candidates, band, n), self._rows, parts)
            forests.append(spanning_forest(*self._joined(found), n))
        child, parent, saddle = (np.concatenate(x) for x in zip(*forests, strict=True))
        return child, parent, saddle

    def _relabel(self, table: NDArray[np.int32], pieces: NDArray[np.uint8]) -> None:
        self._threads.map(lambda a, b: basins.relabel(self.root, table, pieces, a, b), pieces.size, self._parts)

    def _bands(self, n: int) -> list[NDArray[Any]]:
        """Ranges of values, ends included, that are worked on one after the other."""
        low, high = self._band
        if n < self._f.size // _MANY:
            return [self._band]
        sample = np.sort(self._f[:: max(1, self._f.size // 4096)])
        limits = sample[[int(q * len(sample)) for q in _LIMITS]]
        above = np.nextafter(limits, high) if limits.dtype.kind == "f" else np.where(limits < high, limits + 1, high)
        return [np.array(pair, self._f.dtype) for pair in zip([low, *above], [*limits, high], strict=True)]

    def _joined(self, found: list[Any]) -> Any:
        """Candidates of all parts, with their keys. Equal values are in id order: in each part, and the parts are."""
        ends = itertools.accumulate((len(labels) for _, _, labels in found), initial=0)
        vertices = np.concatenate([v for v, _, _ in found])
        stops = np.concatenate([s + np.int32(end) for (_, s, _), end in zip(found, ends, strict=False)])
        return self._keys_at(vertices), vertices, stops, np.concatenate([labels for _, _, labels in found])

    def _candidates(self, band: NDArray[Any], n: int, begin: int, end: int) -> Any:
        """Candidates of some rows, with the labels that they join. Where there are too many to be held at a time, only
        those that a spanning forest of the rows needs."""
        s = self._stencil
        block = (self._f, self.root, *self._box)
        found = []
        while begin < end:
            if self._connectivity == "axis" and len(self._shape) <= saddles.MOST_AXES:
                *new, begin = saddles.axis_candidates(*block, self._axes, begin, end, band)
            else:
                *new, begin = dense_saddles.dense_candidates(*block, s.steps, s.dist, s.adjacent, begin, end, band)
            found.append(new)
            if len(found) > 1 or begin < end:
                child, parent, saddle = spanning_forest(*self._joined(found), n)
                order = np.argsort(saddle, kind="stable")
                stops = 2 * np.arange(1, len(order) + 1, dtype=np.int32)
                found = [(saddle[order], stops, np.stack([child[order], parent[order]], axis=1).reshape(-1))]
        return found[0]
