"""run(study, site): a study or a sweep to its end, carried by the executor that the site names.

What the stages are, and in which order, is said in `landscaper_hpc.work.stages`.
"""

from __future__ import annotations

import logging
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from landscaper_hpc.errors import InputError
from landscaper_hpc.progress import Bars
from landscaper_hpc.registry import EXECUTORS
from landscaper_hpc.report.results import read_results
from landscaper_hpc.store.lock import log_to, only_one
from landscaper_hpc.study.site import Site
from landscaper_hpc.study.study import Study
from landscaper_hpc.study.sweep_file import SweepConfig
from landscaper_hpc.work import stages
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.executor import Asked, Launcher, Mapper
from landscaper_hpc.work.group import end as end_group
from landscaper_hpc.work.load_ahead import loaded_ahead
from landscaper_hpc.work.mapped import Mapped
from landscaper_hpc.work.sweep import Sweep

log = logging.getLogger(__name__)


def run(
    study: Study,
    site: Site | None = None,
    folder: Path | None = None,
    retry_failed: bool = False,
    stage: str | None = None,
    detach: bool = False,
) -> dict[str, Any] | None:
    """Run a study to its report and return its results. Run again after anything, it goes on and ends the same.

    Everything goes to one folder: `study.zarr`, `results.json`, `report.html`, `logs/`. May be stopped at any moment,
    also by `kill -9`.

    Parameters
    ----------
    study
        The science.
    site
        Where it runs; by default this machine, with a process for each core.
    folder
        Where it goes; by default the study's name in `runs`, or in the site's `scratch`.
    retry_failed
        Give quarantined shards new attempts.
    stage
        Do one part only, `prepare`, `evaluate` or `finish`, with `executor: mpi`.
    detach
        End when the jobs are submitted, with `executor: slurm`.

    Returns
    -------
    dict or None
        What `results.json` holds (see "All quantities"). None where there are no results yet, or another rank returns
        them.

    Raises
    ------
    InputError
        For what the user can mend: one sentence that names the key or file.
    TaskFailed
        For what the user's task raised.
    """
    site = site or Site()
    campaign = Campaign.of(study, site, site.folder(study.name, folder))
    if not run_campaign(campaign, site, retry_failed, stage, detach):
        return None
    return read_results(campaign.plans[0].inside.results)


def open_sweep(config: SweepConfig, site: Site, folder: Path | None = None) -> Sweep:
    """The sweep of a configuration in its folder, as the first of all processes that run it finds it: checkpoints may
    be added at any moment."""
    executor = EXECUTORS.load(site.executor)
    make = partial(Sweep.open, config, site, site.folder(config.name, folder))
    return executor.broadcast(make) if isinstance(executor, Launcher) else make()


def run_campaign(
    campaign: Campaign,
    site: Site,
    retry_failed: bool = False,
    stage: str | None = None,
    detach: bool = False,
) -> bool:
    """Run a campaign to its end, as `run` does; whether that was reached, and this process is the one to tell."""
    for sentence in site.left_aside():
        log.warning("%s", sentence)
    try:
        return _run(campaign, site, retry_failed, stage, detach)
    finally:
        end_group()
        _end_settings()


def _end_settings() -> None:
    """What the user's code has set for the whole process ends with the run."""
    if "landscaper_hpc.objective.beginning" in sys.modules:  # else nothing of it was executed here
        from landscaper_hpc.objective.beginning import end

        end()


def _run(campaign: Campaign, site: Site, retry_failed: bool, stage: str | None, detach: bool) -> bool:
    executor = EXECUTORS.load(site.executor)
    if isinstance(executor, Launcher):
        return executor.launch(campaign, site, Asked(retry_failed, stage, detach))
    if stage is not None:
        raise InputError("--stage needs --executor mpi (one rank is enough)")
    if detach:
        raise InputError("--detach needs a site with executor: slurm; other runs end with their command")
    mapper: Mapper = executor(site, campaign)
    with closing(mapper), only_one(campaign.folder), log_to(campaign.inside), Bars() as bars:
        log.info("%s", campaign.folder)
        if retry_failed:
            stages.clear_failures(campaign)
        with loaded_ahead(campaign, bars, alone=site.executor == "serial"):
            stages.perform(campaign, Mapped(mapper, bars))
        log.info("done")
    return True
