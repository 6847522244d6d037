"""The numbers of finished studies to where experiments are tracked: Weights & Biases, MLflow, TensorBoard.

Each package is used where it is installed, and writes to where its own settings say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from landscaper_hpc.errors import InputError
from landscaper_hpc.exchange.formats import needed
from landscaper_hpc.report.quantities import ROWS
from landscaper_hpc.report.results import read_results
from landscaper_hpc.store.folder import StudyFolder, SweepFolder
from landscaper_hpc.store.sweep_record import is_sweep

_STEP = re.compile(r"step_?0*(\d+)")


def log_results(run: str | Path, to: str, folder: str | Path | None = None) -> int:
    """Log every number of a finished study, or of all finished studies of a sweep, and the page of results.

    A number is called as in docs/quantities.md. Where a checkpoint's or a study's name tells a step (`step_00001000`),
    it is logged at that step; what else the name says comes before it, as `seed_1/topology.smad`.

    Parameters
    ----------
    run
        The folder of a study or of a sweep.
    to
        `wandb`: the run that `wandb.init` began; `mlflow`: the active run, or a new one; `tensorboard`: event files.
    folder
        Of `tensorboard`; by default `exports/tensorboard` in the run's.

    Returns
    -------
    int
        How many numbers were logged.

    Raises
    ------
    InputError
        Where nothing is finished, where the package is not installed, or `wandb.init` was not called.
    """
    run = Path(run)
    if to not in _TO:
        raise InputError(f"to is {to!r}; choose one of {', '.join(_TO)}")
    studies = _studies(run)
    if not studies:
        raise InputError(f"{run}: nothing of it is finished; run it first")
    by_step: dict[int, dict[str, float]] = {}
    for step, numbers in (found for study in studies for found in _numbers(study, len(studies) > 1)):
        by_step.setdefault(step, {}).update(numbers)
    page = SweepFolder(run).page if is_sweep(run) else StudyFolder(run).report
    into = Path(folder) if folder is not None else StudyFolder(run).exports / "tensorboard"
    _TO[to](dict(sorted(by_step.items())), page, into)
    return sum(map(len, by_step.values()))


def _studies(run: Path) -> list[StudyFolder]:
    if not is_sweep(run):
        return [StudyFolder(run)]
    inside = SweepFolder(run)
    return [study for path in sorted(inside.studies.iterdir()) if (study := inside.study(path.name)).finished()]


def _numbers(study: StudyFolder, several: bool) -> Iterator[tuple[int, dict[str, float]]]:
    """By landscape, its step and its finite numbers."""
    landscapes = read_results(study.results)["landscapes"]
    for entry in landscapes:
        names = [study.path.name] if several else []
        name = "/".join(names + ([entry["name"]] if not several or len(landscapes) > 1 else []))
        found = _STEP.search(name)
        rest = _STEP.sub("", name, count=1).strip("._+-=/") if found else name
        values = {f"{rest}/{row.key}" if rest else row.key: row.value(entry) for row in ROWS if row.kind.scalar}
        numbers = {
            key: float(value)
            for key, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        yield int(found[1]) if found else 0, numbers


def _wandb(by_step: Mapping[int, Mapping[str, float]], page: Path, folder: Path) -> None:
    wandb: Any = needed("wandb", "wandb", "log_results")
    if wandb.run is None:
        raise InputError("there is no run of Weights & Biases; call wandb.init(project=…) first")
    wandb.define_metric("landscape/step")  # a step of training, which the run itself may be beyond
    wandb.define_metric("landscape/*", step_metric="landscape/step")
    for step, numbers in by_step.items():
        wandb.log({"landscape/step": step, **{f"landscape/{key}": value for key, value in numbers.items()}})
    if page.exists():
        wandb.log({"landscape/report": wandb.Html(page.read_text(), inject=False)})


def _mlflow(by_step: Mapping[int, Mapping[str, float]], page: Path, folder: Path) -> None:
    mlflow: Any = needed("mlflow", "mlflow", "log_results")
    for step, numbers in by_step.items():
        mlflow.log_metrics(dict(numbers), step=step)
    if page.exists():
        mlflow.log_artifact(str(page))


def _tensorboard(by_step: Mapping[int, Mapping[str, float]], page: Path, folder: Path) -> None:
    needed("tensorboard", "tensorboard", "log_results")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step, numbers in by_step.items():
            for key, value in numbers.items():
                writer.add_scalar(key, value, step)


_TO = {"wandb": _wandb, "mlflow": _mlflow, "tensorboard": _tensorboard}
