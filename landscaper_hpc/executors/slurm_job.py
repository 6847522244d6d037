"""What a job of a campaign does: find directions, evaluate shards, build merge trees, or write the report.

A stage needs nothing but the campaign's folder, may run in any number of jobs at once, and may be run again after
anything. What it prints, and its exit code, are those of `landscaper-hpc`.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from landscaper_hpc.errors import Stopped
from landscaper_hpc.executors.mpi import run_on_ranks
from landscaper_hpc.exit_codes import guarded
from landscaper_hpc.parallel.comm import SerialComm
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.worker import Stop


@dataclass(frozen=True)
class StageJob:
    """The function of one job, called in each of its tasks. `seconds`: how long it may take before it has to stop.

    Where it stopped before the work was done, it leaves the file `again.<job id>` beside the campaign's: the script
    requeues the job.
    """

    campaign: Path
    stage: str
    seconds: float

    def __call__(self) -> None:
        guarded(self._run)()

    def checkpoint(self) -> Any:
        """For submitit, where time is up before the job has come to listen itself: again from what is done."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _run(self) -> None:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
        campaign: Campaign = pickle.loads(self.campaign.read_bytes())
        try:
            if self.stage == "report":
                campaign.conclude()
            elif self.stage == "prepare":
                run_on_ranks(campaign, retry_failed=False, stage="prepare", stop=_StopAtOnce(), locked=True)
            elif self.stage == "topology":
                run_on_ranks(campaign, retry_failed=False, stage="topology", stop=Stop(self.seconds), locked=True)
            else:
                self._evaluate(campaign)
        except Stopped:
            self.campaign.with_name(f"again.{os.environ.get('SLURM_JOB_ID', '')}").touch()
            raise

    def _evaluate(self, campaign: Campaign) -> None:
        rank, ranks = int(os.environ.get("SLURM_PROCID", 0)), int(os.environ.get("SLURM_NTASKS", 1))
        comm, stop = _OneOfMany(rank, ranks), Stop(self.seconds)
        run_on_ranks(campaign, retry_failed=False, stage="evaluate", comm=comm, stop=stop, locked=True)


class _OneOfMany(SerialComm):
    """A process that shares the work with others and never talks to them: one more or one less is no matter."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size

    def ranks_on_node(self) -> int:
        return self.size


class _StopAtOnce(Stop):
    """For work that can be taken up in its midst: a signal ends it where it is."""

    def _signalled(self, number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)  # once is enough
        raise Stopped
