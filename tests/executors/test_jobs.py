"""What is made of Slurm's lists: sums over requeued runs, arrays, jobs that nobody wrote down, silence."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from studies import wells

from landscaper_hpc import InputError, Site, Study
from landscaper_hpc.digests import with_seal
from landscaper_hpc.errors import TaskFailed
from landscaper_hpc.executors import SerialMapper, jobs
from landscaper_hpc.executors.jobs import Job, Record, SlurmSilent
from landscaper_hpc.executors.slurm import launcher
from landscaper_hpc.executors.slurm_look import Look
from landscaper_hpc.progress import Bars, silent
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.executor import Asked
from landscaper_hpc.work.preparation import prepare_all
from landscaper_hpc.work.stages import JOBS
from landscaper_hpc.work.tasks import evaluate_shard


class Slurm:
    """Answers as sacct and squeue do; None: does not answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.accounts: str | None = ""
        self.queue: str | None = ""
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, *command: str) -> str | None:
        self.asked.append(command)
        text = {"sacct": self.accounts, "squeue": self.queue, "scontrol": ""}[command[0]]
        return None if text is None else text.replace("NAME", jobs.name(self.folder, "evaluate"))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    made = Slurm(tmp_path)
    monkeypatch.setattr(jobs, "ask_slurm", made)
    return made


def test_elapsed_time_and_gpus_of_all_runs_are_summed(slurm: Slurm, tmp_path: Path) -> None:
    Record(tmp_path).add("evaluate", "17", "key")
    slurm.accounts = (
        "17_0|NAME|NODE_FAIL|1:0|100|billing=4,cpu=8,gres/gpu:a100=4,gres/gpu=4,node=1|n1|None\n"
        "17_0|NAME|COMPLETED|0:0|50|billing=4,cpu=8,gres/gpu=4,node=1|n2|Dependency\n"
        "17_1|NAME|CANCELLED by 1000|0:0|3600|gres/gpu=4|n3|None\n"
        "17_[2-3]|NAME|PENDING|0:0|0||None assigned|None\n"
        "17_9|somebody.elses|RUNNING|0:0|900|gres/gpu=4|n9|None\n"
    )
    slurm.queue = "17_[2-3]|NAME|PENDING||Resources\n"
    found = {job.id: job for job in jobs.jobs(tmp_path)}
    assert found == {
        "17_0": Job("17_0", "evaluate", "COMPLETED", "", "n2", 150, 4, 600),
        "17_1": Job("17_1", "evaluate", "CANCELLED", "by user 1000", "n3", 3600, 4, 4 * 3600),
        "17_[2-3]": Job("17_[2-3]", "evaluate", "PENDING", "Resources"),
    }
    assert found["17_1"].gpu_hours == 4
    assert [job.active for job in found.values()] == [False, False, True]
    assert [command[0] for command in slurm.asked] == ["squeue", "sacct"]  # one call each for all jobs


def test_a_job_that_fails_and_is_requeued_is_still_active(slurm: Slurm, tmp_path: Path) -> None:
    Record(tmp_path).add("evaluate", "17", "key")
    slurm.accounts = "17|NAME|NODE_FAIL|1:0|100||n1|None\n"
    slurm.queue = "17|NAME|PENDING||BeginTime\n"
    (job,) = jobs.jobs(tmp_path)
    assert (job.active, job.state, job.reason, job.elapsed_s) == (True, "PENDING", "BeginTime", 100)


@pytest.mark.parametrize("reason", ["launch failed requeued held", "JobHeldUser", "JobHeldAdmin"])
def test_held_jobs_are_recognised(slurm: Slurm, tmp_path: Path, reason: str) -> None:
    slurm.queue = f"17|NAME|PENDING||{reason}\n"
    (job,) = Record(tmp_path).look(save=True)
    assert job.held
    assert jobs.release(job)
    assert slurm.asked[-1] == ("scontrol", "release", "17")


