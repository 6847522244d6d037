"""run(study, site): a study or a sweep to its end, carried by the executor that the site names.

What the stages are, and in which order, is said in `landscaper_hpc.work.stages`.
"""

from __future__ import annotations

import logging
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
    """Run a study to its report and return its results (what `results.json` holds; with `executor: mpi` on rank 0).

    Everything goes to `folder` (default: the study's name in `runs`, or in the site's `scratch`): `study.zarr`,
    `results.json`, `report.html`, `logs/`.
    May be stopped at any moment, also by `kill -9`, and called again. Raises `InputError` for what the user can mend
    and `TaskFailed` for what the user's task raised. `retry_failed` gives quarantined shards new attempts;
    `stage` does one part only (`prepare`, `evaluate` or `finish`), with `executor: mpi`; `detach` ends when jobs are
    submitted (with `executor: slurm`). None where there are no results yet, or another rank returns them.
    """
    site = site or Site()
    campaign = Campaign.of(study, site, site.folder(study.name, folder))
    if not run_campaign(campaign, site, retry_failed, stage, detach):
        return None
    return read_results(campaign.folder / "results.json")


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
    executor = EXECUTORS.load(site.executor)
    if isinstance(executor, Launcher):
        return executor.launch(campaign, site, Asked(retry_failed, stage, detach))
    if stage is not None:
        raise InputError("--stage needs --executor mpi (one rank is enough)")
    if detach:
        raise InputError("--detach needs a site with executor: slurm; other runs end with their command")
    mapper: Mapper = executor(site, campaign)
    with closing(mapper), only_one(campaign.folder), log_to(campaign.folder / "logs"), Bars() as bars:
        log.info("%s", campaign.folder)
        if retry_failed:
            stages.clear_failures(campaign)
        stages.perform(campaign, Mapped(mapper, bars))
        log.info("done")
    return True
