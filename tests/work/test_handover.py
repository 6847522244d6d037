"""What a job is given: data that say what to work on, and are refused where they are not what was submitted."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from studies import network, wells

from landscaper_hpc import InputError, Site, Study
from landscaper_hpc.executors.slurm_job import StageJob
from landscaper_hpc.files import private_folder
from landscaper_hpc.study.sweep_file import SweepConfig
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.handover import hand_over, taken_over
from landscaper_hpc.work.sweep import Sweep

SITE = Site.model_validate(
    {
        "executor": "slurm",
        "shard_points": 5,
        "slurm": {"options": {"exclusive": True, "nice": 2, "comment": "a b"}, "environment": {"A": "é $B"}},
    }
)


@pytest.mark.parametrize("more", ["grid.range=[-0.1, 0.3]", "grid.axes=[{count: 3}, {count: 5}]", "sampling=true"])
def test_a_study_comes_back_as_it_was(more: str, tmp_path: Path) -> None:
    study = Study.load(network(tmp_path / "study"), [more, "directions.tolerance=0.0001"])
    before = Campaign.of(study, SITE, tmp_path / "run")
    after = taken_over(*hand_over(before, SITE, tmp_path / "run/jobs"))
    assert type(after) is Campaign
    assert after.folder == before.folder
    for was, now in zip(before.landscapes, after.landscapes, strict=True):
        assert now.study == was.study
        assert now.checkpoint == was.checkpoint
        assert (now.store, now.site, now.workers, now.file) == (was.store, was.site, was.workers, was.file)
    assert [plan.study.path("task.py") for plan in after.plans] == [tmp_path / "study/task.py"]


def test_a_sweep_comes_back_with_the_studies_that_it_had(tmp_path: Path) -> None:
    file = wells(tmp_path / "study", count=5)
    for step in (1, 2):
        torch.save({"x": torch.full((2,), step / 10, dtype=torch.float64)}, file.with_name(f"step_{step}.pt"))
    config = SweepConfig.load(
        file,
        ["directions={kind: random, n: 2}", "grid.count=5,7"],
        checkpoints=str(file.with_name("step_*.pt")),
        directions_from="step_00000001",
    )
    before = Sweep.open(config, SITE, tmp_path / "sweep")
    handed = hand_over(before, SITE, tmp_path / "sweep/jobs")
    torch.save({"x": torch.zeros(2, dtype=torch.float64)}, file.with_name("step_3.pt"))  # not of that submission
    after = taken_over(*handed)
    assert isinstance(after, Sweep)
    assert [(p.study, p.folder) for p in after.plans] == [(p.study, p.folder) for p in before.plans]
    assert len(after.plans) == 4
    for was, now in zip(before.shared, after.shared, strict=True):
        assert now.file == was.file
        assert now.landscape.study == was.landscape.study
        assert now.science() == was.science()
        assert (now.landscape.store, now.landscape.workers) == (was.landscape.store, was.landscape.workers)
    assert {item.workers for item in after.landscapes} == {tmp_path / "sweep/logs/workers"}


def test_the_same_campaign_is_the_same_file(tmp_path: Path) -> None:
    file = wells(tmp_path / "study")
    handed = [
        hand_over(Campaign.of(Study.load(file), SITE, tmp_path / "run"), SITE, tmp_path / "jobs") for _ in range(2)
    ]
    assert handed[0] == handed[1]
    other, _ = hand_over(
        Campaign.of(Study.load(file, ["grid.count=5"]), SITE, tmp_path / "run"), SITE, tmp_path / "jobs"
    )
    assert sorted((tmp_path / "jobs").iterdir()) == sorted({handed[0][0], other})


def test_what_was_changed_since_is_refused_and_never_run(tmp_path: Path) -> None:
    campaign = Campaign.of(Study.load(wells(tmp_path / "study")), SITE, tmp_path / "run")
    file, sha256 = hand_over(campaign, SITE, tmp_path / "jobs")
    data = json.loads(file.read_text())
    data["plans"][0]["base"] = "/somewhere/else"
    for content in (json.dumps(data).encode(), pickle.dumps(data), b""):
        file.write_bytes(content)
        with pytest.raises(InputError, match="is not what was submitted, its SHA-256 differs"):
            taken_over(file, sha256)
    file.unlink()
    with pytest.raises(InputError, match=r"cannot be read \(No such file or directory\)"):
        taken_over(file, sha256)
    assert hand_over(campaign, SITE, tmp_path / "jobs") == (file, sha256)  # written again
    assert taken_over(file, sha256).folder == campaign.folder


def test_a_job_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless versions may be mixed: what then is of another is recorded in the store."""
    study = Study.load(wells(tmp_path / "study"))
    mixing = SITE.model_copy(update={"accept_versions": True})
    asked, mixed = (
        hand_over(Campaign.of(study, site, tmp_path / "run"), site, tmp_path / "jobs") for site in (SITE, mixing)
    )
    monkeypatch.setattr("landscaper_hpc.work.handover.version", lambda name: "9.9")
    with pytest.raises(
        InputError, match=r"was submitted by landscaper-hpc 0\.\d.*, and the job has 9\.9 .*slurm\.python"
    ):
        taken_over(*asked)
    assert taken_over(*mixed).folder == tmp_path / "run"


def test_the_folder_of_jobs_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs").mkdir(mode=0o755)  # as an earlier version made it
    campaign = Campaign.of(Study.load(wells(tmp_path / "study")), SITE, tmp_path / "run")
    handed = hand_over(campaign, SITE, tmp_path / "jobs")
    assert (tmp_path / "jobs").stat().st_mode & 0o777 == 0o700
    assert private_folder(tmp_path / "new/jobs").stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "jobs")
    with pytest.raises(InputError, match="is not a folder of yours"):
        private_folder(tmp_path / "link")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(InputError, match="is not a folder of yours"):
        taken_over(*handed)


def test_submitit_pickles_words_and_numbers_only(tmp_path: Path) -> None:
    job = StageJob(str(tmp_path / "campaign.json"), 64 * "0", "evaluate", 60.0)
    assert [type(value) for value in vars(job).values()] == [str, str, str, float]
    with pytest.raises(SystemExit) as ended:
        job()
    assert ended.value.code == 2
