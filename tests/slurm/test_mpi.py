"""MPI over the nodes of the test cluster: MPICH under srun's pmi2."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import forked_python

from tests.slurm.cluster import ROOT, SlurmCluster

_WHO = """
from landscaper_hpc.parallel.comm import world
ranks = world()
from mpi4py import MPI
print(ranks.rank, ranks.size, MPI.Get_processor_name())
"""
_OF_THE_RUN = ("seconds", "peak_rss_mb", "planned_mb", "blocks", "block_shape", "ranks")


def topology(cluster: SlurmCluster, field: Path, *srun: str) -> tuple[dict[str, Any], list[Any]]:
    """What `landscaper-hpc topology --json` finds, and what its ranks tell of themselves."""
    command = (forked_python(), "-m", "landscaper_hpc.cli", "topology", str(field), "--json", "--threads=1")
    environment = {"PYTHONPATH": str(ROOT)}
    if srun:
        out = cluster.srun(*srun, *command, seconds=200, env=environment)
    else:
        out = cluster.run(*command, seconds=200, env=environment).stdout
    found = json.loads(out)  # one object: one rank speaks
    return {key: value for key, value in found.items() if key not in _OF_THE_RUN}, found["ranks"]


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(11)
    file = tmp_path_factory.mktemp("field") / "field.npy"
    np.save(file, np.round(rng.random((13, 11, 10, 9)), 3))  # rounded: many ties
    return file


@pytest.mark.parametrize(("nodes", "ranks"), [(4, 4), (2, 6)])
def test_ranks_on_several_nodes_make_one_world(cluster: SlurmCluster, nodes: int, ranks: int) -> None:
    out = cluster.srun(
        f"-N{nodes}", f"-n{ranks}", "--mpi=pmi2", sys.executable, "-c", _WHO, env={"PYTHONPATH": str(ROOT)}
    )
    who = sorted(line.split() for line in out.splitlines())
    assert [(rank, size) for rank, size, _ in who] == [(str(i), str(ranks)) for i in range(ranks)]
    assert len({host for _, _, host in who}) == nodes


def test_topology_is_the_same_on_several_nodes(cluster: SlurmCluster, field: Path) -> None:
    alone, ranks = topology(cluster, field)
    assert len(ranks) == 1
    assert alone["shape"] == [13, 11, 10, 9]
    assert alone["n_minima"] > 1000
    found, ranks = topology(cluster, field, "-N2", "-n4", "--mpi=pmi2")
    assert len(ranks) == 4
    assert found == alone


@pytest.mark.parametrize("mpi", ["none", "pmix"])
def test_a_launcher_that_does_not_fit_is_refused(cluster: SlurmCluster, field: Path, mpi: str) -> None:
    """MPICH needs pmi2. With none every rank would be a world of its own, and each would print a result."""
    command = (sys.executable, "-m", "landscaper_hpc.cli", "topology", str(field), "--json")
    srun = ("srun", "-I20", "-N2", "-n2", f"--mpi={mpi}")
    done = cluster.run(*srun, *command, check=False, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 2
    assert done.stdout == ""
    said = {"none": "the launcher started 2 ranks but MPI sees 1", "pmix": "ranks by PMIx, which MPICH does not know"}
    assert said[mpi] in done.stderr
    assert "--mpi=pmi2 for MPICH" in done.stderr
