"""A campaign as jobs of Slurm: directions, an array that evaluates, merge trees, report; submitted with submitit.

The jobs depend on each other and on the folder, never on this client: it submits what is missing, watches, and may end
or die at any moment. A job whose time is up requeues itself, what others leave behind the next one takes up, and the
job of the merge trees evaluates what is still missing when it begins.
"""

from __future__ import annotations

import contextlib
import io
import logging
import pickle
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.errors import InputError, TaskFailed
from landscaper_hpc.executors import scripts
from landscaper_hpc.executors.jobs import STAGES, Job, Record, SlurmSilent, release
from landscaper_hpc.files import publish
from landscaper_hpc.progress import Bars
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.lock import log_to, only_one
from landscaper_hpc.study.site import Site
from landscaper_hpc.work import stages
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.landscape import Landscape

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_OUR_NAME = "landscaper-hpc: "
_SHORTEST_WAIT, _LONGEST_WAIT = 2.0, 60.0
_PASSING = ("contact", "timed out", "temporarily", "try again", "communication", "connection")


def run_by_jobs(campaign: Campaign, site: Site, retry_failed: bool = False, detach: bool = False) -> bool:
    """`orchestrate.run_campaign` by jobs of Slurm; with `detach` it ends when they are submitted and returns False.

    Called again, it goes on with what it finds: jobs that wait or run, or what is still missing.
    """
    scripts.jobs_folder(campaign)
    new = not campaign.folder.exists()
    with only_one(campaign.folder), log_to(campaign.folder / "logs"), Bars() as bars:
        if new and site.stripe is not None and shutil.which("lfs"):
            stripe = ["lfs", "setstripe", "-c", str(site.stripe.count), "-S", site.stripe.size, str(campaign.folder)]
            if subprocess.run(stripe, capture_output=True, check=False, timeout=60).returncode:
                log.warning("%s: lfs setstripe failed; going on with the folder's own layout", campaign.folder)
        stages.refuse_impossible(campaign)
        if retry_failed:
            stages.clear_failures(campaign)
        client = _Client(campaign, site, bars)
        try:
            return client.run(detach)
        except KeyboardInterrupt:
            client.tell_how_to_go_on()
            raise


@dataclass(frozen=True)
class _Progress:
    """How far a campaign is, from its files alone; whatever grew since the last look is progress."""

    landscapes: int
    prepared: int
    trees: int
    lost: int
    """Landscapes that something was quarantined of."""
    shards: int
    shards_done: int
    quarantined: int
    points: int
    points_done: int

    @property
    def advance(self) -> tuple[int, int, int]:
        return self.prepared, self.shards_done, self.trees


