"""How far a study or a sweep is, and how fast it goes: from listings and small files, without reading a loss.

Of what is finished nothing is listed, so that a thousand studies of a thousand shards are looked through in seconds.
(Longer than most modules: what is found out and the lines that say it name the same keys, and so stand side by side.)
"""

from __future__ import annotations

import math
import re
import shlex
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from landscaper_hpc import strict_json
from landscaper_hpc.digests import is_sealed
from landscaper_hpc.errors import InputError
from landscaper_hpc.executors.jobs import Job, Record, SlurmSilent, over
from landscaper_hpc.store.failures import Failures
from landscaper_hpc.store.folder import RunFolder, StudyFolder, SweepFolder
from landscaper_hpc.store.heartbeat import State, at_work, rate_of, read_heartbeats
from landscaper_hpc.store.landscape import LandscapeStore, landscape_names
from landscaper_hpc.store.layout import SAMPLING
from landscaper_hpc.store.leases import CONDUCTOR, Leases
from landscaper_hpc.store.lock import is_locked
from landscaper_hpc.store.sweep_record import is_sweep, read_sweep


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
    heartbeats, (known_jobs, silent) = read_heartbeats(inside.workers), _jobs(folder)
    alive = at_work(heartbeats, over={job.id for job in known_jobs if not job.active})
    others = {state.job for state in alive if state.job} - {job.id for job in known_jobs}
    gone = over(others, folder.stat().st_uid)
    alive = [state for state in alive if state.job not in gone]
    dead = {(state.host, state.pid) for state in heartbeats} - {(state.host, state.pid) for state in alive}
    held = {key: holder for key, holder in found["held"].items() if _process(holder) not in dead}
    found["held"] = held
    unfinished = found["shards_done"] < found["shards"] or (found["scoped"] and not finished(found))
    evaluating = sum(not state.phase for state in alive) if unfinished else 0
    found["running"] = len(held) or evaluating
    # failed shards and those that someone holds are not done and will not be begun
    found["pending"] = max(0, found["shards"] - found["shards_done"] - found["running"] - len(found["failed"]))
    rate = sum(_rate(state) for state in alive)
    return found | {
        "points_per_second": rate,
        "shards_per_minute": sum(_shards_per_minute(state) for state in alive),
        # of a lowest part nobody knows how many points it takes
        "seconds_left": (found["points"] - found["points_done"]) / rate if rate and not found["scoped"] else None,
        "nodes": _nodes(alive),
        "phases": sorted({state.current for state in alive if state.phase}),
        # what was written down of jobs long ago may be true still, and nobody can tell
        "at_work": bool(alive or held or (not silent and any(job.active for job in known_jobs)) or is_locked(folder)),
        "command": _command(folder),
        "slurm_silent": silent,
        "jobs": [_job(job) for job in known_jobs],
        **_hours(heartbeats, known_jobs),
    }


def _jobs(folder: Path) -> tuple[list[Job], str | None]:
    """Its jobs, oldest first, and how far that is true, where Slurm does not answer."""
    record = Record(folder)
    try:
        return record.look(), "is what the accounts heard last" if record.only_accounts else None
    except SlurmSilent:
        seen = RunFolder(folder).jobs.record.stat().st_mtime
        return record.last(), f"was so at {time.strftime('%Y-%m-%d %H:%M', time.localtime(seen))}"


def _process(holder: str) -> tuple[str, int]:
    host, pid, _ = [*holder.rsplit(".", 2), "", ""][:3]
    return host, int(pid) if pid.isdigit() else 0


