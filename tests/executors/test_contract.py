"""The contract of executors, kept on this machine: serial, local, MPI and Dask. `tests/slurm` has Slurm's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from forked import CLI, ranks, wait_for_ranks
from studies import need_jobqueue

from tests.executors.contract import ExecutorContract, OfManyProcesses, Way

if TYPE_CHECKING:
    from tests.executors.test_dask import Dask

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
        way = Way("local", options=("--workers", "2"))
        way.finishes = True
        return way


@pytest.mark.mpi
class TestMpi(OfManyProcesses):
    @pytest.fixture(scope="class")
    @classmethod
    def way(cls) -> Way:
        return OnRanks("mpi")


class TestDask(OfManyProcesses):
    @pytest.fixture(scope="class")
    @classmethod
    def way(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
        need_jobqueue()
        from tests.executors.test_dask import Dask

        with closing(Dask(tmp_path_factory.mktemp("dask"))) as dask:
            yield OnDask(dask)


class OnRanks(Way):
    def process(self, words: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(ranks(2, CLI, *words), text=True, **self.surroundings())

    def kill(self, process: subprocess.Popen[str]) -> None:
        super().kill(process)
        wait_for_ranks()


class OnDask(Way):
    """Its workers outlive it; one that a shard hung in does not."""

    finishes = others = True

    def __init__(self, dask: Dask) -> None:
        super().__init__("dask", options=("--set-site", f"dask.scheduler={dask.file}"), env=dask.tls)
        self._dask = dask

    def process(self, words: list[str]) -> subprocess.Popen[str]:
        self._dask.replace_ended()
        return super().process(words)
