"""What a format writes: one finished landscape, each part of it read or made when it is first asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.topology.tree import MergeTree


class Slice(NamedTuple):
    """A part of the grid along some of its axes, at the point nearest to the checkpoint on the others."""

    suffix: str
    """For the file's name: nothing where it is the whole grid."""
    axes: tuple[int, ...]
    coordinates: list[NDArray[np.float64]]
    values: NDArray[np.float64]
    basins: NDArray[np.int64]
    metrics: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Subject:
    """A landscape whose losses are all there."""

    store: LandscapeStore

    @property
    def coordinates(self) -> list[NDArray[np.float64]]:
        """Of the axes, one array each."""
        return self.store.grid.coordinates()

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """All losses, in the grid's shape."""
        self.store.refuse_lowest()
        return self.store.loss()

    @cached_property
    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """All values of each metric of the task, in the grid's shape."""
        return {name: self.store.metric(name) for name in self.store.metrics}

    @cached_property
    def tree(self) -> MergeTree:
        """The study's merge tree, as it is stored."""
        return self.store.tree()

    @cached_property
    def basins(self) -> NDArray[np.int64]:
        """The number of the minimum that each point descends to, in the grid's shape; -1 for none."""
        from landscaper_hpc.topology import merge_tree

        found = merge_tree(self.values, self.store.connectivity, labels=True).labels
        assert found is not None
        return found.reshape(self.values.shape).astype(np.int64)

    def alphas(self, points: NDArray[np.int64]) -> NDArray[np.float64]:
        """Coordinates of points, given by their flat ids, (p, n)."""
        places = np.unravel_index(points, self.store.grid.shape)
        found = [axis[place] for axis, place in zip(self.coordinates, places, strict=True)]
        return np.stack(found, axis=1)

    def slices(self, most: int) -> Iterator[Slice]:
        """The whole grid where it has at most so many axes; or else one slice for each choice of them."""
        axes, n = self.coordinates, self.store.grid.ndim
        middle = [int(np.argmin(np.abs(axis))) for axis in axes]
        for chosen in itertools.combinations(range(n), min(n, most)):
            at: tuple[Any, ...] = tuple(slice(None) if d in chosen else middle[d] for d in range(n))
            suffix = "" if n <= most else "." + "-".join(map(str, chosen))
            of_metrics = {name: values[at] for name, values in self.metrics.items()}
            yield Slice(suffix, chosen, [axes[d] for d in chosen], self.values[at], self.basins[at], of_metrics)