def _command(folder: Path) -> str | None:
    """The command that began or went on with it last, as it can be given here."""
    try:
        given = strict_json.parsed(RunFolder(folder).command.read_text())
        words = shlex.join(given["words"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return words if Path(given["folder"]) == Path.cwd() else f"cd {shlex.quote(given['folder'])} && {words}"


def same_errors(found: dict[str, str]) -> list[tuple[list[str], str]]:
    """Errors that differ at most in who met them (their first line), with all their keys."""
    groups: dict[str, tuple[list[str], str]] = {}
    for key, error in found.items():
        groups.setdefault(error.partition("\n")[2].strip() or error, ([], error))[0].append(key)
    return list(groups.values())


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
            "topology": store.has_tree() and store.n_done() == store.n_shards(),  # or it is of shards that are lost
            "scope": None,
            "sampling": None,
        }
        | _scope(inside, store)
        | _sampling(inside, store)
        for store in stores
    ]
    return {
        "kind": "study",
        "landscapes": landscapes,
        "scoped": any(item["scope"] is not None or item["sampling"] is not None for item in landscapes),
        "shards": sum(item["shards"] for item in landscapes),
        "shards_done": sum(item["shards_done"] for item in landscapes),
        "points": sum(item["points"] for item in landscapes),
        "points_done": sum(map(_points_done, landscapes)),
        "failed": _failed(folder),
        "held": {key: holder for key, holder in _held(folder).items() if not key.endswith(CONDUCTOR)},
        "report": str(report) if report.exists() else None,
    }


def _scope(inside: StudyFolder, store: LandscapeStore) -> dict[str, Any]:
    """What is other where the lowest part is sought, or was found; nothing where the whole is evaluated."""
    if store.n_done():
        return {}
    told = _so_far(inside, store)
    if told is None:
        numbers = store.scope_numbers()
        if numbers is None:
            return {}
        confirmed = store.numbers_of("confirmed") or {}
        told = {name: numbers[f"scope.{name}"] for name in _TOLD} | {"found": True}
        told["confirmed"] = confirmed.get("confirmed.sentence")
    whole = {"shards": 0, "shards_done": 0, "scope": told}
    return whole | ({"points": told["evaluated"]} if told["found"] else {})


def _sampling(inside: StudyFolder, store: LandscapeStore) -> dict[str, Any]:
    """What is other where scattered points are evaluated; nothing where the whole is."""
    if store.n_done():
        return {}
    file, numbers = inside.sampled(store.name), store.numbers_of(SAMPLING)
    told: dict[str, Any] = {"found": False, "batches": inside.batches(store.name)}
    try:
        asked = strict_json.loads(file.read_bytes())
        told["points"] = int(asked["points"])
    except (OSError, ValueError, KeyError, TypeError):
        if numbers is None:
            return {}
        told = {"found": True, "points": numbers["sampling.points"], "n_minima": numbers["sampling.n_minima"]}
        told["network"] = numbers["sampling.network.sentence"]
    return {"shards": 0, "shards_done": 0, "points": told["points"], "sampling": told}


def _so_far(inside: StudyFolder, store: LandscapeStore) -> dict[str, Any] | None:
    """What is told of a search under way; None where there is none."""
    name = store.name
    if not inside.so_far(name).exists():
        return None
    try:
        told: dict[str, Any] = strict_json.loads(inside.so_far(name).read_bytes())
        if is_sealed(told):
            return {**told, "found": False}
    except (OSError, ValueError, AttributeError):
        pass
    known = inside.points_known(name, store.outputs)
    return {"evaluated": known, "found": False}  # it is torn, and written again soon


_TOLD = ("evaluated", "level", "points_below", "n_minima", "pairs", "components", "next_tenth")


