"""Models that several processes of a node hold together (`gpus_per_model`), by Slurm's jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from forked import forked_python
from studies import command, contents, divided

from tests.executors.contract import CLI
from tests.slurm.cluster import ROOT, SlurmCluster
from tests.slurm.test_landscape_sbatch import log, submit

TWO = ("--set-site", "gpus_per_model=2", "--set-site", "shard_points=3")
SLURM = "slurm={{partition: main, nodes: 2, memory: 3000M, walltime: '0:20:00', warning_s: 60, python: {}}}"


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A study, and what a serial run leaves whose model two processes hold."""
    file = divided(tmp_path_factory.mktemp("divided"))
    done = command("run", file, "--executor", "serial", *TWO, "--out", file.parent / "serial")
    assert done.returncode == 0, done.stderr
    return file, contents(file.parent / "serial")


@pytest.mark.slow
def test_jobs_give_the_bytes_of_a_serial_run_also_where_a_rank_is_killed(
    cluster: SlurmCluster, serial: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, expected = serial
    (file.parent / "kill.1").touch()
    words = ("run", file, "--out", tmp_path / "run", "--executor", "slurm", *TWO)
    site = ("--set-site", SLURM.format(forked_python()))
    done = cluster.run(forked_python(), *CLI[1:], *map(str, words), *site, cwd=ROOT, check=False, seconds=400)
    assert done.returncode == 0, done.stderr
    assert not (file.parent / "kill.1").exists()
    assert contents(tmp_path / "run") == expected


@pytest.mark.slow
def test_plain_sbatch_gives_the_bytes_of_a_serial_run_also_where_a_rank_is_killed(
    cluster: SlurmCluster, serial: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    """Two ranks of MPI on a node, each a worker that starts a process more."""
    file, expected = serial
    (file.parent / "site.yaml").write_text("{executor: mpi, gpus_per_model: 2, shard_points: 3}")
    (file.parent / "kill.1").touch()
    job = submit(cluster, file, tmp_path, "--nodes=1", "--ntasks-per-node=2", "--mem-per-cpu=1500")
    cluster.wait_for_state(job, "COMPLETED", seconds=400)
    assert not (file.parent / "kill.1").exists()
    assert "have lost rank 1, which was ended by signal 9" in (tmp_path / "run/logs/run.log").read_text()
    assert contents(tmp_path / "run") == expected, log(tmp_path)
