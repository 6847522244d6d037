"""A sweep by job arrays and by Dask's jobs: the bytes of a serial one."""

from __future__ import annotations

from pathlib import Path

import pytest
from forked import forked_python
from studies import command, contents, wells

from tests.kinds import slow
from tests.slurm.cluster import ROOT, SlurmCluster

SITE = """
shard_points: 10
slurm: {partition: main, nodes: 2, tasks_per_node: 2, memory: 2000M, walltime: 0:20:00, warning_s: 60, python: PYTHON}
"""


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """The command of a sweep of two studies whose minima are confirmed, and what a serial one leaves."""
    folder = tmp_path_factory.mktemp("serial")
    file = wells(folder / "study")
    (folder / "site.yaml").write_text(SITE.replace("PYTHON", forked_python()))
    arguments = ["sweep", str(file), "--set", "grid.count=5,7", "--set", "confirm=true"]
    arguments += ["--site", str(folder / "site.yaml")]
    done = command(*arguments, "--executor", "serial", "--out", folder / "sweep")
    assert done.returncode == 0, done.stderr
    return arguments, found(folder)


def found(folder: Path) -> dict[str, str]:
    """What a sweep leaves, but for the file that says from where to where."""
    return {file: sha256 for file, sha256 in contents(folder / "sweep").items() if file != "sweep.json"}


@pytest.mark.parametrize("executor", ["slurm", slow("dask")])
def test_the_bytes_are_those_of_a_serial_sweep(
    cluster: SlurmCluster, serial: tuple[list[str], dict[str, str]], tmp_path: Path, executor: str
) -> None:
    arguments, expected = serial
    program = [forked_python(), "-m", "landscaper_hpc.cli", *arguments, "--executor", executor]
    environment = {"PYTHONPATH": str(ROOT)}
    done = cluster.run(*program, "--out", str(tmp_path / "sweep"), env=environment, check=False, seconds=800)
    assert done.returncode == 0, done.stderr
    assert found(tmp_path) == expected