def _points_done(item: dict[str, Any]) -> int:
    if item["sampling"] is not None:
        return int(item["points"]) if item["sampling"]["found"] else 0
    if item["scope"] is not None:
        return int(item["scope"]["evaluated"])
    return int(item["points"] * item["shards_done"] // item["shards"])


def _sweep(folder: Path) -> dict[str, Any]:
    inside, recorded = SweepFolder(folder), read_sweep(folder)
    states: Counter[str] = Counter()
    found: dict[str, Any] = {
        "kind": "sweep",
        "scoped": False,
        "shards": 0,
        "shards_done": 0,
        "points": 0,
        "points_done": 0,
    }
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
    if not state.marks:
        return 0.0
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
    hours = defaultdict[str, float](float)
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
            if item["sampling"] is not None:
                yield f"{item['name']:<20} {_sampling_line(item['sampling'])}"
                continue
            if item["scope"] is not None:
                yield f"{item['name']:<20} {_scope_line(item)}"
                continue
            yield (
                f"{item['name']:<20} {item['shards_done']:>8,}/{item['shards']:,} shards "
                f"({100 * item['shards_done'] // item['shards']} %), "
                f"{' × '.join(map(str, item['shape']))} points, merge tree {'done' if item['topology'] else 'pending'}"
            )
        if not found["landscapes"] and not found["phases"]:
            yield "no directions yet"
    if found["phases"]:
        yield f"at work: {', '.join(found['phases'][:5])}" + (", …" if len(found["phases"]) > 5 else "")
    if found["shards_done"] < found["shards"]:
        yield (
            f"shards: {found['shards_done']:,} done, {found['running']:,} running, {found['pending']:,} pending, "
            f"{len(found['failed']):,} failed"
        )
    if found["points_per_second"] and found["points_done"] < found["points"]:
        yield (
            f"rate: {found['points_per_second']:,.4g} points/s, {found['shards_per_minute']:,.3g} shards/min"
            + ("" if found["seconds_left"] is None else f", about {duration(found['seconds_left'])} left")
        )
        for node in found["nodes"]:
            yield f"  {node['host']:<20} {node['workers']:>3} workers, {node['points_per_second']:,.4g} points/s"
    if found["slurm_silent"]:
        yield f"Slurm does not answer: what follows {found['slurm_silent']}"
    for job in found["jobs"]:
        why = f" ({job['reason']})" if job["reason"] else ""
        yield f"job {job['id']:<16} {job['stage']:<9} {job['state']}{why} {job['nodes']}".rstrip()
    if found["worker_hours"]:
        yield f"spent: {found['worker_hours']:.3g} worker-hours, {found['gpu_hours']:.3g} GPU-hours"
    if found["failed"]:
        key, error = next(iter(found["failed"].items()))
        many = "1 shard failed and is" if len(found["failed"]) == 1 else f"{len(found['failed'])} shards failed and are"
        yield f"{many} quarantined: {', '.join(list(found['failed'])[:10])}"
        yield f"the last error of {key}:\n{error.rstrip()}"
        yield f"all errors and their logs: landscaper-hpc status {folder} --failed"
        yield f"mend the cause, then: {found['command'] or 'landscaper-hpc …'} --retry-failed"
    yield f"report: {found['report'] or 'pending'}"
    if abandoned(found) and found["slurm_silent"]:
        yield "no worker tells of itself, and Slurm does not answer whether one will: look again when it does"
    elif abandoned(found) and not found["failed"]:
        yield f"nobody works on it; go on with: {found['command'] or 'the same command again'}"
    elif abandoned(found):
        yield "nobody works on it"
    elif finished(found) and not found["at_work"]:
        again = found["command"] or "the same command again"
        yield f"listed, and not read: what proves every hash, and mends, is {again}"


def _scope_line(item: dict[str, Any]) -> str:
    """How far the search for a lowest part is: what it says of the landscape below a level is exact."""
    scope, shape = item["scope"], " × ".join(map(str, item["shape"]))
    said = f"{scope['evaluated']:,} points of {shape} evaluated"
    if scope.get("level") is None:
        return f"{said}; the search begins"
    level = scope["level"]
    below = "everywhere" if level == math.inf else f"below {level:.6g}"
    confirmed = f"; {sentence}" if (sentence := scope.get("confirmed")) else ""
    return (
        f"{said}; {below}{'' if scope['found'] else ', so far'}: {scope['n_minima']:,} minima and "
        f"{scope['pairs']:,} pairs in {scope['components']:,} components and {scope['points_below']:,} points, exact "
        f"in what was met; the next 10 % would take about {scope['next_tenth']:,} evaluations{confirmed}"
    )


def _sampling_line(told: dict[str, Any]) -> str:
    """How far scattered points and their network are."""
    if not told["found"]:
        return f"{told['points']:,} scattered points and what they lead to: {told['batches']:,} batches are done so far"
    said = f"{told['points']:,} scattered points, {told['n_minima']:,} minima of their graph"
    return said if told["network"] is None else f"{said}; {told['network']}"


def finished(found: dict[str, Any]) -> bool:
    """Whether there is nothing left to do."""
    return bool(found["report"]) and bool(found["points_done"] == found["points"])


def abandoned(found: dict[str, Any]) -> bool:
    """Whether there is something left to do, and nobody who does it."""
    return not found["at_work"] and not finished(found)


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
