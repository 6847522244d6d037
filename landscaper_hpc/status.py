"""How far a study or a sweep is, and how fast it goes: from listings and small files, without reading a loss.

Of what is finished nothing is listed, so that a thousand studies of a thousand shards are looked through in seconds.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from landscaper_hpc.errors import InputError
from landscaper_hpc.executors.jobs import Job, jobs
from landscaper_hpc.store.failures import Failures
from landscaper_hpc.store.folder import RunFolder, StudyFolder, SweepFolder
from landscaper_hpc.store.heartbeat import State, rate_of, read_heartbeats
from landscaper_hpc.store.landscape import LandscapeStore, landscape_names
from landscaper_hpc.store.leases import Leases
from landscaper_hpc.store.sweep_record import is_sweep, read_sweep

_ALIVE = 90.0
"""Seconds after its last beat that a worker is taken to be at work."""


def status(folder: Path) -> dict[str, Any]:
    """The state of the study or sweep in `folder`, as plain JSON values. Reads only; safe beside a run.

    `InputError` where the folder is neither.
    """
    inside = StudyFolder(folder)
    if is_sweep(folder):
        found = _sweep(folder)
    elif any(path.exists() for path in (inside.logs, inside.store, inside.results)):
        found = _study(folder)
    else:
        raise InputError(f"{folder}: is not a study's folder; give the one that `landscaper-hpc run` or `sweep` named")
    heartbeats, known_jobs = read_heartbeats(inside.workers), jobs(folder)
    alive = [state for state in heartbeats if time.time() - state.now < _ALIVE]
    held = found["held"]
    found["running"] = len(held) if held else len(alive) if found["shards_done"] < found["shards"] else 0
    # failed shards and those that someone holds are not done and will not be begun
    found["pending"] = max(0, found["shards"] - found["shards_done"] - found["running"] - len(found["failed"]))
    rate = sum(_rate(state) for state in alive)
    return found | {
        "points_per_second": rate,
        "shards_per_minute": sum(_shards_per_minute(state) for state in alive),
        "seconds_left": (found["points"] - found["points_done"]) / rate if rate else None,
        "nodes": _nodes(alive),
        "jobs": [_job(job) for job in known_jobs],
        **_hours(heartbeats, known_jobs),
    }


def failures(folder: Path, key: str | None = None) -> dict[str, str]:
    """Errors of what failed too often, by key; in a sweep a key is `study: key`. `InputError` for an unknown `key`."""
    found = _failed(folder)
    if key is None:
        return found
    if key not in found:
        known = ", ".join(list(found)[:5]) or "nothing did"
        raise InputError(f"{key}: has not failed; what has: {known}")
    return {key: found[key]}


def logs_of(folder: Path, error: str) -> list[Path]:
    """Where more can be read about an error: the logs of its job where it names one, and of the run."""
    inside = RunFolder(folder)
    job = re.search(r"job (\d+)(?: \((\d+)_(\d+)\))?", error.partition("\n")[0])
    numbers = {number for number in job.groups()[:2] if number} if job else set()
    return [
        *(
            file
            for place in (inside.jobs.path, inside.logs)
            for file in sorted(place.glob("*"))
            if file.is_file() and numbers & set(re.findall(r"\d+", file.name))
        ),
        inside.log,
    ]


# ---- what is done -----------------------------------------------------------------------------------------------


def _study(folder: Path) -> dict[str, Any]:
    inside = StudyFolder(folder)
    stores = [LandscapeStore(inside.store, name) for name in landscape_names(inside.store)]
    report = inside.report
    landscapes = [
        {
            "name": store.name,
            "study_id": store.study_id,
            "shape": list(store.grid.shape),
            "shards": store.n_shards(),
            "shards_done": store.n_done(),
            "points": store.grid.size,
            "topology": store.has_tree(),
        }
        for store in stores
    ]
    return {
        "kind": "study",
        "landscapes": landscapes,
        "shards": sum(item["shards"] for item in landscapes),
        "shards_done": sum(item["shards_done"] for item in landscapes),
        "points": sum(item["points"] for item in landscapes),
        "points_done": sum(map(_points_done, landscapes)),
        "failed": _failed(folder),
        "held": _held(folder),
        "report": str(report) if report.exists() else None,
    }


def _points_done(item: dict[str, Any]) -> int:
    return int(item["points"] * item["shards_done"] // item["shards"])


def _sweep(folder: Path) -> dict[str, Any]:
    inside, recorded = SweepFolder(folder), read_sweep(folder)
    states: Counter[str] = Counter()
    found: dict[str, Any] = {"kind": "sweep", "shards": 0, "shards_done": 0, "points": 0, "points_done": 0}
    active: list[dict[str, Any]] = []
    held: dict[str, str] = {}
    for entry in recorded.entries:
        own = inside.study(entry.name)
        finished = own.finished()
        failed = not finished and own.failed.is_dir() and bool(Failures(own.failed).quarantined())
        shards = done = 0
        for name in landscape_names(own.store):
            store = LandscapeStore(own.store, name)
            shards += store.n_shards()
            done += store.n_shards() if finished else store.n_done()
        states["done" if finished else "failed" if failed else "evaluating" if shards else "missing"] += 1
        found["shards"] += shards
        found["shards_done"] += done
        found["points"] += entry.points
        found["points_done"] += entry.points if finished else entry.points * done // max(shards, 1)
        if not finished and (holders := _held(own.path)):
            held |= {f"{entry.name}: {key}": holder for key, holder in holders.items()}
        if not finished and done:
            active.append({"name": entry.name, "shards": shards, "shards_done": done})
    report = inside.page
    return found | {
        "name": recorded.name,
        "studies": {"total": len(recorded.entries), **{key: states[key] for key in sorted(states)}},
        "evaluating": active,
        "failed": _failed(folder),
        "held": held,
        "report": str(report) if report.exists() else None,
    }


def _failed(folder: Path) -> dict[str, str]:
    if not is_sweep(folder):
        return Failures(StudyFolder(folder).failed).quarantined()
    return {
        f"{entry.name}: {key}": error
        for entry in read_sweep(folder).entries
        if (own := SweepFolder(folder).study(entry.name).failed).is_dir()
        for key, error in Failures(own).quarantined().items()
    }


def _held(folder: Path) -> dict[str, str]:
    leases = RunFolder(folder).leases
    return Leases(leases).held() if leases.is_dir() else {}


# ---- how fast ---------------------------------------------------------------------------------------------------


def _rate(state: State) -> float:
    return rate_of(state.marks, state.now, state.points)


def _shards_per_minute(state: State) -> float:
    began, _, before = state.marks[0]
    return 60 * (state.shards - before) / max(state.now - began, 1e-9)


def _nodes(alive: Sequence[State]) -> list[dict[str, Any]]:
    by_host = defaultdict(list)
    for state in alive:
        by_host[state.host].append(state)
    return [
        {
            "host": host,
            "workers": len(states),
            "points_per_second": sum(map(_rate, states)),
            "shards": sum(state.shards for state in states),
        }
        for host, states in sorted(by_host.items())
    ]


def _job(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "stage": job.stage,
        "state": job.state,
        "reason": job.reason,
        "nodes": job.nodes,
        "gpu_hours": job.gpu_hours,
    }


def _hours(heartbeats: Sequence[State], known: Sequence[Job]) -> dict[str, float]:
    """Hours that workers were at work, and GPUs: as accounted by Slurm, or else as workers with a GPU count them."""
    hours = {"cpu": 0.0, "cuda": 0.0}
    for state in heartbeats:
        hours[state.device.partition(":")[0]] += (state.now - state.began) / 3600
    accounted = sum(job.gpu_hours for job in known)
    return {"worker_hours": sum(hours.values()), "gpu_hours": accounted or hours["cuda"]}


# ---- in words ---------------------------------------------------------------------------------------------------


def lines(found: dict[str, Any], folder: Path) -> Iterator[str]:
    """What `status` found, for people."""
    if found["kind"] == "sweep":
        yield from _sweep_lines(found)
    else:
        for item in found["landscapes"]:
            yield (
                f"{item['name']:<20} {item['shards_done']:>8,}/{item['shards']:,} shards "
                f"({100 * item['shards_done'] // item['shards']} %), "
                f"{' × '.join(map(str, item['shape']))} points, merge tree {'done' if item['topology'] else 'pending'}"
            )
        if not found["landscapes"]:
            yield "no directions yet"
    if found["shards_done"] < found["shards"]:
        yield (
            f"shards: {found['shards_done']:,} done, {found['running']:,} running, {found['pending']:,} pending, "
            f"{len(found['failed']):,} failed"
        )
    if found["points_per_second"] and found["points_done"] < found["points"]:
        yield (
            f"rate: {found['points_per_second']:,.4g} points/s, {found['shards_per_minute']:,.3g} shards/min, "
            f"about {duration(found['seconds_left'])} left"
        )
        for node in found["nodes"]:
            yield f"  {node['host']:<20} {node['workers']:>3} workers, {node['points_per_second']:,.4g} points/s"
    for job in found["jobs"]:
        why = f" ({job['reason']})" if job["reason"] else ""
        yield f"job {job['id']:<16} {job['stage']:<9} {job['state']}{why} {job['nodes']}".rstrip()
    if found["worker_hours"]:
        yield f"spent: {found['worker_hours']:.3g} worker-hours, {found['gpu_hours']:.3g} GPU-hours"
    if found["failed"]:
        key, error = next(iter(found["failed"].items()))
        yield f"{len(found['failed'])} shards failed and are quarantined: {', '.join(list(found['failed'])[:10])}"
        yield f"the last error of {key}:\n{error.rstrip()}"
        yield f"all errors and their logs: landscaper-hpc status {folder} --failed"
        yield "mend the cause, then: landscaper-hpc … --retry-failed"
    yield f"report: {found['report'] or 'pending'}"


def _sweep_lines(found: dict[str, Any]) -> Iterator[str]:
    studies = found["studies"]
    others = ", ".join(
        f"{studies[key]:,} {text}"
        for key, text in (("evaluating", "under way"), ("failed", "failed"), ("missing", "not begun"))
        if studies.get(key)
    )
    yield f"{found['name']}: {studies.get('done', 0):,} of {studies['total']:,} studies done{others and ', ' + others}"
    yield f"points: {found['points_done']:,} of {found['points']:,} ({100 * found['points_done'] // found['points']} %)"
    for item in found["evaluating"][:10]:
        yield f"  {item['name']:<40} {item['shards_done']:>8,}/{item['shards']:,} shards"
    if len(found["evaluating"]) > 10:
        yield f"  … and {len(found['evaluating']) - 10:,} more"


def duration(seconds: float) -> str:
    """A time in words' notation: 2.5 hours."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
