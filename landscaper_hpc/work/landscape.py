"""What a run works on: the landscape of one checkpoint, and a shard of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from landscaper_hpc.grid import Shard, lattice_size
from landscaper_hpc.store.failures import Failures
from landscaper_hpc.store.folder import StudyFolder, checkpoint_note
from landscaper_hpc.store.heartbeat import Heartbeat, heartbeat
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.leases import Leases
from landscaper_hpc.study.site import Site
from landscaper_hpc.study.study import Checkpoint, Study
from landscaper_hpc.work.watch import in_time

_FEW_POINTS = 64
"""Of a sparse shard that keeps a worker busy."""


@dataclass(frozen=True, eq=False)
class Landscape:
    """The plan of one checkpoint's landscape: the study, which of its checkpoints, in whose folder, where it runs.

    `run` tells one run from another within a process that outlives it; `workers` is the folder for what workers tell
    of themselves, where it is not the study's.
    """

    study: Study
    checkpoint: Checkpoint
    inside: StudyFolder
    site: Site
    run: str
    workers: Path | None = None

    @property
    def name(self) -> str:
        return self.checkpoint.name

    @property
    def store(self) -> Path:
        return self.inside.store

    @property
    def file(self) -> Path:
        return self.study.path(self.checkpoint.file)

    @property
    def failures(self) -> Failures:
        return Failures(self.inside.failed)

    @property
    def leases(self) -> Leases:
        return Leases(self.inside.leases, working=in_time)

    @property
    def heartbeat(self) -> Heartbeat:
        """This process's heartbeat for those who watch the landscape."""
        return heartbeat(self.workers or self.inside.workers, self.site.device)

    @property
    def checkpoint_note(self) -> Path:
        return checkpoint_note(self.workers or self.inside.workers, self.inside, self.name)

    def open(self) -> LandscapeStore:
        return LandscapeStore(self.store, self.name)

    def prepared(self) -> bool:
        """Whether its store is there, with directions."""
        return (self.store / self.name).exists()

    def planned_shards(self) -> int:
        """How many shards it will have, before its store is there; of a lowest part, how many may be evaluated at once
        in the beginning; of scattered points none."""
        grid = self.study.make_grid()
        if self.study.sampling is not None:
            return 0
        if self.study.scope is not None:
            return -(-lattice_size(grid.shape) // _FEW_POINTS)
        return grid.n_shards(grid.shard_shape(self.site.points_per_shard(grid)))

    @property
    def key(self) -> str:
        """Its name among failures."""
        return f"{self.name}.directions"

    def __str__(self) -> str:
        return f"landscape {self.name}"


@dataclass(frozen=True, eq=False)
class ShardItem:
    """One shard of one landscape."""

    landscape: Landscape
    shard: Shard

    @property
    def key(self) -> str:
        """Its name among leases and failures."""
        return f"{self.landscape.name}.{'.'.join(map(str, self.shard.index))}"

    def __str__(self) -> str:
        return f"{self.landscape}, shard {'.'.join(map(str, self.shard.index))}"


def without_quarantined(items: Sequence[ShardItem]) -> list[ShardItem]:
    """Those of the shards that were not quarantined after too many failures."""
    quarantined = {landscape: landscape.failures.quarantined() for landscape in {item.landscape for item in items}}
    return [item for item in items if item.key not in quarantined[item.landscape]]