def test_a_job_that_was_not_written_down_is_found_by_its_name(slurm: Slurm, tmp_path: Path) -> None:
    slurm.queue = "18_[0-3]|NAME|PENDING||Priority\n18_4|NAME|RUNNING|n1|None\n"
    assert [job.id for job in Record(tmp_path).look(save=True)] == ["18_[0-3]", "18_4"]
    assert [entry["id"] for entry in Record(tmp_path).submissions()] == ["18"]


def test_what_has_ended_is_not_asked_again(slurm: Slurm, tmp_path: Path) -> None:
    Record(tmp_path).add("evaluate", "17", "key")
    slurm.accounts = "17|NAME|COMPLETED|0:0|10||n1|None\n"
    (job,) = Record(tmp_path).look(save=True)
    slurm.asked.clear()
    slurm.accounts = slurm.queue = None
    assert jobs.jobs(tmp_path) == [job]
    assert slurm.asked == []


def test_silence_and_no_accounts(slurm: Slurm, tmp_path: Path) -> None:
    assert jobs.jobs(tmp_path) == []
    Record(tmp_path).add("evaluate", "17", "key")
    slurm.accounts = slurm.queue = None
    with pytest.raises(SlurmSilent):
        Record(tmp_path).look()
    assert [job.state for job in jobs.jobs(tmp_path)] == ["PENDING"]  # as last seen
    slurm.queue = ""  # the queue answers and knows nothing, accounts are not kept
    assert [job.state for job in jobs.jobs(tmp_path)] == ["PENDING"]  # it was submitted a moment ago
    file = tmp_path / "jobs/jobs.json"
    entries = json.loads(file.read_text())
    entries["submissions"][0]["at"] = time.time() - 1000
    file.write_text(json.dumps(with_seal(entries)))
    (job,) = jobs.jobs(tmp_path)
    assert (job.state, job.active) == ("GONE", False)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda found: {"submissions": found["submissions"]},
         "earlier version, which kept no hash of it; remove it when"),
        (lambda found: with_seal({"submissions": [{**found["submissions"][0], "jobs": [{"id": "17", "array": 3}]}]}),
         "another version; go on with that one, or remove it when"),
        (lambda found: {**found, "submissions": []}, "torn or altered; restore it, or remove it when"),
        (lambda found: with_seal({"jobs": []}), "torn or altered; restore it, or remove it when"),
    ],
)  # fmt: skip
def test_a_record_of_another_version_is_called_so(
    slurm: Slurm, tmp_path: Path, make: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    record = Record(tmp_path)
    record.add("evaluate", "17", "key")
    file = tmp_path / "jobs/jobs.json"
    file.write_text(json.dumps(make(json.loads(file.read_text()))))
    with pytest.raises(
        InputError, match=rf"jobs\.json: (was written by an |was written by |is ){said} none of the jobs .* \(squeue\)"
    ):
        record.submissions()


def test_a_job_whose_python_is_another_is_told_by_what_it_said(slurm: Slurm, tmp_path: Path) -> None:
    """And not by what srun makes of it."""
    campaign = Campaign.of(Study.load(wells(tmp_path / "study")), Site(), tmp_path / "run")
    look = Look(campaign, Site())
    log = tmp_path / "run/jobs/17_0_log.out"
    log.parent.mkdir(parents=True)
    log.write_text("python: No module named 'submitit'\nsrun: error: n1: task 0: Exited with exit code 1\n")
    end = look.end_of_log(Job("17", "prepare", "FAILED", exit_code=1))
    failed = TaskFailed(f"job 17 (prepare) ended as FAILED with exit code 1; {end}")
    assert failed.sentence.endswith(f"; the end of {log}: python: No module named 'submitit'")
    log.write_text("")
    assert look.end_of_log(Job("17", "prepare", "FAILED")) == "it wrote no log"


def test_slurm_is_asked_ever_less_often_until_a_stage_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"max_array": 100}  # or else scontrol is asked
    site = Site.model_validate({"executor": "slurm", "shard_points": 5, "slurm": {"limits": limits}})
    campaign = Campaign.of(Study.load(wells(tmp_path / "study", count=9)), site, tmp_path / "run")
    with Bars() as bars:
        prepare_all(campaign.landscapes, SerialMapper(), bars)
    tasks = list(campaign.plans[0].pending())
    names = [jobs.name(campaign.folder, stage) for stage in JOBS]
    queue = "".join(f"{i}|{name}|RUNNING|n1|None\n" for i, name in enumerate(names, 17))
    every, now, asked = 20, 0.0, []
    end = every * len(tasks)
    assert end > 300

    def answer(*command: str) -> str:
        if command[0] != "squeue":
            return ""
        asked.append(now)
        if now >= end:
            raise KeyboardInterrupt
        return queue

    def sleep(seconds: float) -> None:
        nonlocal now
        before, now = now, now + seconds
        for task in tasks[int(before // every) : int(now // every)]:
            evaluate_shard(task, silent)

    monkeypatch.setattr(jobs, "ask_slurm", answer)
    monkeypatch.setattr("landscaper_hpc.executors.slurm.time", SimpleNamespace(sleep=sleep, monotonic=lambda: now))
    with pytest.raises(KeyboardInterrupt):
        launcher.launch(campaign, site, Asked())
    *waits, last = (after - before for before, after in itertools.pairwise(asked))
    assert waits == pytest.approx([min(2 * 1.5**i, 60) for i in range(len(waits))])
    assert max(waits) == 60
    assert asked[-1] - end < 2  # the last shard: asked at once
    assert last < 60


def test_a_client_says_that_it_waits_for_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once for each time that it falls silent, though its accounts go on to tell of jobs that run."""
    site = Site.model_validate({"executor": "slurm", "slurm": {"limits": {"max_array": 100}}})
    campaign = Campaign.of(Study.load(wells(tmp_path / "study", count=5)), site, tmp_path / "run")
    (tmp_path / "run").mkdir()
    names = {str(number): jobs.name(campaign.folder, stage) for number, stage in enumerate(JOBS, 17)}
    look = Look(campaign, site)
    for (number, _), stage in zip(names.items(), JOBS, strict=True):
        look.add(stage, number, 1)
    queue = "".join(f"{number}|{name}|RUNNING|n1|None\n" for number, name in names.items())
    accounts = "".join(f"{number}|{name}|RUNNING|0:0|9||n1|None\n" for number, name in names.items())
    answers = [queue, None, None, queue, None]

    def answer(*command: str) -> str | None:
        if command[0] == "sacct":
            return accounts
        if not answers:
            raise KeyboardInterrupt
        return answers.pop(0)

    now = itertools.count(0, 30)
    monkeypatch.setattr(jobs, "ask_slurm", answer)
    monkeypatch.setattr(
        "landscaper_hpc.executors.slurm.time", SimpleNamespace(sleep=lambda seconds: None, monotonic=lambda: next(now))
    )
    with pytest.raises(KeyboardInterrupt):
        launcher.launch(campaign, site, Asked())
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("jobs: ")]
    assert ["; Slurm does not answer, and is waited for" in line for line in said] == [False, True, False, True]


def test_accounts_that_never_hear_of_an_end(slurm: Slurm, tmp_path: Path) -> None:
    Record(tmp_path).add("evaluate", "17", "key")
    slurm.accounts = "17|NAME|RUNNING|0:0|10||n1|None\n"
    assert [job.state for job in Record(tmp_path).look(save=True)] == ["RUNNING"]  # they may lag behind the queue
    file = tmp_path / "jobs/jobs.json"
    entries = json.loads(file.read_text())
    entries["submissions"][0]["absent_since"] -= 1000
    file.write_text(json.dumps(with_seal(entries)))
    assert [job.state for job in Record(tmp_path).look(save=True)] == ["GONE"]
