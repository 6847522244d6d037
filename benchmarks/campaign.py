"""A thousand workers that share one store: what they ask of the file system, and what limits first.

    python benchmarks/campaign.py                                     1,000 workers, 5,000 shards of 10 s each
    python benchmarks/campaign.py --workers 100 --shards 2000 --seconds 1
    python benchmarks/campaign.py --folder /lustre/me/scratch         on the file system that is meant
    python benchmarks/campaign.py --plan                              1,000 checkpoints × 41⁴, lowest 1 %, on 256 nodes

Each worker is a process that does all that a pull worker does, listings, leases, chunks, heartbeats, with a sleep in
place of the loss. Operations are counted by Python's audit events: what opens, lists, makes, renames, stamps or removes
a file; they are what a metadata server gets, less the `stat`s, which leave no event.

The plan is made of one search as a worker conducts it, with a field that is known in place of the loss: evaluations,
rounds, operations on files and processor time are measured here, the rates of a GPU are assumed.
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


def events_in(folder: Path, counts: Counter[str]) -> Any:
    """An audit hook that counts what is done with files of a folder."""
    place = str(folder)

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and arguments and str(arguments[0]).startswith(place):
            counts[event.removeprefix("os.")] += 1

    return heard


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
    started.wait()
    sys.addaudithook(events_in(item.inside.path, counts))
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


# ---- the plan -------------------------------------------------------------------------------------------------------


def searched(folder: Path, places: int, landscapes: int) -> dict[str, Any]:
    """One search for the lowest 1 % of 41⁴ points, by one of so many workers that share so many landscapes."""
    from sampling import fourier

    from landscaper_hpc.work import points, seeking

    field = fourier(41, 4, 10, 2.0)
    study = Study.of(
        {
            "name": "campaign",
            "task": "task.py",
            "checkpoints": [{"name": "main", "file": "main.pt"}],
            "grid": {"count": 41},
            "directions": {"kind": "random", "n": 4},
            "scope": {"share": 0.01},
        },
        folder,
    )
    item = Landscape(study, study.checkpoints[0], StudyFolder(folder / "run"), Site(executor="local"), "campaign")
    grid = Grid((Axis(-1.0, 1.0, 41),) * 4)
    science = {"connectivity": "axis", "precision": "float64", "directions": {"which": "magnitude"}}
    made = {"provenance": {}, "batch": 1, "checkpoint_loss": 0.0}
    vectors = StoredDirections({"x": np.eye(4)}, np.eye(4))
    LandscapeStore.create(item.store, item.name, science, grid, (1, 41, 41, 41), vectors, made)
    evaluated: list[int] = []
    counts: Counter[str] = Counter()
    most = [0]

    def known(task: points.Points, progress: Any) -> None:
        points.write(task.file, task.ids, field.flat[task.ids], sync=False)
        evaluated.append(len(task.ids))
        if len(evaluated) % 100 == 0:
            most[0] = max(most[0], sum(len(files) for _, _, files in os.walk(folder / "run")))

    points.evaluate_points = known
    sys.addaudithook(events_in(item.inside.path, counts))
    began = time.process_time()
    # the others have landscapes of their own: what this one is asked about them is not answered
    assert seeking._conduct(item, seeking.helpers(places, landscapes), worker.Stop(), None)
    used = time.process_time() - began
    return {
        "points": sum(evaluated),
        "sparse shards": len(evaluated),
        "operations": counts.total(),
        "processor seconds": round(used, 1),
        "files at once": most[0],
        "files at the end": sum(len(files) for _, _, files in os.walk(folder / "run")),
    }


def plan(found: dict[str, Any], checkpoints: int, nodes: int, gpus: int, walltime: float) -> list[dict[str, Any]]:
    """What it takes at several rates, in points a second of one GPU."""
    rows = []
    workers = nodes * gpus
    for rate in (1, 10, 100, 1000):
        hours = -(-checkpoints // workers) * (found["points"] / rate + found["processor seconds"]) / 3600
        rows.append(
            {
                "points/s": rate,
                "hours": round(hours, 2),
                "node-hours": round(hours * nodes),
                "jobs": nodes * -(-hours // walltime),
                "operations/s": round(min(checkpoints, workers) * found["operations"] / (hours * 3600)),
            }
        )
    return rows


def tell_plan(found: dict[str, Any], asked: argparse.Namespace) -> str:
    n, per = asked.checkpoints, {key: f"{value:,g}" for key, value in found.items()}
    lines = [
        f"{n:,} checkpoints × 41⁴ points, the lowest 1 % of each, on {asked.nodes} nodes of {asked.gpus} GPUs; jobs of "
        f"{asked.walltime:g} h.",
        "",
        f"One search, measured: {found['points']:,} points ({found['points'] / 41**4:.1%}), {per['sparse shards']} "
        f"sparse shards, {per['operations']} operations on files, {per['processor seconds']} s of processor time "
        f"beside the loss, {per['files at once']} files at once and {per['files at the end']} at the end.",
        "",
        f"All: {n * found['points'] / 1e6:,.0f} million points of {n * 41**4 / 1e6:,.0f} million, "
        f"{n * found['operations'] / 1e6:,.1f} million operations, {n * found['files at once']:,} files at once, "
        f"{n * found['files at the end']:,} at the end.",
        "",
        "| points/s of a GPU (assumed) | hours | node-hours | jobs of one node | operations/s |",
        "|---|---|---|---|---|",
    ]
    rows = plan(found, asked.checkpoints, asked.nodes, asked.gpus, asked.walltime)
    return "\n".join([*lines, *(f"| {' | '.join(f'{value:,g}' for value in row.values())} |" for row in rows)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--shards", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a shard")
    parser.add_argument("--folder", type=Path, help="where the store is made, and removed again")
    parser.add_argument("--plan", action="store_true", help="what a campaign takes, instead")
    parser.add_argument("--checkpoints", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=256)
    parser.add_argument("--gpus", type=int, default=4, help="of a node")
    parser.add_argument("--walltime", type=float, default=24.0, help="of a job, in hours")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        if asked.plan:
            found = searched(Path(scratch), asked.nodes * asked.gpus, asked.checkpoints)
            print(tell_plan(found, asked))
        else:
            found = measured(Path(scratch), asked.workers, asked.shards, asked.seconds)
            print(json.dumps(found, indent=1))
    file = RESULTS / ("campaign-plan.json" if asked.plan else "campaign.json")
    file.write_text(json.dumps(found, indent=1) + "\n")
