"""The jobs of a folder: what was submitted (`jobs/jobs.json`), and what Slurm says of it.

For whoever shows them: `jobs(folder)` lists them, also where there is no Slurm, and `Job.gpu_hours` says what one cost.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from landscaper_hpc.digests import SEAL, is_sealed, with_seal
from landscaper_hpc.errors import InputError
from landscaper_hpc.files import private_folder, publish
from landscaper_hpc.store.folder import RunFolder
from landscaper_hpc.strict_json import parsed
from landscaper_hpc.work.stages import JOBS

# what a job ends as; one that was requeued has another state by then
_FINAL = "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT GONE"
_ACCOUNTS_LAG = 120.0
"""Seconds for which the accounts may not know yet that a job was submitted, or has ended."""


@dataclass(frozen=True)
class Job:
    """One job, one task of an array (`17_3`), or the tasks of an array that wait (`17_[4-9]`).

    `state` and `reason` are Slurm's words, in capitals and as `squeue` has them; GONE: Slurm knows no more of it.
    `elapsed_s` and `gpu_seconds` count all runs of a job that was requeued.
    """

    id: str
    stage: str
    state: str
    reason: str = ""
    nodes: str = ""
    elapsed_s: int = 0
    gpus: int = 0
    gpu_seconds: int = 0
    exit_code: int = 0

    @property
    def number(self) -> str:
        """Of the submission that it belongs to."""
        return self.id.split("_")[0]

    @property
    def active(self) -> bool:
        return self.state not in _FINAL.split()

    @property
    def held(self) -> bool:
        return self.state == "REQUEUE_HOLD" or "held" in self.reason.lower()

    @property
    def gpu_hours(self) -> float:
        return self.gpu_seconds / 3600


class SlurmSilent(Exception):
    """Neither the accounts nor the controller answer; the message is what they said instead."""


def jobs(folder: Path) -> list[Job]:
    """Every job of a study's folder, oldest first: for `status`. Reads only; one call of sacct and one of squeue.

    Where Slurm does not answer, what was last written down; [] where the folder never had jobs.
    """
    record = Record(folder)
    try:
        return record.look()
    except SlurmSilent:
        return record.last()


def name(folder: Path, stage: str) -> str:
    """The job's name in Slurm's lists: by it a job is found whose number nobody could write down."""
    folder = folder.resolve()
    word = re.sub(r"[^A-Za-z0-9_.-]", "_", folder.name)[:40]
    return f"{word}.{stage}.{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}"


class Record:
    """`jobs/jobs.json` of a folder. Only the client that holds the folder's lock writes it."""

    def __init__(self, folder: Path) -> None:
        inside = RunFolder(folder.resolve()).jobs
        self.folder, self._file = inside.path, inside.record
        self._names = {name(folder, stage): stage for stage in JOBS}
        self.only_accounts = False
        """Whether the last look had to do without the controller, who knows what runs now."""

    def submissions(self) -> list[dict[str, Any]]:
        """`id` (of the array, for its tasks), `stage`, `campaign`, `at` (seconds since 1970), `jobs` as last seen."""
        what = "is torn or altered; restore it, or remove it"
        try:
            found = parsed(self._file.read_bytes())
            submissions = list(found["submissions"])
            sealed = is_sealed(found)
            if not sealed and SEAL not in found:
                what = "was written by an earlier version, which kept no hash of it; remove it"
            if sealed:
                what = "was written by another version; go on with that one, or remove it"
                for submission in submissions:
                    [Job(**job) for job in submission["jobs"]]
                return submissions
        except (FileNotFoundError, PermissionError):  # another user who looks sees no jobs
            return []
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        raise InputError(f"{self._file}: {what} when none of the jobs that it named is left (squeue)")

    def add(self, stage: str, number: str, campaign: str) -> None:
        """Write down a submission; `campaign` tells what it works on."""
        new = {"id": number, "stage": stage, "campaign": campaign, "at": int(time.time())}
        self._write([*self.submissions(), {**new, "jobs": [asdict(Job(number, stage, "PENDING"))]}])

    def last(self) -> list[Job]:
        return [Job(**job) for submission in self.submissions() for job in submission["jobs"]]

    def look(self, save: bool = False) -> list[Job]:
        """Ask Slurm about all jobs that have not ended; `save` writes down what it says, and jobs found by name.

        Raises `SlurmSilent` where nobody answers.
        """
        submissions = self.submissions()
        open_ = [s for s in submissions if any(Job(**job).active for job in s["jobs"])]
        if not open_ and not save:
            return self.last()
        queued = _queue(self._names)
        self.only_accounts = queued is None
        known = {s["id"] for s in submissions}
        found = sorted({job.id.split("_")[0] for job in queued or []} - known, key=int)
        for number in found:  # submitted by a client that was killed before it could write it down
            stage = next(job.stage for job in queued or [] if job.id.split("_")[0] == number)
            open_.append({"id": number, "stage": stage, "at": int(time.time()), "jobs": []})
            submissions.append(open_[-1])
        if open_:
            accounts = _accounts([s["id"] for s in open_], min(s["at"] for s in open_), self._names)
            if queued is None and accounts is None:
                raise SlurmSilent("neither sacct nor squeue answers")
            for submission in open_:
                _note_absence(submission, queued)
                submission["jobs"] = [asdict(job) for job in _merged(submission, accounts or {}, queued)]
        if save and open_:
            self._write(submissions)
        return [Job(**job) for submission in submissions for job in submission["jobs"]]

    def _write(self, submissions: Iterable[Mapping[str, Any]]) -> None:
        private_folder(self.folder)
        publish(self._file, (json.dumps(with_seal({"submissions": list(submissions)}), indent=1) + "\n").encode())


