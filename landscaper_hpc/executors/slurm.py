"""A campaign as jobs of Slurm, submitted with submitit: the client looks, has it decided what to do, and does it.

The jobs depend on each other and on the folder, never on this client: it may end or die at any moment.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from landscaper_hpc.errors import InputError, TaskFailed
from landscaper_hpc.executors import scripts
from landscaper_hpc.executors.jobs import release
from landscaper_hpc.executors.slurm_attempts import Left, leave, left
from landscaper_hpc.executors.slurm_decision import (
    Action,
    Attempt,
    Done,
    Refuse,
    RefuseLost,
    Release,
    Seen,
    Submit,
    decide,
    tried,
)
from landscaper_hpc.executors.slurm_job import StageJob
from landscaper_hpc.executors.slurm_look import Look
from landscaper_hpc.progress import Bars
from landscaper_hpc.store.lock import log_to, only_one
from landscaper_hpc.study.site import Site
from landscaper_hpc.work import stages
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.executor import Asked
from landscaper_hpc.work.handover import hand_over
from landscaper_hpc.work.preparation import refuse_impossible
from landscaper_hpc.work.survey import Counts

log = logging.getLogger(__name__)

Made = TypeVar("Made")

_SHORTEST_WAIT, _LONGEST_WAIT = 2.0, 60.0
_PASSING = ("contact", "timed out", "temporarily", "try again", "communication", "connection")


class SlurmLauncher:
    """Jobs do the stages; called again, it goes on with what it finds: jobs that wait or run, or what is missing."""

    def launch(self, campaign: Campaign, site: Site, asked: Asked) -> bool:
        """With `detach` it ends when the jobs are submitted and returns False."""
        if asked.part is not None:
            raise InputError("--stage needs --executor mpi (one rank is enough)")
        scripts.jobs_folder(campaign)
        new = not campaign.folder.exists()
        with only_one(campaign.folder), log_to(campaign.inside), Bars() as bars:
            if new and site.stripe is not None and shutil.which("lfs"):
                size, count = site.stripe.size, str(site.stripe.count)
                stripe = ["lfs", "setstripe", "-c", count, "-S", size, str(campaign.folder)]
                if subprocess.run(stripe, capture_output=True, check=False, timeout=60).returncode:
                    log.warning("%s: lfs setstripe failed; going on with the folder's own layout", campaign.folder)
            refuse_impossible(campaign)
            if asked.retry_failed:
                stages.clear_failures(campaign)
            attempts = campaign.inside.jobs.attempts
            if asked.retry_failed or not asked.detach:
                attempts.unlink(missing_ok=True)
            client = _Client(campaign, site, bars, left(attempts))
            try:
                return client.run(asked.detach)
            except KeyboardInterrupt:
                client.tell_how_to_go_on()
                raise

    def broadcast(self, make: Callable[[Callable[[], bool] | None], Made]) -> Made:
        return make(None)


launcher = SlurmLauncher()


class _Client:
    def __init__(self, campaign: Campaign, site: Site, bars: Bars, before: Left) -> None:
        self._campaign = campaign
        self._site = site
        self._bars = bars
        self._look = Look(campaign, site)
        self._room = scripts.room(site)
        self._before = before
        self._attempts: dict[str, Attempt] = dict(before.attempts)
        self._shown: tuple[Counter[tuple[str, str, str]], bool] = Counter(), False

    def run(self, detach: bool) -> bool:
        wait = _SHORTEST_WAIT
        before: object = None
        look = self._look
        look.ask()
        look.refuse_other_jobs()
        while True:
            counts = look.counts()
            missing = look.missing(counts)
            seen = Seen(
                counts,
                missing,
                tuple(look.jobs),
                self._room,
                dict(self._attempts),
                frozenset(look.watched) | self._before.watched(look.jobs),
                str(look.folder),
            )
            actions = decide(seen, look.told)
            if actions == [Done()]:
                return True
            self._show(counts)
            self._do(actions, seen)
            if detach:
                leave(self._campaign.inside.jobs.attempts, self._attempts, {*look.watched, *self._before.numbers})
                self._show(look.counts())
                self.tell_how_to_go_on()
                return False
            # shards that come in are no reason to ask Slurm more often; the end of a stage is
            state = [(job.id, job.state) for job in look.jobs], missing
            wait = _SHORTEST_WAIT if state != before else min(1.5 * wait, _LONGEST_WAIT)
            before = state
            self._watch_files(wait, missing)
            look.ask()

    def _watch_files(self, seconds: float, missing: tuple[str, ...]) -> None:
        """Show how far the files are, for a twentieth of the time at most; end early if they tell of a stage's end."""
        end, took = time.monotonic() + seconds, 0.0
        finished = self._look.finished()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, max(_SHORTEST_WAIT, 20 * took)))
            begin = time.monotonic()
            counts = self._look.counts()
            self._show(counts)
            if self._look.missing(counts) != missing or self._look.finished() != finished:
                return
            took = time.monotonic() - begin

    def _show(self, counts: Counts) -> None:
        if counts.points:
            self._bars.update("points", counts.points_done, counts.points)
        counted = Counter((job.stage, job.state, job.reason) for job in self._look.jobs if job.active)
        if (counted, self._look.silent) != self._shown:
            self._shown = counted, self._look.silent
            words = [
                f"{part} {state.lower()}{f' ({reason})' if reason else ''}" + (f" × {n}" if n > 1 else "")
                for (part, state, reason), n in sorted(counted.items(), key=lambda c: stages.JOBS.index(c[0][0]))
            ]
            old = "; Slurm does not answer, and is waited for" if self._look.silent else ""
            self._bars.tell(f"jobs: {', '.join(words) or 'none'}{old}")

    def tell_how_to_go_on(self) -> None:
        if numbers := self._look.numbers():
            self._bars.tell(
                f"the jobs go on by themselves. look: landscaper-hpc status {self._campaign.folder}; "
                f"go on: the same command again; cancel: scancel {' '.join(numbers)}"
            )

    # ---- doing what was decided -------------------------------------------------------------------------------------

    def _do(self, actions: list[Action], seen: Seen) -> None:
        for action in actions:
            if isinstance(action, Release):
                job = action.job
                words = "released" if release(job) else "not released"
                log.warning("job %s is held (%s): %s", job.id, job.reason, words)
            elif isinstance(action, RefuseLost):
                stages.refuse_lost(self._campaign)
            elif isinstance(action, Refuse):
                end = "" if action.log_of is None else f"; {self._look.end_of_log(action.log_of)}"
                raise (InputError if action.bad_input else TaskFailed)(action.words + end)
            elif isinstance(action, Submit):
                if not all(self._submit(action, size) for size in action.sizes):
                    return  # what comes after it would not wait for it
                self._attempts[action.part] = tried(seen, action.part)

    def _submit(self, action: Submit, size: int) -> bool:
        """One sbatch; False where Slurm cannot be reached for the moment."""
        part = action.part
        file, sha256 = hand_over(self._campaign, self._site, scripts.jobs_folder(self._campaign))
        executor = self._executor(action, size)
        job = StageJob(str(file), sha256, part, scripts.seconds(self._site, part))
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                submitted = executor.submit_array([job] * size)
        except (FailedJobError, FailedSubmissionError, subprocess.SubprocessError) as error:
            message = " ".join(str(error).split())
            if any(word in message.lower() for word in _PASSING):
                log.warning("sbatch: %s; trying again", message)
                return False
            if self._look.numbers():
                log.warning("sbatch refused the %s job (%s); going on with those that are at work", part, message)
                return False
            raise InputError(
                f"sbatch refused the {part} job: {message}; correct the site's slurm: section (account, partition, "
                "qos, constraint, walltime, limits.max_jobs)"
            ) from None
        number = submitted[0].job_id.split("_")[0]
        self._look.add(part, number, size)
        log.info("submitted %s as job %s, %d tasks", part, number, size)
        return True

    def _executor(self, action: Submit, size: int) -> Any:
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise InputError("executor slurm: there is no sbatch here; run this on a login node of a Slurm cluster")
        folder = scripts.jobs_folder(self._campaign)
        executor = submitit.SlurmExecutor(
            folder, max_num_timeout=10**6, python=scripts.python(self._campaign, self._site)
        )
        after = [f"{how}:{':'.join(numbers)}" for how, part in action.after if (numbers := self._look.numbers(part))]
        wanted = scripts.parameters(self._campaign, self._site, action.part, ",".join(after) or None)
        executor.update_parameters(**wanted, array_parallelism=size)
        return executor
