"""What one run works on: the landscapes of one study, or of many that share one pool of shards."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.files import remove_partials
from landscaper_hpc.report.current_page import is_current
from landscaper_hpc.report.results import results, write_results
from landscaper_hpc.store.folder import RunFolder, StudyFolder
from landscaper_hpc.store.layout import consolidate_root
from landscaper_hpc.store.place import refuse_inside, refuse_sweep
from landscaper_hpc.study.site import Site
from landscaper_hpc.study.study import Study
from landscaper_hpc.work.distances import distances_of
from landscaper_hpc.work.landscape import Landscape, ShardItem, without_quarantined
from landscaper_hpc.work.shared_directions import SharedDirections


@dataclass(frozen=True, eq=False)
class Plan:
    """One study in its folder (`study.zarr`, `results.json`, `report.html`), with one landscape per checkpoint."""

    study: Study
    folder: Path
    landscapes: tuple[Landscape, ...]

    @classmethod
    def of(cls, study: Study, site: Site, folder: Path, workers: Path | None = None) -> Plan:
        token = uuid.uuid4().hex
        inside = StudyFolder(folder.resolve())
        landscapes = (Landscape(study, item, inside, site, token, workers) for item in study.checkpoints)
        return cls(study, inside.path, tuple(landscapes))

    @property
    def inside(self) -> StudyFolder:
        return StudyFolder(self.folder)

    def prepared(self) -> bool:
        return all(item.prepared() for item in self.landscapes)

    def evaluated(self) -> bool:
        """Whether every shard is there. Lists the folders of shards, and reads none."""
        return self.prepared() and all(
            store.n_done() == store.n_shards() for store in (item.open() for item in self.landscapes)
        )

    def pending(self) -> Iterator[ShardItem]:
        """The shards that are pending now, without those that failed too often."""
        for item in self.landscapes:
            yield from without_quarantined([ShardItem(item, shard) for shard in item.open().pending()])

    def finished(self) -> bool:
        """Whether there are results and their report, which is written last."""
        return self.inside.finished()

    def grown(self) -> bool:
        """Whether there are results, or merge trees where more than these is asked for. Looks, and does not read."""
        return self.finished() or bool(
            self.study.asked() and self.evaluated() and all(item.open().has_tree() for item in self.landscapes)
        )

    def __str__(self) -> str:
        return f"study {self.study.name}"

    def write_results(self) -> dict[str, Any]:
        """`results.json` and `report.html`, from finished stores."""
        stores = [item.open() for item in self.landscapes]
        # the study id, from stores that were made for exactly this study: checkpoints need not be read again
        study_id = canonical_sha256({store.name: store.attributes["science"] for store in stores})
        for store in stores:
            store.consolidate()
        consolidate_root(stores[0].path)
        found = results(self.study, study_id, stores, distances_of(stores) if self.study.whole else None)
        write_results(self.inside.results, found)
        if not is_current(self.folder):
            from landscaper_hpc.report.page import write_report  # matplotlib

            write_report(self.folder)
        remove_partials(self.folder)
        shutil.rmtree(self.inside.resume, ignore_errors=True)
        return found


@dataclass(frozen=True, eq=False)
class Campaign:
    """Plans that share one folder (lock, logs, jobs) and one pool of shards."""

    folder: Path
    plans: tuple[Plan, ...]

    apart: ClassVar[bool] = False
    """Whether each study is finished as soon as its shards are there, and one that fails leaves the others alone."""

    @classmethod
    def of(cls, study: Study, site: Site, folder: Path) -> Campaign:
        plan = Plan.of(study, site, folder)
        refuse_inside(plan.folder)
        refuse_sweep(plan.folder)
        return cls(plan.folder, (plan,))

    @property
    def inside(self) -> RunFolder:
        return RunFolder(self.folder)

    @property
    def shared(self) -> Sequence[SharedDirections]:
        """Directions that several studies take from a file, to be made before their stores."""
        return ()

    @property
    def scoped(self) -> bool:
        """Whether only the lowest parts of its landscapes are evaluated: those of a sweep are whole."""
        return not self.apart and any(plan.study.scope is not None for plan in self.plans)

    @property
    def sampled(self) -> bool:
        """Whether there are scattered points in place of grids: nothing is left to evaluate then but what is asked."""
        return not self.apart and any(plan.study.sampling is not None for plan in self.plans)

    @property
    def landscapes(self) -> Sequence[Landscape]:
        return [item for plan in self.plans for item in plan.landscapes]

    def definition(self) -> list[dict[str, Any]]:
        """The studies, as far as the folder does not say which they are."""
        return [plan.study.model_dump(mode="json") for plan in self.plans]

    def conclude(self) -> None:
        """What is written when every landscape has its merge tree."""
        for plan in self.plans:
            plan.write_results()
