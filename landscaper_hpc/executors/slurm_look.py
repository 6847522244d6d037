"""What a client of Slurm sees: how far the files are, what Slurm says of the jobs, what jobs wrote in their logs."""

from __future__ import annotations

import logging
from pathlib import Path

from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.errors import InputError
from landscaper_hpc.executors.jobs import Job, Record, SlurmSilent
from landscaper_hpc.study.site import Site
from landscaper_hpc.work import stages
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.survey import Counts, Survey

log = logging.getLogger(__name__)

_OUR_NAME = "landscaper-hpc: "


class Look:
    """The state of a campaign's folder and jobs; `jobs` as of the last `ask`, with those submitted since."""

    def __init__(self, campaign: Campaign, site: Site) -> None:
        self._campaign = campaign
        self._survey = Survey(campaign)
        self._record = Record(campaign.folder)
        self._key = canonical_sha256([str(campaign.folder), campaign.definition(), site.device, site.shard_points])
        self.folder = self._record.folder
        self.jobs: list[Job] = []
        self.watched: set[str] = set()
        self.silent = False
        """Whether Slurm, or its controller, did not answer when it was asked last."""

    def ask(self) -> None:
        """Ask Slurm about the jobs."""
        try:
            self.jobs = self._record.look(save=True)
            self.silent = self._record.only_accounts
        except SlurmSilent as silent:
            self.silent = True
            log.warning("%s; waiting for Slurm", silent)
            self.jobs = self._record.last()
            if not self.jobs:
                raise InputError(
                    "executor slurm: neither sacct nor squeue answers; run this on a login node of a Slurm cluster"
                ) from None
        self.watched |= {job.number for job in self.jobs if job.active}

    def add(self, part: str, number: str, size: int) -> None:
        """Write down that a job array of this size was submitted."""
        self._record.add(part, number, self._key)
        self.jobs.append(Job(number if size == 1 else f"{number}_[0-{size - 1}]", part, "PENDING"))
        self.watched.add(number)

    def numbers(self, part: str | None = None) -> list[str]:
        """Of submissions that are at work: all, or those of a part."""
        found = {job.number for job in self.jobs if job.active and part in (None, job.stage)}
        return sorted(found, key=int)

    def counts(self) -> Counts:
        return self._survey.counts()

    def missing(self, counts: Counts) -> tuple[str, ...]:
        """The parts still to be done; a report is one that the last job of all wrote."""
        last = self.jobs[-1] if self.jobs else None
        reported = last is not None and (last.stage, last.state) == ("report", "COMPLETED")
        return stages.missing(counts, concluded=reported and self.finished())

    def finished(self) -> bool:
        return all(plan.finished() for plan in self._campaign.plans)

    def refuse_other_jobs(self) -> None:
        """`InputError` where jobs are at work in the folder that would make something else."""
        others = {s["id"] for s in self._record.submissions() if s.get("campaign", self._key) != self._key}
        if at_work := [number for number in self.numbers() if number in others]:
            raise InputError(
                f"{self._campaign.folder}: jobs of another study, or another shard size or device, are at work there; "
                f"wait for them, cancel them (scancel {' '.join(at_work)}), or choose another folder with --out"
            )

    # ---- logs -------------------------------------------------------------------------------------------------------

    def told(self, job: Job) -> str | None:
        """What `landscaper-hpc` said in a job about how it ended; None where it did not come to say anything."""
        for file in self._logs(job):
            lines = _tail(file)
            ours = [number for number, line in enumerate(lines) if line.startswith(_OUR_NAME)]
            if ours and job.exit_code in (1, 2):
                return "\n".join(lines[ours[-1] :]).removeprefix(_OUR_NAME).strip()
        return None

    def end_of_log(self, job: Job) -> str:
        file = next(iter(self._logs(job)), None)
        lines = [] if file is None else _tail(file)
        return f"the end of {file}:\n" + "\n".join(lines[-20:]) if lines else "it wrote no log"

    def _logs(self, job: Job) -> list[Path]:
        return self._campaign.inside.jobs.logs_of(job.id)


def _tail(file: Path) -> list[str]:
    """What the end of a log says, but for what srun makes of it."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 20_000))
        lines = stream.read().decode(errors="replace").splitlines()
    return [line for line in lines if not line.startswith(("srun: ", "slurmstepd"))]
