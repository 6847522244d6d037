"""What a job of a campaign does: one part of it (`stages.PARTS`).

It needs nothing but files, may run in any number of jobs at once, and may be run again after anything. What it prints,
and its exit code, are those of `landscaper-hpc`.
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscaper_hpc.errors import Stopped
from landscaper_hpc.executors.local import SerialMapper
from landscaper_hpc.executors.mpi import run_on_ranks
from landscaper_hpc.exit_codes import guarded
from landscaper_hpc.parallel.comm import SerialComm
from landscaper_hpc.progress import Bars
from landscaper_hpc.store.folder import JobsFolder
from landscaper_hpc.variables import number
from landscaper_hpc.work import stages
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.handover import taken_over
from landscaper_hpc.work.mapped import Mapped
from landscaper_hpc.work.worker import Stop


@dataclass(frozen=True)
class StageJob:
    """The function of one job, called in each of its tasks: submitit pickles these four values and nothing else.

    `campaign` is a file, `sha256` that of its bytes. `seconds`: how long it may take before it has to stop; where it
    stopped before the work was done, it leaves the file `again.<job id>` beside the campaign's: the script requeues the
    job.
    """

    campaign: str
    sha256: str
    part: str
    seconds: float

    def __call__(self) -> None:
        guarded(self._run)()

    def checkpoint(self) -> Any:
        """For submitit, where time is up before the job has come to listen itself: again from what is done."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _run(self) -> None:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
        file = Path(self.campaign)
        campaign = taken_over(file, self.sha256)
        try:
            self._do(campaign)
        except Stopped:
            JobsFolder(file.parent).again(os.environ.get("SLURM_JOB_ID", "")).touch()
            raise

    def _do(self, campaign: Campaign) -> None:
        if self.part == "report":  # too short to listen to signals: those of submitit's
            stages.perform(campaign, Mapped(SerialMapper(), Bars()), self.part)
            return
        # prepare can be taken up in its midst; who evaluates never talks to others: one more or less is no matter
        stop = Stop(None if self.part == "prepare" else self.seconds)
        if self.part == "prepare":
            stop.at_once()
        comm = _OneOfMany() if self.part == "evaluate" else None
        run_on_ranks(campaign, part=self.part, comm=comm, stop=stop, locked=True)


class _OneOfMany(SerialComm):
    """A task of the job, by itself, that knows how many share the work."""

    def __init__(self) -> None:
        self.rank = number("SLURM_PROCID")
        self.size = number("SLURM_NTASKS", 1)

    def ranks_on_node(self) -> int:
        return self.size
