"""A study by job arrays: the bytes of a serial run, whatever is killed, cancelled or run twice meanwhile."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forked import forked_python
from studies import Gate, contents

from landscaper_hpc.executors.jobs import Job
from tests.slurm.cluster import ASKING, SlurmCluster, wait_until

SITE = """
executor: slurm
shard_points: 5
slurm:
  partition: main
  nodes: 3
  memory: 1500M
  walltime: 0:30:00
  warning_s: 60
  limits: {max_array: 2}
  python: PYTHON
"""
SHARDS = 14
PROGRAM = ["-m", "landscaper_hpc.cli", "run"]


@pytest.fixture
def arguments(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> list[str]:
    (tmp_path / "site.yaml").write_text(SITE.replace("PYTHON", forked_python()))
    return [str(undisturbed[0]), "--site", str(tmp_path / "site.yaml"), "--out", str(tmp_path / "run")]


def submitted(folder: Path) -> dict[str, list[str]]:
    """Stage to the ids of its submissions."""
    found: dict[str, list[str]] = {}
    for entry in json.loads((folder / "run/jobs/jobs.json").read_text())["submissions"]:
        found.setdefault(entry["stage"], []).append(entry["id"])
    return found


def logs(folder: Path) -> str:
    files = sorted((folder / "run/jobs").glob("*_log.out"))
    return "\n".join(f"== {file.name}\n{file.read_text()[-2000:]}" for file in files)


def log(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def shards(folder: Path) -> int:
    return len(list(folder.glob("run/study.zarr/[!.]*/done/*/c.*")))


def test_killed_cancelled_out_of_time_and_run_again(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], gate: Gate, arguments: list[str], tmp_path: Path
) -> None:
    # as a user's jobs start: of one that is cancelled sooner accounting may not know yet
    (tmp_path / "site.yaml").write_text(SITE.replace("PYTHON", sys.executable))
    client = cluster.start_client(sys.executable, *PROGRAM, *arguments, stderr=subprocess.DEVNULL)
    try:
        wait_until(
            "all jobs", lambda: (tmp_path / "run/jobs/jobs.json").exists() and len(submitted(tmp_path)) == 4, 120
        )
        first = submitted(tmp_path)
        assert [len(first[stage]) for stage in ("prepare", "evaluate", "topology", "report")] == [1, 2, 1, 1]
        second = cluster.run(forked_python(), *PROGRAM, *arguments, check=False, seconds=120)
        assert second.returncode == 2
        assert "another run is at work there" in second.stderr
        gate.until("some shards", lambda: shards(tmp_path) >= 2)
    finally:
        client.kill()
        client.wait(30)
    array, alone = first["evaluate"]
    cluster.run("scancel", f"{array}_0")
    own = tmp_path / f"run/jobs/{alone}_0_log.out"
    # it is at work, or had no chance since the others have done everything
    gate.until("its first shard", lambda: ": done" in log(own) or shards(tmp_path) == SHARDS, pause=1.0)
    cluster.run("scancel", "--signal=USR2", alone)  # what --signal does at its time: to the steps, not the script
    gate.close()

    look = cluster.run(forked_python(), *PROGRAM, *arguments, "--detach", seconds=120)
    assert "the jobs go on by themselves" in look.stderr
    assert submitted(tmp_path) == first  # nothing is submitted twice
    other = cluster.run(forked_python(), *PROGRAM, *arguments, "--set", "grid.count=5", check=False, seconds=120)
    assert other.returncode == 2
    assert "of another study" in other.stderr

    done = cluster.run(forked_python(), *PROGRAM, *arguments, check=False, seconds=800)
    assert done.returncode == 0, done.stderr + logs(tmp_path)
    assert contents(tmp_path / "run") == undisturbed[1]
    assert submitted(tmp_path) == first
    ended = {
        job["id"]: Job(**job)
        for entry in json.loads((tmp_path / "run/jobs/jobs.json").read_text())["submissions"]
        for job in entry["jobs"]
    }
    assert ended[f"{array}_0"].state == "CANCELLED"
    assert ended[f"{array}_1"].state == ended[first["report"][0]].state == "COMPLETED"
    if "time is up" in log(own):
        assert f"requeueing job {alone}" in log(own)
        assert log(own).count("Starting with") == 2
        assert ended[alone].state == "COMPLETED"


def test_interrupted_and_all_jobs_cancelled(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], gate: Gate, arguments: list[str], tmp_path: Path
) -> None:
    client = cluster.start_client(forked_python(), *PROGRAM, *arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    gate.until("some shards", lambda: shards(tmp_path) >= 2)
    client.send_signal(signal.SIGINT)
    _, said = client.communicate(timeout=120)
    assert client.returncode == 130
    first = submitted(tmp_path)
    numbers = sorted({number for stage in ("evaluate", "topology", "report") for number in first[stage]}, key=int)
    told = re.search(r"cancel: scancel ([\d ]+)", said)
    assert told is not None, said
    # also that of preparing, as long as accounting says that it runs
    assert set(numbers) <= set(told[1].split()) <= {*numbers, *first["prepare"]}
    cluster.run("scancel", *numbers)
    wait_until("no jobs", lambda: not cluster.run("squeue", "-h").stdout.strip(), 120, ASKING)
    before = shards(tmp_path)
    gate.close()
    done = cluster.run(forked_python(), *PROGRAM, *arguments, check=False, seconds=800)
    assert done.returncode == 0, done.stderr + logs(tmp_path)
    assert contents(tmp_path / "run") == undisturbed[1]
    assert before <= shards(tmp_path)
    assert submitted(tmp_path)["prepare"] == first["prepare"]
    assert len(submitted(tmp_path)["evaluate"]) == 4


def test_what_sbatch_refuses_is_one_sentence(cluster: SlurmCluster, arguments: list[str], tmp_path: Path) -> None:
    done = cluster.run(
        forked_python(), *PROGRAM, *arguments, "--set-site", "slurm.partition=nowhere", check=False, seconds=120
    )
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("landscaper-hpc: "))
    assert "sbatch refused the prepare job" in line
    assert "partition" in line


def test_why_a_job_failed_is_told_at_once(cluster: SlurmCluster, arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE.replace("PYTHON", sys.executable))  # a job that starts as a user's does
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in Path(arguments[0]).parent.glob("*"):
        if file.is_file():
            (broken / file.name).write_bytes(file.read_bytes())
    (broken / "task.py").write_text("task = 1\n")
    (broken / "train.py").unlink()
    change = ["--set", "train=null", "--set", "checkpoints=[{name: untrained, file: untrained.pt}]"]
    done = cluster.run(
        forked_python(), *PROGRAM, str(broken / "study.yaml"), *arguments[1:], *change, check=False, seconds=300
    )
    assert done.returncode == 2, done.stderr + logs(tmp_path)
    line = done.stderr.splitlines()[-1]
    assert line.startswith("landscaper-hpc: job ")
    assert "(prepare): task file" in line
    assert len(submitted(tmp_path)["prepare"]) == 1
    wait_until("no jobs", lambda: not cluster.run("squeue", "-h").stdout.strip(), 60, ASKING)


def test_doctor_starts_two_ranks_and_asks_slurm(cluster: SlurmCluster, tmp_path: Path) -> None:
    doctor = [sys.executable, "-m", "landscaper_hpc.cli", "doctor", "--json", "--site", "testbed"]
    found = json.loads(cluster.run(*doctor, cwd=tmp_path, seconds=300).stdout)
    findings = {item["name"]: item for item in found["findings"]}
    assert found["ok"]
    assert findings["MPI"]["ok"]
    assert "1001" in findings["arrays"]["finding"]
    assert not list(tmp_path.iterdir())
    wrong = ["account=nobody", "qos=fast", "constraint=gpu&fast", "limits.max_array=2000", "partition=nowhere"]
    doctor[0] = forked_python()
    done = cluster.run(*doctor, *(f"--set-site=slurm.{w}" for w in wrong), cwd=tmp_path, seconds=300, check=False)
    assert done.returncode == 1
    bad = {item["name"] for item in json.loads(done.stdout)["findings"] if item["ok"] is False}
    assert bad == {"account", "qos", "constraint", "arrays", "partition", "jobs", "MPI"}
    pair = [*doctor, "--set-site=slurm.launcher.mpi=none"]
    done = cluster.run(*pair, cwd=tmp_path, seconds=300, check=False)
    (ranks,) = (item for item in json.loads(done.stdout)["findings"] if item["name"] == "MPI")
    assert ranks["ok"] is False
    assert "launcher and MPI library do not fit" in ranks["finding"]


@pytest.mark.parametrize("profile", ["testbed", "generic_slurm"])
def test_scripts_are_taken_by_sbatch(cluster: SlurmCluster, arguments: list[str], tmp_path: Path, profile: str) -> None:
    done = cluster.run(
        forked_python(), *PROGRAM, arguments[0], "--site", profile, "--out", str(tmp_path / "run"), "--dry-run"
    )
    scripts = [f"#!/bin/bash{text}" for text in done.stdout.split("#!/bin/bash")[1:]]
    assert len(scripts) == 4
    for script in scripts:
        assert "to start at" in cluster.run("sbatch", "--test-only", text=script).stderr
    assert not (tmp_path / "run").exists()
