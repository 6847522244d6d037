"""A whole study by plain sbatch: the bytes of an undisturbed serial run, also when a node fails or time runs out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from forked import forked_python
from studies import Gate, contents

from tests.slurm.cluster import ASKING, ROOT, SlurmCluster, wait_until

SCRIPT = ROOT / "slurm/landscape.sbatch"


def submit(
    cluster: SlurmCluster,
    file: Path,
    folder: Path,
    *options: str,
    script: Path = SCRIPT,
    more: tuple[str, ...] = (),
    python: str | None = None,
) -> int:
    """Submit the script as a user would, with the environment of landscaper-hpc active, or what stands for it."""
    python = python or forked_python()
    environment = {**os.environ, "PATH": f"{Path(python).parent}:{os.environ['PATH']}"}
    arguments = [str(file), "--out", str(folder / "run"), "--site", str(file.parent / "site.yaml"), *more]
    done = cluster.run(
        *("sbatch", "--parsable", "--mem-per-cpu=900", f"--output={folder}/job.out", *options, str(script), *arguments),
        env=environment,
        cwd=folder,  # where the script leaves a file if its node crashes
    )
    return int(done.stdout)


def log(folder: Path) -> str:
    file = folder / "job.out"
    return file.read_text() if file.exists() else "no output"


def started_again(cluster: SlurmCluster, job: int) -> bool:
    return cluster.job(job).get("Restarts", "0") != "0"


def some_shards(gate: Gate, cluster: SlurmCluster, job: int, folder: Path) -> None:
    """Two shards are done, and the others wait at the gate."""
    with cluster.story_of(job):
        gate.until("some shards", lambda: len(list(folder.glob("run/study.zarr/[!.]*/done/*/c.*"))) >= 2)


def test_two_nodes_give_the_bytes_of_one_process(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, expected = undisturbed
    job = submit(cluster, file, tmp_path, "--nodes=2", "--ntasks-per-node=1", python=sys.executable)
    cluster.wait_for_state(job, "COMPLETED", seconds=300)
    assert contents(tmp_path / "run") == expected, log(tmp_path)


@pytest.mark.parametrize(
    "crashed", [pytest.param(0, id="of the script", marks=pytest.mark.slow), pytest.param(1, id="of a task")]
)
def test_a_crashed_node_requeues_the_job_and_it_goes_on(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], gate: Gate, tmp_path: Path, crashed: int
) -> None:
    file, expected = undisturbed
    job = submit(cluster, file, tmp_path, "--nodes=2", "--ntasks-per-node=1")
    some_shards(gate, cluster, job, tmp_path)
    nodes = cluster.run("scontrol", "show", "hostnames", cluster.wait_for_node(job)).stdout.split()
    cluster.crash(nodes[crashed])
    wait_until("the copy", lambda: started_again(cluster, job), 120, ASKING)
    gate.close()
    cluster.wait_for_state(job, "COMPLETED", seconds=400)
    assert contents(tmp_path / "run") == expected, log(tmp_path)


def test_a_signal_before_the_end_requeues_the_job_and_it_goes_on(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], gate: Gate, tmp_path: Path
) -> None:
    file, expected = undisturbed
    job = submit(cluster, file, tmp_path, "--nodes=1", "--ntasks-per-node=2")
    some_shards(gate, cluster, job, tmp_path)
    cluster.run("scancel", "--signal=USR2", str(job))  # what --signal does at its time: to the steps, not the script
    gate.until("the copy", lambda: started_again(cluster, job), pause=ASKING)  # a rank looks between points
    gate.close()
    cluster.wait_for_state(job, "COMPLETED", seconds=400)
    assert contents(tmp_path / "run") == expected, log(tmp_path)
    assert "requeueing" in log(tmp_path)


def test_a_refused_job_is_tried_once_and_ends_with_2(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, _ = undisturbed
    job = submit(cluster, file, tmp_path, "--nodes=2", "--ntasks-per-node=1", more=("--set", "no.such_key=1"))
    cluster.wait_for_state(job, "FAILED", seconds=120)
    assert cluster.job(job)["ExitCode"] == "2:0"
    assert "going on" not in log(tmp_path)
    assert log(tmp_path).count("no.such_key") <= 2, log(tmp_path)  # once a task at most


def test_directions_an_array_and_the_rest_in_jobs_of_their_own(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, expected = undisturbed
    array, end = ROOT / "slurm/array.sbatch", ROOT / "slurm/topology.sbatch"
    directions = submit(cluster, file, tmp_path, "--ntasks=1", script=array)
    after = f"--dependency=afterok:{directions}"
    losses = submit(cluster, file, tmp_path, "--ntasks-per-node=1", "--array=0-1", after, script=array)
    last = submit(cluster, file, tmp_path, "--nodes=2", f"{after},afterany:{losses}", script=end)
    cluster.wait_for_state(last, "COMPLETED", seconds=500)
    assert contents(tmp_path / "run") == expected, log(tmp_path)


@pytest.mark.parametrize("name", ["landscape", "array", "topology", "sweep"])
def test_slurm_takes_the_script(cluster: SlurmCluster, name: str) -> None:
    done = cluster.run("sbatch", "--test-only", "--nodes=2", str(ROOT / f"slurm/{name}.sbatch"), "study.yaml")
    assert "to start at" in done.stderr
