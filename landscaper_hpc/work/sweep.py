"""A sweep: one study with many values, over many checkpoints. What it consists of.

Checkpoints may be added: names of studies depend on nothing but their own values. Everything else is fixed by the first
run in the folder.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from landscaper_hpc import strict_json
from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.errors import InputError, TaskFailed
from landscaper_hpc.report.results import is_older, read_results
from landscaper_hpc.store.folder import StudyFolder, SweepFolder
from landscaper_hpc.store.lock import only_one
from landscaper_hpc.store.place import refuse_inside
from landscaper_hpc.store.sweep_record import Entry, Recorded, is_sweep, read_sweep, write_record
from landscaper_hpc.study.site import Site
from landscaper_hpc.study.study import Checkpoint, Study
from landscaper_hpc.study.sweep_file import Found, SweepConfig, combinations, found_checkpoints, study_name
from landscaper_hpc.work import unchanged
from landscaper_hpc.work.campaign import Campaign, Plan
from landscaper_hpc.work.distances import write_table
from landscaper_hpc.work.identity import refuse_other
from landscaper_hpc.work.shared_directions import SharedDirections

FROZEN = ("study", "checkpoints", "product", "zip", "directions_from")


@dataclass(frozen=True, eq=False)
class Sweep(Campaign):
    """A campaign of the studies of a sweep that are not finished; `entries` are all of them."""

    entries: tuple[Entry, ...] = ()
    directions: tuple[SharedDirections, ...] = ()

    apart: ClassVar[bool] = True

    @property
    def shared(self) -> Sequence[SharedDirections]:
        return self.directions

    def definition(self) -> list[dict[str, Any]]:
        """Nothing: what a sweep works on is written down in its folder."""
        return []

    @classmethod
    def open(cls, config: SweepConfig, site: Site, folder: Path, stop: Callable[[], bool] | None = None) -> Sweep:
        """The sweep in `folder`, made or gone on with.

        `InputError` where the folder holds another, or something is at work there; with `stop` its end is waited for,
        as by `only_one`.
        """
        folder = folder.resolve()
        refuse_inside(folder)
        made = Studies(config, site, folder)
        with only_one(folder, stop):
            before = read_sweep(folder) if is_sweep(folder) else None
            if before is not None:
                _refuse_other(folder, before.definition, made.definition)
            elif StudyFolder(folder).store.exists():
                raise InputError(f"{folder}: holds a study; choose another folder for the sweep with --out")
            # what is finished stays in the table, also when its checkpoint is gone
            known = {} if before is None else {entry.name: entry for entry in before.entries}
            entries = sorted((known | {e.name: e for e in made.entries}).values(), key=lambda entry: entry.name)
            inside = SweepFolder(folder)
            plans = [Plan.of(study, site, inside.study(study.name).path, inside.workers) for study in made.studies]
            for plan in plans:
                if plan.finished() and is_older(plan.inside.results):
                    _remove_results(plan)
            write_record(folder, Recorded(config.name, made.study_file, made.definition, entries))
        for plan in plans:
            if plan.finished():
                _refuse_changed(plan)
        return cls(folder, tuple(plan for plan in plans if not plan.finished()), tuple(entries), tuple(made.shared))

    def conclude(self) -> None:
        """The table and the report; `TaskFailed` where studies could not be finished."""
        import shutil

        from landscaper_hpc.report.sweep_page import write_sweep

        for plan in self.plans:
            plan.landscapes[0].leases.remove()
        shutil.rmtree(self.inside.leases, ignore_errors=True)
        inside, places = SweepFolder(self.folder), {}
        for entry in read_sweep(self.folder).entries:  # jobs know only the studies that are not finished
            study = inside.study(entry.name)
            for name in entry.landscapes if study.finished() else ():
                places[entry.name if len(entry.landscapes) == 1 else f"{entry.name}/{name}"] = (study.store, name)
        write_table(inside.distances, places)
        write_sweep(self.folder)
        quarantined = {
            f"{plan.study.name}: {key}": error
            for plan in self.plans
            if not plan.finished()
            for key, error in plan.landscapes[0].failures.quarantined().items()
        }
        if quarantined:
            key, error = next(iter(quarantined.items()))
            raise TaskFailed(
                f"{len(quarantined)} tasks of {sum(not plan.finished() for plan in self.plans)} studies failed and are "
                f"quarantined, the others are finished ({', '.join(list(quarantined)[:5])}); --retry-failed gives them "
                f"new attempts. The last error of {key}:\n{error}"
            )


def _refuse_other(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    differing = [key for key in FROZEN if strict_json.dumps(before.get(key)) != strict_json.dumps(now[key])]
    if differing:
        raise InputError(
            f"{folder}: holds another sweep ({', '.join(differing)} differ); only checkpoints may be added to a sweep, "
            "choose another folder with --out"
        )


def _remove_results(plan: Plan) -> None:
    """Have a study finished once more, from its stores; `InputError` where those cannot be used."""
    for item in plan.landscapes:
        refuse_other(item, item.open())
    plan.inside.results.unlink()


def _refuse_changed(plan: Plan) -> None:
    """`InputError` where a finished study was of another task file, configuration or checkpoint."""
    read_results(plan.inside.results)
    for item in plan.landscapes:
        unchanged.refuse_other(item, item.open())


class Studies:
    """The studies of a configuration, with their entries."""

    def __init__(self, config: SweepConfig, site: Site, folder: Path) -> None:
        self._config = config
        self._site = site
        self._inside = SweepFolder(folder)
        self._data = config.data
        self.study_file = os.path.relpath(config.file, folder)
        self.definition: dict[str, Any] = {
            "study": self._data,
            "checkpoints": None if config.checkpoints is None else os.path.relpath(config.checkpoints, config.base),
            "product": config.product,
            "zip": config.zip,
            "directions_from": config.directions_from,
        }
        self._found = found_checkpoints(config)
        self.entries: list[Entry] = []
        self.studies: list[Study] = []
        self.shared: list[SharedDirections] = []
        self._make()

    def _make(self) -> None:
        checkpoints: Sequence[Found | None] = self._found or [None]
        for varied, values in combinations(self._config):
            base = Study.of(self._data, self._config.file, values)
            if not base.whole:
                key = "sampling" if base.scope is None else "scope"
                raise InputError(
                    f"{self._config.file}: {key}: a sweep compares whole landscapes; leave it out, or run the studies "
                    "one by one"
                )
            shared = self._shared_directions(base, values)
            for found in checkpoints:
                name = study_name(None if found is None else found.name, varied)
                overrides = [*values, *shared, f"name={json.dumps(name)}"]
                if found is not None:
                    checkpoint = {"name": found.name, "file": found.file, "options": self._options(base)}
                    overrides.append(f"checkpoints={json.dumps([checkpoint])}")
                study = Study.of(self._data, self._config.file, overrides)
                names = [c.name for c in study.checkpoints]
                self.studies.append(study)
                self.entries.append(
                    Entry(
                        name,
                        overrides,
                        {key: value for key, value, _ in varied},
                        names,
                        study.make_grid().size * len(names),
                        *(() if found is None else (found.file, found.run, found.step)),
                    )
                )
        name, times = Counter(entry.name for entry in self.entries).most_common(1)[0]
        if times > 1:
            raise InputError(f"{times} studies of the sweep would have the name {name}; give their files other names")
        self.entries.sort(key=lambda entry: entry.name)
        self.studies.sort(key=lambda study: study.name)

    def _options(self, study: Study) -> dict[str, Any]:
        """The options of swept checkpoints: those that all checkpoints of the study file have."""
        first, *others = (c.options for c in study.checkpoints)
        if any(options != first for options in others):
            raise InputError(
                f"{self._config.file}: its checkpoints have different options; keep one of them, whose options all "
                "checkpoints of the sweep get"
            )
        return first

    def _shared_directions(self, base: Study, values: Sequence[str]) -> list[str]:
        """Overrides that take the directions from a file, which is made for studies like `base`; none where each study
        has its own."""
        name = self._config.directions_from
        if name is None:
            return []
        checkpoint = self._reference(base, name)
        study = Study.of(
            self._data,
            self._config.file,
            [*values, f"checkpoints={json.dumps([checkpoint.model_dump(mode='json')])}"],
        )
        decides = study.model_dump(
            mode="json", include={"task", "checkpoints", "directions", "precision", "frozen", "only"}
        )
        file = self._inside.directions(canonical_sha256(decides))
        if file not in [shared.file for shared in self.shared]:
            self.shared.append(SharedDirections.of(study, file, self._site, self._inside.workers))
        own = {"kind": "file", "n": base.directions.n, "normalization": base.directions.normalization}
        own["file"] = os.path.relpath(file, self._config.base)
        return [f"directions={json.dumps(own)}"]

    def _reference(self, base: Study, name: str) -> Checkpoint:
        """The checkpoint whose directions are shared: of the sweep or the study file by name, or any file."""
        for found in self._found or ():
            if name == found.name:
                return Checkpoint(name=found.name, file=found.file, options=self._options(base))
        for checkpoint in base.checkpoints:
            if name == checkpoint.name:
                return checkpoint
        if base.path(name).exists():
            return Checkpoint(name="reference", file=name, options=self._options(base))
        known = [found.name for found in self._found or base.checkpoints]
        raise InputError(
            f"directions_from: {name!r} is no checkpoint of the sweep ({', '.join(known[:5])}"
            f"{', …' if len(known) > 5 else ''}) and no file; name one of them"
        )
