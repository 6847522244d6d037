"""How far a campaign is, counted from listings of its files; no loss is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.scope import is_found


@dataclass(frozen=True)
class Counts:
    """How far a campaign is; whatever grew since the last look is progress."""

    apart: bool
    """Whether what is lost of one study leaves the others alone."""
    landscapes: int = 0
    prepared: int = 0
    trees: int = 0
    """Landscapes that need no more than the report."""
    lost: int = 0
    """Landscapes that something was quarantined of."""
    shards: int = 0
    shards_done: int = 0
    quarantined: int = 0
    points: int = 0
    points_done: int = 0

    @property
    def advance(self) -> tuple[int, int, int]:
        return self.prepared, self.shards_done, self.trees

    @property
    def shards_left(self) -> int:
        return max(0, self.shards - self.shards_done - self.quarantined)


class Survey:
    """Counts a campaign again and again, from one listing of each landscape that is not whole."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._stores: dict[Landscape, LandscapeStore] = {}
        self._whole: set[Landscape] = set()

    def counts(self) -> Counts:
        found: Counter[str] = Counter()
        for plan in self._campaign.plans:
            quarantined = plan.landscapes[0].failures.quarantined()
            for item in plan.landscapes:
                found["landscapes"] += 1
                if not item.prepared():
                    shards = item.planned_shards()
                    found["shards"] += shards
                    sampling = item.study.sampling
                    found["points"] += item.study.make_grid().size if sampling is None else sampling.points
                    if item.key in quarantined:  # of a sweep: it has no directions, and never will
                        found["lost"] += 1
                        found["quarantined"] += shards
                    continue
                if item not in self._stores:
                    self._stores[item] = item.open()
                store = self._stores[item]
                # the studies of a sweep are finished one by one, where they are evaluated
                if item not in self._whole and (plan.finished() if self._campaign.apart else _whole(item, store)):
                    self._whole.add(item)
                found["prepared"] += 1
                found["trees"] += item in self._whole
                if item.study.sampling is not None:
                    size = item.study.sampling.points
                    found.update({"points": size, "points_done": size if item in self._whole else 0})
                elif item.study.scope is not None:
                    found.update(_scope(item, store))
                else:
                    found.update(_shards(store, item in self._whole))
                mine = [key for key in quarantined if key.startswith(f"{item.name}.")]
                found["quarantined"] += len(mine)
                found["lost"] += bool(mine)
        return Counts(self._campaign.apart, **found)


def _shards(store: LandscapeStore, whole: bool) -> dict[str, int]:
    shards = store.n_shards()
    done = shards if whole else store.n_done()
    size = store.grid.size
    return {"shards": shards, "shards_done": done, "points": size, "points_done": size * done // shards}


def _scope(item: Landscape, store: LandscapeStore) -> dict[str, int]:
    """Of a lowest part nobody knows how many points it takes: to its end there is as much to do as in the beginning."""
    known, size = item.inside.points_known(item.name, store.outputs), store.grid.size
    if is_found(item):
        return {"shards": 1, "shards_done": 1, "points": known, "points_done": known}
    done = known // item.site.points_per_shard(item.study.make_grid())
    return {"shards": done + item.planned_shards(), "shards_done": done, "points": size, "points_done": known}


def _whole(item: Landscape, store: LandscapeStore) -> bool:
    """Whether it has its merge tree and what else the study asks for, or what stands in place of it."""
    if item.study.scope is not None and not is_found(item):
        return False
    return (store.has_tree() or not item.study.whole) and all(
        store.has_answer(*question) for question in item.study.asked().items()
    )
