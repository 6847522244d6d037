"""run(study, site): train -> prepare -> evaluate -> verify -> topology -> report.

Every stage asks the files what is missing and plans only that; so the same command, run again after anything, goes on
from there and ends with the same bytes.
"""

from __future__ import annotations

import json
import logging
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscaper_hpc.errors import InputError
from landscaper_hpc.executors import LocalMapper, Mapper, SerialMapper
from landscaper_hpc.progress import Bars
from landscaper_hpc.store.lock import log_to, only_one
from landscaper_hpc.study.site import Site
from landscaper_hpc.study.study import Study
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.stages import (
    clear_failures,
    evaluate,
    prepare_all,
    share_directions,
    topology,
)

if TYPE_CHECKING:
    from landscaper_hpc.work.stages import Stage

log = logging.getLogger(__name__)


def run(
    study: Study,
    site: Site | None = None,
    folder: Path | None = None,
    retry_failed: bool = False,
    stage: Stage | None = None,
    detach: bool = False,
) -> dict[str, Any] | None:
    """Run a study to its report and return its results (what `results.json` holds; with `executor: mpi` on rank 0).

    Everything goes to `folder` (default: the study's name in `runs`, or in the site's `scratch`): `study.zarr`,
    `results.json`, `report.html`, `logs/`.
    May be stopped at any moment, also by `kill -9`, and called again. Raises `InputError` for what the user can mend
    and `TaskFailed` for what the user's task raised. `retry_failed` gives shards that were quarantined new attempts;
    `stage` does one part only, for jobs of a scheduler (with `executor: mpi`); `detach` ends when jobs are submitted
    (with `executor: slurm`). None where there are no results yet, or another rank returns them.
    """
    site = site or Site()
    campaign = Campaign.of(study, site, folder or site.runs() / study.name)
    if not run_campaign(campaign, site, retry_failed, stage, detach):
        return None
    found: dict[str, Any] = json.loads((campaign.folder / "results.json").read_text())
    return found


def run_campaign(
    campaign: Campaign,
    site: Site,
    retry_failed: bool = False,
    stage: Stage | None = None,
    detach: bool = False,
) -> bool:
    """Run a campaign to its end, as `run` does; whether that was reached, and this process is the one to tell."""
    if site.executor == "mpi":
        from landscaper_hpc.executors.mpi import run_on_ranks

        return run_on_ranks(campaign, retry_failed, stage)
    if stage is not None:
        raise InputError("--stage needs --executor mpi (one rank is enough)")
    if site.executor == "slurm":
        from landscaper_hpc.executors.slurm import run_by_jobs

        return run_by_jobs(campaign, site, retry_failed, detach)
    if detach:
        raise InputError("--detach needs a site with executor: slurm; other runs end with their command")
    with (
        closing(make_executor(site, campaign)) as executor,
        only_one(campaign.folder),
        log_to(campaign.folder / "logs"),
        Bars() as bars,
    ):
        log.info("%s", campaign.folder)
        if retry_failed:
            clear_failures(campaign)
        for shared in campaign.shared:
            share_directions(shared, executor, bars)
        prepare_all(campaign.plans, executor, bars, campaign.apart)
        evaluate(executor, campaign, bars)
        executor.close()  # merge trees need none of its processes and jobs
        if not campaign.apart:
            for item in campaign.landscapes:
                topology(item, bars)
        campaign.conclude()
        log.info("done")
    return True


def make_executor(site: Site, campaign: Campaign) -> Mapper:
    """The executor of a site, for this campaign."""
    if site.executor == "dask":
        try:
            from landscaper_hpc.executors.dask_slurm import dask_executor
        except ModuleNotFoundError as missing:
            raise InputError(
                f"executor dask needs {missing.name}, which is not installed; pip install 'landscaper-hpc[dask]'"
            ) from None
        return dask_executor(site, campaign)
    return SerialMapper() if site.executor == "serial" else LocalMapper(site.worker_count())