class _Client:
    def __init__(self, campaign: Campaign, site: Site, bars: Bars) -> None:
        self._campaign = campaign
        self._site = site
        self._bars = bars
        self._record = Record(campaign.folder)
        self._jobs: list[Job] = []
        self._stores: dict[Landscape, LandscapeStore] = {}
        self._whole: set[Landscape] = set()
        self._attempts: dict[str, tuple[Any, int]] = {}
        self._shown: Counter[tuple[str, str, str]] = Counter()
        self._watched: set[str] = set()
        self._key = _key(campaign, site)

    def run(self, detach: bool) -> bool:
        wait = _SHORTEST_WAIT
        before: object = None
        self._look()
        self._refuse_other_jobs()
        while True:
            progress = self._progress()
            missing = self._missing(progress)
            if not missing and not any(job.active for job in self._jobs):
                return True
            self._show(progress)
            self._free_held()
            to_do = [stage for stage in missing if not any(j.active and j.stage == stage for j in self._jobs)]
            self._watched |= {job.id.split("_")[0] for job in self._jobs if job.active}
            if to_do:
                # jobs that wait for directions bring nothing, and Slurm takes a while to see it
                if to_do[0] == "prepare" or not any(job.active for job in self._jobs):
                    self._refuse_in_vain(to_do[0], progress)
                self._submit([s for s in to_do if self._worth(s, progress)], progress)
            if detach:
                self._show(self._progress())
                self.tell_how_to_go_on()
                return False
            # shards that come in are no reason to ask Slurm more often; the end of a stage is
            state = [(job.id, job.state) for job in self._jobs], missing
            wait = _SHORTEST_WAIT if state != before else min(1.5 * wait, _LONGEST_WAIT)
            before = state
            self._watch_files(wait, missing)
            self._look()

    def _watch_files(self, seconds: float, missing: list[str]) -> None:
        """Show how far the files are, for a twentieth of the time at most; end early if they tell of a stage's end."""
        end, took = time.monotonic() + seconds, 0.0
        finished = self._finished()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, max(_SHORTEST_WAIT, 20 * took)))
            begin = time.monotonic()
            progress = self._progress()
            self._show(progress)
            if self._missing(progress) != missing or self._finished() != finished:
                return
            took = time.monotonic() - begin

    def tell_how_to_go_on(self) -> None:
        numbers = sorted({job.id.split("_")[0] for job in self._jobs if job.active}, key=int)
        if numbers:
            self._bars.tell(
                f"the jobs go on by themselves. look: landscaper-hpc status {self._campaign.folder}; "
                f"go on: the same command again; cancel: scancel {' '.join(numbers)}"
            )

    # ---- looking ----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        try:
            self._jobs = self._record.look(save=True)
        except SlurmSilent as silent:
            log.warning("%s; waiting for Slurm", silent)
            self._jobs = self._record.last()
            if not self._jobs:
                raise InputError(
                    "executor slurm: neither sacct nor squeue answers; run this on a login node of a Slurm cluster"
                ) from None

    def _progress(self) -> _Progress:
        """From one listing of each landscape that is not whole."""
        found = dict.fromkeys(_Progress.__dataclass_fields__, 0)
        for plan in self._campaign.plans:
            aside = plan.landscapes[0].failures.quarantined()
            for item in plan.landscapes:
                found["landscapes"] += 1
                if not item.prepared():
                    shards = scripts.planned_shards(item, self._site)
                    found["shards"] += shards
                    found["points"] += item.study.make_grid().size
                    if item.key in aside:  # of a sweep: it has no directions, and never will
                        found["lost"] += 1
                        found["quarantined"] += shards
                    continue
                if item not in self._stores:
                    self._stores[item] = item.open()
                store = self._stores[item]
                # the studies of a sweep are finished one by one, where they are evaluated
                if item not in self._whole and (plan.finished() if self._campaign.apart else store.has_tree()):
                    self._whole.add(item)
                done = store.n_shards() if item in self._whole else store.n_done()
                found["prepared"] += 1
                found["trees"] += item in self._whole
                found["shards"] += store.n_shards()
                found["shards_done"] += done
                found["points"] += store.grid.size
                found["points_done"] += store.grid.size * done // store.n_shards()
                mine = [key for key in aside if key.startswith(f"{item.name}.")]
                found["quarantined"] += len(mine)
                found["lost"] += bool(mine)
        return _Progress(**found)

    def _missing(self, progress: _Progress) -> list[str]:
        """The stages that are still to be done, whether their jobs wait, run, or have to be submitted."""
        missing = []
        lost = progress.lost if self._campaign.apart else 0
        if progress.prepared + lost < progress.landscapes:
            missing.append("prepare")
        if progress.shards_done + progress.quarantined < progress.shards:
            missing.append("evaluate")
        if progress.trees + lost < progress.landscapes:
            missing.append("topology")
        if missing or not self._reported():
            missing.append("report")
        return missing

    def _reported(self) -> bool:
        """Whether the last job of all wrote the report, and it is there."""
        last = self._jobs[-1] if self._jobs else None
        reported = last is not None and (last.stage, last.state) == ("report", "COMPLETED")
        return reported and self._finished()

    def _finished(self) -> bool:
        return all(plan.finished() for plan in self._campaign.plans)

    def _show(self, progress: _Progress) -> None:
        if progress.points:
            self._bars.update("points", progress.points_done, progress.points)
        counted = Counter((job.stage, job.state, job.reason) for job in self._jobs if job.active)
        if counted != self._shown:
            self._shown = counted
            words = [
                f"{stage} {state.lower()}{f' ({reason})' if reason else ''}" + (f" × {n}" if n > 1 else "")
                for (stage, state, reason), n in sorted(counted.items(), key=lambda c: STAGES.index(c[0][0]))
            ]
            self._bars.tell("jobs: " + (", ".join(words) or "none"))

    # ---- submitting -----------------------------------------------------------------------------------------------

    def _submit(self, stages: list[str], progress: _Progress) -> None:
        """Submit a job for each of these stages, each after what it needs of those that are at work."""
        for stage in stages:
            if stage == "evaluate":
                left = progress.shards - progress.shards_done - progress.quarantined
                others = sum(_tasks(job) for job in self._jobs if job.active) + 3
                sizes = scripts.arrays(self._site, left, others)
            else:
                sizes = [1]
            if not all(self._submit_one(stage, size) for size in sizes):
                return
            seen, attempts = self._attempts.get(stage, (None, 0))
            self._attempts[stage] = (progress.advance, attempts + 1 if seen == progress.advance else 1)

    def _submit_one(self, stage: str, size: int) -> bool:
        """One sbatch; False where Slurm cannot be reached for the moment."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        from landscaper_hpc.executors.slurm_job import StageJob

        executor = self._executor(stage, size)
        job = StageJob(self._campaign_file(), stage, scripts.seconds(self._site))
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                submitted = executor.submit_array([job] * size)
        except (FailedJobError, FailedSubmissionError, subprocess.SubprocessError) as error:
            message = " ".join(str(error).split())
            if any(word in message.lower() for word in _PASSING):
                log.warning("sbatch: %s; trying again", message)
                return False
            if any(job.active for job in self._jobs):
                log.warning("sbatch refused the %s job (%s); going on with those that are at work", stage, message)
                return False
            raise InputError(
                f"sbatch refused the {stage} job: {message}; correct the site's slurm: section (account, partition, "
                "qos, constraint, walltime, limits.max_jobs)"
            ) from None
        number = submitted[0].job_id.split("_")[0]
        self._record.add(stage, number, self._key)
        self._jobs.append(Job(number if size == 1 else f"{number}_[0-{size - 1}]", stage, "PENDING"))
        log.info("submitted %s as job %s, %d tasks", stage, number, size)
        return True

    def _executor(self, stage: str, size: int) -> Any:
        try:
            import submitit
        except ModuleNotFoundError:
            raise InputError(
                "executor slurm needs submitit, which is not installed; pip install 'landscaper-hpc[slurm]'"
            ) from None
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise InputError("executor slurm: there is no sbatch here; run this on a login node of a Slurm cluster")
        folder = scripts.jobs_folder(self._campaign)
        executor = submitit.SlurmExecutor(
            folder, max_num_timeout=10**6, python=scripts.python(self._campaign, self._site)
        )
        wanted = scripts.parameters(self._campaign, self._site, stage, self._dependency(stage))
        executor.update_parameters(**wanted, array_parallelism=size)
        return executor

    def _dependency(self, stage: str) -> str | None:
        """Directions must be there; evaluation must be over, however it went; a report needs all merge trees."""
        at_work: dict[str, set[str]] = {}
        for job in self._jobs:
            if job.active:
                at_work.setdefault(job.stage, set()).add(job.id.split("_")[0])
        wanted = {
            "prepare": [],
            "evaluate": [("afterok", "prepare")],
            "topology": [("afterok", "prepare"), ("afterany", "evaluate")],
            "report": [("afterok", "topology")],
        }[stage]
        parts = [f"{how}:{':'.join(sorted(at_work[other]))}" for how, other in wanted if other in at_work]
        return ",".join(parts) or None

    def _campaign_file(self) -> Path:
        folders = [str(plan.folder) for plan in self._campaign.plans]  # of a sweep: what was not finished
        file = scripts.jobs_folder(self._campaign) / f"campaign.{canonical_sha256([self._key, folders])[:16]}.pkl"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            publish(file, pickle.dumps(self._campaign))
        return file

    # ---- when things go wrong -----------------------------------------------------------------------------------

    def _refuse_other_jobs(self) -> None:
        others = {s["id"] for s in self._record.submissions() if s.get("campaign", self._key) != self._key}
        at_work = sorted({job.id.split("_")[0] for job in self._jobs if job.active} & others, key=int)
        if at_work:
            raise InputError(
                f"{self._campaign.folder}: jobs of another study, or another shard size or device, are at work there; "
                f"wait for them, cancel them (scancel {' '.join(at_work)}), or choose another folder with --out"
            )

    def _free_held(self) -> None:
        """Slurm holds a job whose start failed; one that a person holds stays."""
        for job in self._jobs:
            if job.active and job.held and "launch" in job.reason.lower():
                log.warning(
                    "job %s is held (%s): %s", job.id, job.reason, "released" if release(job) else "not released"
                )

    def _worth(self, stage: str, progress: _Progress) -> bool:
        """Not for ever what brings nothing."""
        seen, attempts = self._attempts.get(stage, (None, 0))
        return seen != progress.advance or attempts < _ATTEMPTS

    def _refuse_in_vain(self, stage: str, progress: _Progress) -> None:
        """Nothing is at work, and this stage is to be done: say why where another attempt would end as the last."""
        if progress.lost and stage in ("topology", "report"):
            if self._campaign.apart:
                self._campaign.conclude()  # says what was lost, when all else is in the table
            stages.refuse_quarantined(self._campaign.landscapes)
        watched = [job for job in self._jobs if job.stage == stage and job.id.split("_")[0] in self._watched]
        cancelled = [job for job in watched if job.state == "CANCELLED" and job.reason]
        if cancelled:
            job = cancelled[-1]
            raise InputError(
                f"job {job.id} ({job.stage}) was cancelled {job.reason}; everything finished so far is kept, the same "
                "command goes on from there"
            )
        seen, _ = self._attempts.get(stage, (None, 0))
        if seen != progress.advance:
            return
        tried = [job for job in watched if job.state not in ("COMPLETED", "CANCELLED")]
        for job in tried:
            if (told := self._told(job)) is not None:  # it knows why, and would end so again
                where = f"job {job.id} ({job.stage})"
                raise InputError(f"{where}: {told}") if job.exit_code == 2 else TaskFailed(f"{where}: {told}")
        if self._worth(stage, progress):
            return
        if not tried:
            raise TaskFailed(
                f"{_ATTEMPTS} {stage} jobs ended well and left no result; their logs: {self._record.folder}"
            )
        job = tried[-1]
        log_file = next(iter(self._logs(job)), None)
        words = (
            "it wrote no log" if log_file is None else f"the end of {log_file}:\n" + "\n".join(_tail(log_file)[-20:])
        )
        raise TaskFailed(
            f"job {job.id} ({job.stage}) ended as {job.state} with exit code {job.exit_code}, as did others; {words}"
        )

    def _logs(self, job: Job) -> list[Path]:
        return sorted(self._record.folder.glob(f"{job.id}_*_log.out"))

    def _told(self, job: Job) -> str | None:
        """What `landscaper-hpc` said in a job about how it ended; None where it did not come to say anything."""
        for file in self._logs(job):
            lines = [line for line in _tail(file) if not line.startswith(("srun: ", "slurmstepd"))]
            ours = [number for number, line in enumerate(lines) if line.startswith(_OUR_NAME)]
            if ours and job.exit_code in (1, 2):
                return "\n".join(lines[ours[-1] :]).removeprefix(_OUR_NAME).strip()
        return None


def _tail(file: Path) -> list[str]:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 20_000))
        return stream.read().decode(errors="replace").splitlines()


def _tasks(job: Job) -> int:
    """How many jobs a line of the queue stands for: `17_[0-3,7%2]` is five."""
    _, bracket, ranges = job.id.partition("[")
    if not bracket:
        return 1
    bounds = [part.split("-") for part in ranges.rstrip("]").split("%")[0].split(",")]
    return sum(int(b[-1]) - int(b[0]) + 1 for b in bounds)


def _key(campaign: Campaign, site: Site) -> str:
    """What jobs work on, whatever their number and resources. What a sweep works on is written down in its folder."""
    studies = [] if campaign.apart else [plan.study.model_dump(mode="json") for plan in campaign.plans]
    return canonical_sha256([str(campaign.folder), studies, site.device, site.shard_points])
