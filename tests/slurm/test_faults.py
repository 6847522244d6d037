"""A few faults on the real cluster, each once. All of them, many times: `python -m tests.slurm.faults`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.slurm.cluster import SlurmCluster
from tests.slurm.faults.inject import inject
from tests.slurm.faults.scene import Undisturbed


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed.make(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["slurmd", "full_disk", "damage"])
def test_a_study_comes_through(cluster: SlurmCluster, undisturbed: Undisturbed, tmp_path: Path, fault: str) -> None:
    outcome = inject(cluster, undisturbed, fault, seed=1, folder=tmp_path)
    assert outcome.recovered
    assert outcome.bytes_equal
