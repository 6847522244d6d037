"""Losses over larger ranges than a study's: of a grid of twice the range, of twice that, and so on.

What a grid shares with the smaller one is taken from it; the other points are evaluated, in batches that are dealt out
and kept in the folder `resume`, so that who asks again, or asks for more, goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.sensitivity import shared, widened
from landscaper_hpc.work.answering import Arrays, Batch, Deal
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.loaded import worker_for


@dataclass(frozen=True, eq=False)
class Region:
    """The losses of a grid over `share` times a study's range; `coordinates` are those of its axes."""

    share: float
    coordinates: tuple[NDArray[np.float64], ...]
    values: NDArray[np.float64]

    @property
    def checkpoint(self) -> list[int]:
        """The index of the point nearest to it."""
        return [int(np.argmin(np.abs(axis))) for axis in self.coordinates]


def to_evaluate(shape: tuple[int, ...], doublings: int) -> int:
    """How many points of the larger grids have to be evaluated, of one landscape."""
    return doublings * int(np.count_nonzero(_new(shape)))


def regions(item: Landscape, doublings: int, deal: Deal) -> Iterator[Region]:
    """The study's own region, then that of twice its range, and so on."""
    store = item.open()
    region = Region(1.0, tuple(store.grid.coordinates()), store.loss())
    yield region
    for _ in range(doublings):
        region = _larger(item, region, deal)
        yield region


def _larger(item: Landscape, region: Region, deal: Deal) -> Region:
    store = item.open()
    axes = tuple(map(widened, region.coordinates))
    new = _new(region.values.shape)
    alphas = np.stack([axis[i] for axis, i in zip(axes, np.nonzero(new), strict=True)], axis=1)
    corners = np.array([[axis[0] for axis in axes], [axis[-1] for axis in axes]])
    decides = (store.study_id, store.losses_sha256(), store.attributes["provenance"], corners.tolist())
    most = item.site.points_per_shard(store.grid)
    pieces = [alphas[i : i + most] for i in range(0, len(alphas), most)]
    item.inside.resume.mkdir(parents=True, exist_ok=True)
    found = deal([Losses(item, "larger ranges", piece, decides, corners) for piece in pieces])
    values = np.empty(region.values.shape)
    there, here = shared(region.values.shape)
    values[there] = region.values[here]
    values[new] = np.concatenate([one["losses"] for one in found])
    return Region(2 * region.share, axes, values)


def _new(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which points of the grid of twice the range are not among those of the smaller one."""
    found = np.ones(shape, bool)
    found[shared(shape)[0]] = False
    return found


@dataclass(frozen=True, eq=False)
class Losses(Batch):
    """The losses at some points of a grid with these corners (2, n)."""

    corners: NDArray[np.float64]

    def find(self) -> Arrays:
        return {"losses": self.computed(_losses, len(self.starts), self.starts, self.corners)}


def _losses(landscape: Landscape, alphas: NDArray[np.float64], corners: NDArray[np.float64]) -> NDArray[np.float64]:
    from landscaper_hpc.losses.evaluate import losses, prove_for

    worker = worker_for(landscape)
    prove_for(worker.objective, worker.directions, corners)
    return losses(worker.objective, worker.directions, alphas, worker.batch)
