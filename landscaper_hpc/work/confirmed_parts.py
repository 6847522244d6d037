"""Confirmed minima of parts of a grid: its minima followed within the part's own box and directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.confirm.descents import Descents, curvatures
from landscaper_hpc.confirm.rows import What, searching
from landscaper_hpc.confirm.surface import Array, Box, Surface, search
from landscaper_hpc.grid import Axis, Grid
from landscaper_hpc.topology.drawing import most_persistent
from landscaper_hpc.topology.readers import ArrayReader
from landscaper_hpc.topology.sensitivity import GridPart
from landscaper_hpc.topology.tree import MergeTree
from landscaper_hpc.work.confirming import SurfaceOf
from landscaper_hpc.work.landscape import Landscape


class Slice:
    """A surface over its first directions, the others held at `rest`."""

    def __init__(self, whole: Surface, rest: Array) -> None:
        self._whole, self._rest = whole, rest
        self.rounding = whole.rounding

    def gradients(self, points: Array) -> tuple[Array, Array]:
        values, slopes = self._whole.gradients(self._in_whole(points))
        return values, slopes[:, : points.shape[1]]

    def hessians(self, points: Array) -> Array:
        n = points.shape[1]
        return self._whole.hessians(self._in_whole(points))[:, :n, :n]

    def _in_whole(self, points: Array) -> Array:
        return np.hstack([points, np.broadcast_to(self._rest, (len(points), len(self._rest)))])


class ConfirmedParts:
    """Counts the interior minima of the loss that the minima of a part lead to, as `confirm` does for the whole grid:
    of the most persistent, as many as the study says."""

    def __init__(self, item: Landscape, coordinates: Sequence[Array], values: NDArray[Any]) -> None:
        assert item.study.confirm is not None
        self._surface = SurfaceOf(item)
        self._most = item.study.confirm.minima
        self._coordinates, self._values = coordinates, values

    def __call__(self, part: GridPart, tree: MergeTree) -> int:
        n = part.directions
        along = [c[where] for c, where in zip(self._coordinates, part.region, strict=True)]
        box = Box.of(Grid(tuple(Axis(float(c[0]), float(c[-1]), len(c)) for c in along[:n])))
        surface = Slice(self._surface, np.array(along[n:], np.float64))

        def run(what: What, starts: Array) -> Array:
            return np.array(search(surface, box, [searching(what, start, box, surface.rounding) for start in starts]))

        descents = Descents(run, box, surface.rounding)
        minima = most_persistent(tree, self._most).minima
        starts = np.stack(np.unravel_index(minima, part.shape), axis=1).astype(np.float64)
        of = descents.follow(starts, curvatures(ArrayReader(self._values[part.region]), minima))
        return sum(descents.ends[i].kind == "interior" for i in set(of.tolist()))
