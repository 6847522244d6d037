"""What `plan` says of a Slurm site on a machine that has neither Slurm nor a GPU, and what stages ask for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import command, wells

from landscaper_hpc import InputError, Site, Study
from landscaper_hpc.executors import scripts
from landscaper_hpc.executors.job_plan import JobPlan, job_plan
from landscaper_hpc.work.campaign import Campaign

pytest.importorskip("submitit")


@pytest.fixture(autouse=True)
def _a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(scripts, "max_array_size", lambda: 1001)
    monkeypatch.delenv("SCRATCH", raising=False)


def planned(tmp_path: Path, *options: str, shards: int = 1000, rate: float = 100.0, memory: int = 10**9) -> JobPlan:
    site = Site.load("perlmutter", options)
    campaign = Campaign.of(Study.load(wells(tmp_path / "study")), site, tmp_path / "run")
    return job_plan(campaign, site, shards, 3600, rate, memory)


@pytest.mark.thorough
def test_plan_on_a_laptop_plans_for_the_gpus_of_a_site(tmp_path: Path) -> None:
    file = wells(tmp_path, count=101)
    asked = ["plan", file, "--site", "perlmutter", "--set-site", "slurm.nodes=2", "--set-site", "shard_points=400"]
    done = command(*asked)
    assert done.returncode == 0, done.stderr
    for words in (
        "there is no cuda here: measured on the CPU",
        "evaluate    job arrays of 2 × 1 node (gpu) of 4 processes, 4 GPUs, walltime 6.0 hours",
        "report      1 node (cpu) of 1 processes, walltime 30.0 minutes",
        "node-hours",
        "limited by",
        "$SCRATCH/landscapes/wells: of another machine, not looked at",
    ):
        assert words in done.stdout
    found = json.loads(command(*asked, "--rate", "200", "--json").stdout)
    assert (found["device"], found["measured_on"], found["free_bytes"]) == ("cuda", None, None)
    slurm = found["slurm"]
    assert [job["stage"] for job in slurm["jobs"]] == ["prepare", "evaluate", "topology", "report"]
    shards = math.ceil(found["shards"] / 8)
    assert slurm["seconds"] == pytest.approx(shards * found["points_per_shard"] / 200)
    assert slurm["node_hours"] == pytest.approx(2 * slurm["seconds"] / 3600)
    assert slurm["memory"] > 10**8
    assert not (tmp_path / "runs").exists()
    refused = command("plan", file, "--device", "cuda")  # what runs on this machine needs what it asks for
    assert refused.returncode == 2


def test_plan_of_a_sweep_does_not_need_the_sites_variables(tmp_path: Path) -> None:
    done = command("sweep", wells(tmp_path), "--set", "grid.count=5,7", "--site", "perlmutter", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "folder      $SCRATCH/landscapes/wells" in done.stdout


@pytest.mark.parametrize(
    ("options", "shards", "limit", "expected"),
    [
        ([], 64_000, "walltime: each job is started 2 times", {"processes": 64, "runs": 2}),
        ([], 6_400, "slurm.nodes", {"processes": 64, "runs": 1, "seconds": 3600.0, "node_hours": 16.0}),
        ([], 10, "shards: 10 keep 10 of 64 processes busy", {"processes": 10, "seconds": 36.0}),
        (["slurm.limits.max_jobs=8"], 6_400, "slurm.limits.max_jobs: 8 lets in 5 of 16 nodes", {"processes": 20}),
        (["slurm.memory=2G"], 6_400, "memory: 4 processes need about 4 GB and a node gives 2G", {}),
        (["slurm.walltime=0:20:00"], 6_400, "walltime: each job is started 4 times", {"runs": 4}),
    ],
)
def test_what_limits_it_is_told(
    tmp_path: Path, options: list[str], shards: int, limit: str, expected: dict[str, Any]
) -> None:
    found = planned(tmp_path, *options, shards=shards)
    assert any(told.startswith(limit) for told in found.limits), found.limits
    assert {key: getattr(found, key) for key in expected} == expected


def test_job_arrays_are_as_large_as_the_site_allows(tmp_path: Path) -> None:
    found = planned(tmp_path, "slurm.nodes=2500", "slurm.limits.max_array=1000", shards=10**6)
    (evaluate,) = (job for job in found.jobs if job.stage == "evaluate")
    assert evaluate.arrays == [1000, 1000, 500]
    assert found.most_other_node_hours == pytest.approx(6 + 6 + 0.5)


def test_a_stage_asks_for_what_its_profile_says(tmp_path: Path) -> None:
    asked = ["constraint=cpu", "qos=shared", "gpus_per_node=0", "tasks_per_node=8", "memory=100G", "walltime='0:40:00'"]
    site = Site.load("perlmutter", [f"slurm.stages.topology.{key}" for key in asked])
    campaign = Campaign.of(Study.load(wells(tmp_path / "study")), site, tmp_path / "run")
    topology, evaluate = (scripts.script(campaign, site, stage) for stage in ("topology", "evaluate"))
    for line in ("constraint=cpu", "qos=shared", "ntasks-per-node=8", "mem=100G", "time=40"):
        assert f"#SBATCH --{line}\n" in topology
        assert f"#SBATCH --{line}\n" not in evaluate
    assert "gpus" not in topology
    assert "gpus-per-node=4" in evaluate
    assert scripts.seconds(site, "topology") == 40 * 60 - 300
    assert scripts.seconds(site, "evaluate") == 6 * 3600 - 300


def test_gradients_are_not_sent_to_nodes_without_gpus(tmp_path: Path) -> None:
    file = wells(tmp_path / "study")
    file.write_text(file.read_text() + "confirm: true\n")
    for stage, said in (("topology", "confirm, error_bars"), ("prepare", "directions are computed there")):
        site = Site.load("perlmutter", [f"slurm.stages.{stage}.gpus_per_node=0"])
        campaign = Campaign.of(Study.load(file), site, tmp_path / "run")
        with pytest.raises(InputError, match=said):
            scripts.parameters(campaign, site, stage)
    with pytest.raises(InputError, match="walltime 0:01:00 leaves less than two minutes"):
        Site.load("perlmutter", ["slurm.stages.report.walltime='0:01:00'"])
    with pytest.raises(
        InputError, match=r"unknown key slurm.stages.report.gpus .*valid keys there: account, partition"
    ):
        Site.load("perlmutter", ["slurm.stages.report.gpus=1"])
