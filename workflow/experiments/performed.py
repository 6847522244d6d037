"""An experiment at one size: what is missing is trained, landscapes are made by a sweep, numbers are put into tables.

A second run goes on from what the first left, whatever ended it.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.declared import LANDSCAPES, SEED, Done, Experiment, Scalar, Size
from landscaper_hpc import InputError, LandscapeStore, Site, merge_tree, open_landscape
from landscaper_hpc.files import publish
from landscaper_hpc.grid import nested_steps
from landscaper_hpc.orchestrate import open_sweep, run_campaign
from landscaper_hpc.report import quantities
from landscaper_hpc.report.quantity import Measured
from landscaper_hpc.report.results import read_results
from landscaper_hpc.report.sweep_table import table
from landscaper_hpc.store.folder import SweepFolder
from landscaper_hpc.store.sweep_record import read_sweep
from landscaper_hpc.study.schema import read_yaml
from landscaper_hpc.study.study import Study
from landscaper_hpc.study.sweep_file import SweepConfig, combinations
from landscaper_hpc.topology import contour_tree

if TYPE_CHECKING:
    import pandas as pd

WORKFLOW = Path(__file__).parents[1]


@dataclass(frozen=True)
class Performed:
    """The tables of an experiment, and the columns of the landscapes that tell one training from another."""

    tables: Mapping[str, pd.DataFrame]
    settings: list[str]


def load(name: str) -> Experiment:
    """The experiment of a folder here. `InputError` where there is none."""
    file = WORKFLOW / name / "experiment.py"
    if not file.is_file():
        known = sorted(each.parent.name for each in WORKFLOW.glob("*/experiment.py"))
        raise InputError(f"{name}: is no study of this folder; there are {', '.join(known)}")
    spec = importlib.util.spec_from_file_location(f"experiment_{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Experiment = module.EXPERIMENT
    return found


def perform(
    name: str, size: str, folder: Path, jobs: int = 1, data: Path | None = None, site: Site | None = None
) -> Performed:
    """Train, make landscapes, measure: in `folder`, which a second run of the same goes on with; in `jobs` processes of
    this machine, or where the `site` says."""
    experiment, asked = _asked(name, size, data)
    tables: dict[str, pd.DataFrame] = {}
    settings = [*dict.fromkeys(factor for each in asked.conditions for factor in each), SEED]
    if asked.conditions:
        tables[LANDSCAPES] = _landscapes(name, experiment, asked, folder, site or _here(jobs), data)
    done = Done(size, tables.get(LANDSCAPES), folder, jobs, data)
    return Performed(tables | {each: make(done) for each, make in experiment.tables.items()}, settings)


def plan(
    name: str,
    size: str,
    folder: Path,
    jobs: int = 1,
    data: Path | None = None,
    site: Site | None = None,
    rate: float | None = None,
) -> None:
    """Print what `perform` would train, and what its landscapes cost, as `landscaper-hpc plan` does of a study; `rate`
    in points per second. Nothing is trained."""
    from landscaper_hpc.commands.plan import tell

    _, asked = _asked(name, size, data)
    trainings = _trainings(asked, folder, data)
    print(f"trainings   {len(trainings):,} ({len(asked.conditions)} conditions × {asked.seeds} seeds)")
    if not trainings:
        return
    config = _config(name, asked, trainings, folder)
    for varied, values in combinations(config):
        print("".join(f"\n{key} = {_level(value)}\n" for key, value, _ in varied), end="")
        tell(Study.of(config.data, config.file, values), site or _here(jobs), folder / "plan", rate=rate)


def _asked(name: str, size: str, data: Path | None) -> tuple[Experiment, Size]:
    """The experiment and its size. `InputError` where there is no such, or the data are not what it needs."""
    experiment = load(name)
    if size not in experiment.sizes:
        raise InputError(f"--size {size}: {name} has {', '.join(experiment.sizes)}")
    asked = experiment.sizes[size]
    if asked.data is None and data is not None:
        raise InputError(f"--data {data}: {name} reads no data at its size {size}; leave it out")
    if asked.data is not None and (data is None or not data.exists()):
        what = "--data was not given" if data is None else f"{data} does not exist"
        raise InputError(f"{name} at its size {size} needs {asked.data}: {what}; nothing is downloaded by itself")
    if data is not None and asked.check is not None:
        asked.check(data)
    return experiment, asked


def _here(jobs: int) -> Site:
    return Site(executor="serial") if jobs == 1 else Site(workers=jobs)


@dataclass(frozen=True)
class _Training:
    """One network: its name, file, options, and those of them that tell it from the others."""

    name: str
    file: Path
    options: dict[str, Scalar]
    setting: dict[str, Scalar]


def _trainings(size: Size, folder: Path, data: Path | None) -> list[_Training]:
    found = []
    for condition in size.conditions:
        for seed in range(size.seeds):
            setting = {**condition, SEED: seed}
            name = "-".join(f"{key}_{value}" for key, value in setting.items())
            options = {**size.options, **setting, **({} if data is None else {"data": str(data.resolve())})}
            found.append(_Training(name, folder / "checkpoints" / f"{name}.pt", options, setting))
    return found


def _landscapes(
    name: str, experiment: Experiment, size: Size, folder: Path, site: Site, data: Path | None
) -> pd.DataFrame:
    trainings = _trainings(size, folder, data)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    run_campaign(open_sweep(_config(name, size, trainings, folder), site, folder / "sweep"), site)
    return _rows(experiment, size, trainings, folder)


def _config(name: str, size: Size, trainings: list[_Training], folder: Path) -> SweepConfig:
    study = WORKFLOW / name / "study.yaml"
    content = read_yaml(study)
    content["checkpoints"] = [
        {"name": each.name, "file": os.path.relpath(each.file, study.parent), "options": each.options}
        for each in trainings
    ]
    together = {key: [variant[key] for variant in size.variants] for key in size.variants[0]}
    fixed = {key: [value] for key, value in size.set.items()}
    return SweepConfig(f"{name}_{folder.name}", study, content, None, fixed, together, None)


def _rows(experiment: Experiment, size: Size, trainings: list[_Training], folder: Path) -> pd.DataFrame:
    """One row for each landscape: setting, variant, numbers of the sweep's table, outcomes, own quantities, and the
    same of nested grids as `quantity@2` (every second point), `quantity@4`."""
    import pandas as pd

    recorded = read_sweep(folder / "sweep")
    found = table(folder / "sweep", recorded).drop(columns=["checkpoint", "run", "step", "state"])
    by_name = {training.name: training for training in trainings}
    variants = {entry.name: entry.values for entry in recorded.entries}
    more = []
    for study, name in zip(found["study"], found["landscape"], strict=True):
        training, inside = by_name[name], SweepFolder(folder / "sweep").study(study)
        (item,) = (item for item in read_results(inside.results)["landscapes"] if item["name"] == name)
        trace = (item.get("hessian") or {}).get("trace")
        varied = {key: _level(value) for key, value in {**size.variants[0], **variants[study]}.items()}
        row = {**size.set, **varied, **training.setting, "trace": (trace or [math.nan])[0]}
        more.append(row | _outcomes(experiment, training) | _measured(experiment, open_landscape(inside.path, name)))
    found = found.drop(columns=[column for column in found if column in more[0]])
    return pd.concat([pd.DataFrame(more, index=found.index), found], axis=1)


def _level(value: Any) -> Scalar:
    """A value of a key, as a column holds it: a list is its entries in one line."""
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _outcomes(experiment: Experiment, training: _Training) -> dict[str, float]:
    """What else is known of a trained network; kept beside it, as its test may take long."""
    if experiment.outcomes is None:
        return {}
    kept = training.file.with_suffix(".json")
    if not kept.exists():
        found = experiment.outcomes(training.file, **training.options)
        publish(kept, json.dumps({key: float(value) for key, value in found.items()}).encode())
    outcomes: dict[str, float] = json.loads(kept.read_text())
    return outcomes


def _measured(experiment: Experiment, store: LandscapeStore) -> dict[str, float | None]:
    """Own quantities of a landscape, and all that are of a field's trees on its nested grids."""
    losses = store.loss()
    found: dict[str, float | None] = {}
    for step in nested_steps(losses.shape):
        values = losses[(slice(None, None, step),) * losses.ndim]
        at = "" if step == 1 else f"@{step}"
        for key, function in experiment.quantities.items():
            found[key + at] = float(function(values))
        if step > 1:
            tree = merge_tree(values, store.connectivity, labels=True)
            field = None if tree.labels is None else (values, tree.labels)
            contour = contour_tree(values, store.connectivity)
            subject = Measured(tree, store.precision, field=field, contour=contour)
            for row in quantities.ROWS:
                if row.origin in ("tree", "contour") and row.kind.scalar:
                    found[row.column + at] = row.of(subject)
    return found
