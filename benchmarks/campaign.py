"""A thousand workers that share one store: what they ask of the file system, and what limits first.

    python benchmarks/campaign.py                                     1,000 workers, 5,000 shards of 10 s each
    python benchmarks/campaign.py --workers 100 --shards 2000 --seconds 1
    python benchmarks/campaign.py --folder /lustre/me/scratch         on the file system that is meant

Each worker is a process that does all that a pull worker does, listings, leases, chunks, heartbeats, with a sleep in
place of the loss. Operations are counted by Python's audit events: what opens, lists, makes, renames, stamps or removes
a file; they are what a metadata server gets, less the `stat`s, which leave no event.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from landscaper_hpc.grid import Axis, Grid
from landscaper_hpc.store.folder import StudyFolder
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import StoredDirections
from landscaper_hpc.study.site import Site
from landscaper_hpc.study.study import Study
from landscaper_hpc.work import worker
from landscaper_hpc.work.landscape import Landscape, ShardItem

EVENTS = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "os.utime")
RESULTS = Path(__file__).parent / "results"


def landscape(folder: Path, shards: int, points: int) -> Landscape:
    """A landscape whose shards are rows of so many points, ready to be evaluated."""
    study = Study.of(
        {
            "name": "campaign",
            "task": "task.py",
            "checkpoints": [{"name": "main", "file": "main.pt"}],
            "grid": {"count": 3},
        },
        folder,
    )
    made = Landscape(study, study.checkpoints[0], StudyFolder(folder / "run"), Site(executor="local"), "campaign")
    grid = Grid((Axis(-1.0, 1.0, shards), Axis(-1.0, 1.0, points)))
    science = {"connectivity": "axis", "precision": "float64"}
    vectors = StoredDirections({"x": np.eye(2)}, np.eye(2))
    LandscapeStore.create(made.store, made.name, science, grid, (1, points), vectors, {"provenance": {}, "batch": 1})
    return made


def pull(item: Landscape, place: int, places: int, seconds: float, started: Any, told: Any) -> None:
    """One worker, from its first listing to its last."""
    counts: Counter[str] = Counter()
    store = item.open()
    own = item.heartbeat
    values = np.zeros(store.grid.shape[1])

    def slept(task: ShardItem, progress: Any) -> None:
        own.beat(task.key)
        time.sleep(seconds)
        store.write(task.shard, values)
        own.shard_done(task.shard.size)

    worker.evaluate_shard = slept  # type: ignore[assignment]
    folder = str(item.inside.path)

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and arguments and str(arguments[0]).startswith(folder):
            counts[event.removeprefix("os.")] += 1

    started.wait()
    sys.addaudithook(heard)
    done: list[float] = []
    worker.work([item], place=place, places=places, on_done=lambda task: done.append(time.monotonic()))
    used = resource.getrusage(resource.RUSAGE_SELF)
    told.put((len(done), dict(counts), used.ru_utime + used.ru_stime, max(done, default=0.0)))


def measured(folder: Path, workers: int, shards: int, seconds: float) -> dict[str, Any]:
    item = landscape(folder, shards, 64)
    forked = multiprocessing.get_context("fork")
    started, told = forked.Event(), forked.SimpleQueue()
    processes = [forked.Process(target=pull, args=(item, i, workers, seconds, started, told)) for i in range(workers)]
    for process in processes:
        process.start()
    began = time.monotonic()
    started.set()
    results = [told.get() for _ in processes]
    for process in processes:
        process.join()
    last = max(end for *_, end in results) - began
    whole = time.monotonic() - began
    assert item.open().n_done() == shards
    total = sum((Counter(counts) for _, counts, *_ in results), Counter[str]())
    evaluated = sum(done for done, *_ in results)
    return {
        "workers": workers,
        "shards": shards,
        "evaluated": evaluated,
        "seconds a shard": seconds,
        "seconds to the last shard": round(last, 2),
        "seconds to the last worker's end": round(whole, 2),
        "ideal seconds": round(seconds * -(-shards // workers), 2),
        "shards a second": round(shards / last, 1),
        "operations a second": round(total.total() / whole, 1),
        "operations a shard": {kind: round(count / shards, 2) for kind, count in sorted(total.items())},
        "processor ms a shard": round(1e3 * sum(cpu for _, _, cpu, _ in results) / shards, 2),
        "share of this machine's processors": round(
            sum(cpu for _, _, cpu, _ in results) / (whole * (os.cpu_count() or 1)), 2
        ),
        "load before": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--shards", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a shard")
    parser.add_argument("--folder", type=Path, help="where the store is made, and removed again")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        found = measured(Path(scratch), asked.workers, asked.shards, asked.seconds)
    print(json.dumps(found, indent=1))
    (RESULTS / "campaign.json").write_text(json.dumps(found, indent=1) + "\n")
