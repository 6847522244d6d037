"""The contract of executors, kept by Slurm's jobs on the test cluster."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from forked import forked_python

from tests.executors.contract import CLI, OfManyProcesses, Way
from tests.slurm.cluster import ROOT, SlurmCluster

SITE = "slurm={{partition: main, nodes: 2, memory: 1500M, walltime: '0:20:00', warning_s: 60, python: {}}}"


class OnCluster(Way):
    """A client of the cluster; it dies with its jobs, which go on after Ctrl-C."""

    others = True

    def __init__(self, cluster: SlurmCluster) -> None:
        super().__init__("slurm", options=("--set-site", SITE.format(forked_python())))
        self._cluster = cluster
        self._cli = (forked_python(), *CLI[1:])

    def process(self, words: list[str]) -> subprocess.Popen[str]:
        return self._cluster.start_client(*self._cli, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate(timeout=60)
        self._cluster.run("scancel", "--user=root", "--signal=KILL", check=False)
        self._cluster.restore()

    def interrupt(self, process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGINT)

    def state(self, folder: Path) -> dict[str, Any]:
        return dict(json.loads(self._cluster.run(*self._cli, "status", str(folder), "--json", cwd=ROOT).stdout))


class TestSlurm(OfManyProcesses):
    @pytest.fixture
    def way(self, cluster: SlurmCluster) -> Way:
        return OnCluster(cluster)


def test_the_folder_of_jobs_is_its_owners(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    """And holds no description of the study but as text."""
    way = OnCluster(cluster)
    process = way.start(undisturbed[0], tmp_path / "run", "--detach")
    assert process.communicate(timeout=120)[1].count("the jobs go on by themselves") == 1
    jobs = tmp_path / "run/jobs"
    assert jobs.stat().st_mode & 0o777 == 0o700
    assert [file.suffix for file in jobs.glob("campaign.*")] == [".json"]
    cluster.restore()
