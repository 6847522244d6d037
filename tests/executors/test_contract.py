"""The contract of executors, kept on this machine: serial, local, MPI and Dask. `tests/slurm` has Slurm's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.executors.contract import ExecutorContract, Way

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]  # each program imports a lot


class TestSerial(ExecutorContract):
    @pytest.fixture(scope="class")
    @classmethod
    def way(cls) -> Way:
        return Way("serial")


class TestLocal(ExecutorContract):
    @pytest.fixture(scope="class")
    @classmethod
    def way(cls) -> Way:
        return Way("local", options=("--workers", "2"))


@pytest.mark.mpi
class TestMpi(ExecutorContract):
    @pytest.fixture(scope="class")
    @classmethod
    def way(cls) -> Way:
        return Way("mpi", str(Path(sys.executable).with_name("mpiexec")), "-n", "2")


class TestDask(ExecutorContract):
    @pytest.fixture(scope="class")
    @classmethod
    def way(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
        pytest.importorskip("dask_jobqueue", reason="the extra `dask` is not installed")
        from tests.executors.test_dask import Dask

        with closing(Dask(tmp_path_factory.mktemp("dask"))) as dask:
            yield Way("dask", options=("--set-site", f"dask.scheduler={dask.file}"), env=dask.tls)