def over(numbers: Iterable[str], owner: int) -> set[str]:
    """Which of the jobs that a user submitted by hand neither wait nor run any more; none where Slurm does not tell."""
    wanted = set(numbers)
    text = ask_slurm("squeue", f"--user={owner}", "--noheader", "--array", "--format=%i") if wanted else None
    return set() if text is None else wanted - set(text.split())


def release(job: Job) -> bool:
    """Let a held job go; whether Slurm allows it."""
    return ask_slurm("scontrol", "release", job.id) is not None


def _merged(submission: Mapping[str, Any], accounts: Mapping[str, Job], queued: list[Job] | None) -> list[Job]:
    """What is known of one submission: elapsed times from the accounts, states and reasons from the queue."""
    number = submission["id"]
    found = {key: job for key, job in accounts.items() if key.split("_")[0] == number}
    waiting = {job.id: job for job in queued or [] if job.id.split("_")[0] == number}
    if not found and not waiting:
        if time.time() - submission["at"] < _ACCOUNTS_LAG:
            return [Job(number, submission["stage"], "PENDING")]
        # no accounts are kept, or they were cleared: all that is certain is that it is over
        last = [Job(**job) for job in submission["jobs"]] or [Job(number, submission["stage"], "PENDING")]
        return [replace(job, state="GONE", reason="") if job.active else job for job in last]
    merged = {key: job for key, job in found.items() if not (key not in waiting and "[" in key and waiting)}
    for key, job in waiting.items():
        before = merged.get(key, job)
        merged[key] = replace(before, state=job.state, reason=job.reason, nodes=job.nodes or before.nodes)
    if time.time() - submission.get("absent_since", float("inf")) > _ACCOUNTS_LAG:  # they never heard of its end
        merged = {key: replace(job, state="GONE") if job.active else job for key, job in merged.items()}
    return list(merged.values())


def _note_absence(submission: dict[str, Any], queued: list[Job] | None) -> None:
    """Write down since when the queue knows a job no more."""
    if queued is not None:
        if any(job.id.split("_")[0] == submission["id"] for job in queued):
            submission.pop("absent_since", None)
        else:
            submission.setdefault("absent_since", int(time.time()))


def _queue(names: Mapping[str, str]) -> list[Job] | None:
    """Jobs that wait or run, by their names; None where the controller does not answer."""
    text = ask_slurm("squeue", "--me", "--noheader", f"--name={','.join(names)}", "--format=%i|%j|%T|%N|%r")
    if text is None:
        return None
    found = []
    for line in text.splitlines():
        number, job_name, state, nodes, reason = line.split("|", 4)
        if job_name in names:
            found.append(Job(number, names[job_name], state, "" if reason == "None" else reason, nodes))
    return found


def _accounts(numbers: Iterable[str], since: float, names: Mapping[str, str]) -> dict[str, Job] | None:
    """Jobs by id from the accounts, with the sums of all their runs; None where there are no accounts."""
    fields = "JobID,JobName,State,ExitCode,ElapsedRaw,AllocTRES,NodeList,Reason"
    # numbers are used again after some time: nothing older than our first job
    begin = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - 3600))
    text = ask_slurm(
        *("sacct", "--allocations", "--duplicates", "--noheader", "--parsable2", f"--starttime={begin}"),
        *(f"--jobs={','.join(numbers)}", f"--format={fields}"),
    )
    if text is None:
        return None
    found: dict[str, Job] = {}
    for line in text.splitlines():
        number, job_name, state, exit_code, elapsed, resources, nodes, reason = line.split("|", 7)
        if job_name not in names:
            continue
        gpus = sum(int(n) for n in re.findall(r"(?:^|,)gres/gpu=(\d+)", resources))
        before = found.get(number)
        found[number] = Job(
            number,
            names[job_name],
            state.split()[0],
            # CANCELLED by 1000; what held a job up once is kept there for ever
            state.partition(" ")[2].replace("by", "by user")
            or (reason if state == "PENDING" and reason != "None" else ""),
            "" if nodes == "None assigned" else nodes,
            int(elapsed or 0) + (before.elapsed_s if before else 0),
            gpus,
            gpus * int(elapsed or 0) + (before.gpu_seconds if before else 0),
            int(exit_code.split(":")[0] or 0),
        )
    return found


def ask_slurm(*command: str) -> str | None:
    """What a command of Slurm's prints; None where it is not there, fails, or does not answer within a minute."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None
