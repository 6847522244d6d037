"""What figures are of: a tree, a stored landscape, or what a page knows of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from matplotlib.collections import Collection
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import StoredDirections
from landscaper_hpc.topology.drawing import Drawing
from landscaper_hpc.topology.tree import MergeTree


@dataclass(frozen=True)
class Subject:
    """One landscape, as figures show it.

    Attributes
    ----------
    drawing
        Outlines, bars and branches.
    limits
        The range of losses shown; heights beyond it, such as −∞, are drawn at its ends.
    n_minima, n_vertices
        Of the whole grid, of which `drawing` may hold the most persistent minima only.
    noise_floor
        Differences of the loss below which are rounding errors.
    stands
        For "bars", "leaves" or "basins" of the drawing: which minima are more than the grid's alone; all, where
        nothing is said.
    links
        For the same: what each is called in a page whose parts belong together.
    """

    drawing: Drawing
    limits: tuple[float, float]
    n_minima: int
    n_vertices: int
    noise_floor: float = 0.0
    stands: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    links: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def standing(self, of: str, count: int) -> NDArray[np.bool_]:
        return self.stands.get(of, np.ones(count, bool))

    def link(self, artist: Collection, of: str, order: NDArray[Any]) -> None:
        """Name the elements of an artist, which are these of the drawing's."""
        if of in self.links:
            artist.set_urls([f"#basin:{name}" for name in self.links[of][order]])


def kept(of: Any) -> Any:
    """The store of a landscape in memory; anything else as it is."""
    return getattr(of, "store", of)


def stored(of: Any) -> LandscapeStore:
    """The stored landscape that a figure is of. `InputError` for anything else."""
    found = kept(of)
    if not isinstance(found, LandscapeStore):
        raise InputError(f"this figure is of a landscape, as open_landscape gives one; found a {type(found).__name__}")
    return found


def directions_of(of: LandscapeStore | StoredDirections) -> StoredDirections:
    """Those of a landscape."""
    return of if isinstance(of, StoredDirections) else stored(of).directions()


def subject(of: Subject | MergeTree | LandscapeStore, limits: tuple[float, float] | None = None) -> Subject:
    """What a figure is of, with other limits where some are given."""
    found = kept(of)
    if isinstance(found, MergeTree):
        if found.direction != "sublevel":
            raise InputError(f"figures show merge trees of direction sublevel; this one is {found.direction}")
        found = Subject(Drawing.of(found, None), found.value_range, found.n_minima, found.n_vertices)
    elif not isinstance(found, Subject):
        found = stored(found)
        numbers = found.numbers()
        low, high = numbers["topology.range"]
        drawing = Drawing.from_arrays(found.drawing())
        floor = float(numbers["topology.noise_floor"])
        found = Subject(drawing, (float(low), float(high)), numbers["topology.n_minima"], found.grid.size, floor)
    return found if limits is None else replace(found, limits=limits)
