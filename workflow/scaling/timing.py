"""How long the parts of a landscape take, each by itself, several times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from landscaper_hpc import InputError, Site, Study
from landscaper_hpc.executors import LocalMapper, SerialMapper
from landscaper_hpc.progress import Bars
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.deal import Deal, Pool
from landscaper_hpc.work.preparation import prepare_all
from landscaper_hpc.work.stages import do_item

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def of_ranks(folder: Path, points: int, ranks: int, runs: int, share: float = 1.0) -> Iterator[dict[str, Any]]:
    """The merge tree of a grid of points⁵, or that share of it, by so many MPI ranks of one thread each, as
    benchmarks/scaling.py makes it. A row for each run but the first."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from topology import smooth
    finally:
        sys.path.remove(str(BENCHMARKS))
    launcher = Path(sys.executable).with_name("mpiexec")
    if ranks > 1 and not launcher.exists():
        raise InputError(f"{launcher} does not exist, which starts {ranks} ranks: pip install mpi4py mpich")
    file = folder / "field.npy"
    np.save(file, smooth(points, 5, "f4")[: max(2, round(points * share))])
    command = [sys.executable, str(BENCHMARKS / "scaling.py"), "--rank-of", str(file), "--runs", str(runs + 1)]
    launched = [str(launcher), "-n", str(ranks), *command] if ranks > 1 else command
    done = subprocess.run(launched, check=True, stdout=subprocess.PIPE, text=True)
    for run, line in enumerate(done.stdout.splitlines()[1:]):
        one = json.loads(line)
        yield {"workers": ranks, "run": run, "points": one["vertices"], "seconds": one["seconds"], "load": one["load"]}


def of_workers(folder: Path, file: Path, count: int, workers: int, runs: int) -> Iterator[dict[str, Any]]:
    """Points a second of a study by so many processes. A row for each run but the first, in which they start."""
    study = _study(folder, file, ["directions.kind=random", f"grid.count={count}"])
    with closing(LocalMapper(workers)) as mapper:
        for run in range(-1, runs):
            made = _prepared(study, folder, "cpu", shard_points=16)
            began = time.perf_counter()
            for _ in mapper.map_unordered(do_item, _missing(made)):
                pass
            rate = count**2 / (time.perf_counter() - began)
            if run >= 0:
                yield {"workers": workers, "run": run, "points_per_second": rate, "load": os.getloadavg()[0]}


def of_stages(folder: Path, file: Path, device: str, runs: int) -> Iterator[dict[str, Any]]:
    """Seconds of a study's eigenvectors, three of them, and of its points in two and in three directions. Three rows
    for each run."""
    for run in range(runs):
        for n, stage in ((3, "3-D"), (2, "2-D")):
            study = _study(folder, file, [f"directions.n={n}"])
            began = time.perf_counter()
            made = _prepared(study, folder, device)
            if n == 3:
                yield {"stage": "eigenvectors", "run": run, "seconds": time.perf_counter() - began}
            began = time.perf_counter()
            for _ in SerialMapper().map_unordered(do_item, _missing(made)):
                pass
            yield {"stage": stage, "run": run, "seconds": time.perf_counter() - began}


def _study(folder: Path, file: Path, overrides: Sequence[str]) -> Study:
    """With what it trains kept in the folder."""
    study = Study.load(file, overrides)
    if study.train is None:
        return study
    kept = folder / "started.pt"
    return Study.load(file, [*overrides, f"checkpoints.0.file={os.path.relpath(kept, file.resolve().parent)}"])


def _prepared(study: Study, folder: Path, device: str, shard_points: int | None = None) -> Campaign:
    """A study in a new folder, whose directions are made, and none of its points."""
    site = Site(executor="serial", device=device, shard_points=shard_points)
    made = Campaign.of(study, site, Path(tempfile.mkdtemp(dir=folder)) / "run")
    prepare_all(made.landscapes, SerialMapper(), Bars())
    return made


def _missing(made: Campaign) -> Deal:
    found = Pool(made.plans, False, lambda done, total: None).missing()
    assert found is not None
    return found
