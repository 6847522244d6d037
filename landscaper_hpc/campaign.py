"""What one run works on: the landscapes of one study, or of many that share one pool of shards."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscaper_hpc.config import Study
from landscaper_hpc.files import publish, remove_partials
from landscaper_hpc.results import results
from landscaper_hpc.site import Site
from landscaper_hpc.tasks import Landscape


@dataclass(frozen=True, eq=False)
class Plan:
    """One study in its folder (`study.zarr`, `results.json`, `report.html`), with one landscape per checkpoint."""

    study: Study
    folder: Path
    landscapes: tuple[Landscape, ...]

    @classmethod
    def of(cls, study: Study, site: Site, folder: Path) -> Plan:
        token = uuid.uuid4().hex
        store = folder.resolve() / "study.zarr"
        return cls(
            study, folder.resolve(), tuple(Landscape(study, item, store, site, token) for item in study.checkpoints)
        )

    def write_results(self) -> dict[str, Any]:
        """`results.json` and `report.html`, from finished stores."""
        from landscaper_hpc.report import write_report

        found = results(self.study, self.study.study_id(), [item.open() for item in self.landscapes])
        publish(self.folder / "results.json", (json.dumps(found, indent=2, allow_nan=False) + "\n").encode())
        write_report(self.folder)
        remove_partials(self.folder)
        shutil.rmtree(self.folder / "resume", ignore_errors=True)
        return found


@dataclass(frozen=True, eq=False)
class Campaign:
    """Plans that share one folder (lock, logs, jobs) and one pool of shards. Picklable: jobs are started with it."""

    folder: Path
    plans: tuple[Plan, ...]

    @classmethod
    def of(cls, study: Study, site: Site, folder: Path) -> Campaign:
        plan = Plan.of(study, site, folder)
        return cls(plan.folder, (plan,))

    @property
    def landscapes(self) -> Sequence[Landscape]:
        return [item for plan in self.plans for item in plan.landscapes]

    def conclude(self) -> None:
        """What is written when every landscape has its merge tree."""
        for plan in self.plans:
            plan.write_results()
