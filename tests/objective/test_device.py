"""One process per GPU, whoever starts the processes."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

from landscaper_hpc.executors import LocalMapper
from landscaper_hpc.objective.device import _LOCAL_RANKS, LOCAL_RANK, local_device
from landscaper_hpc.progress import Progress


@pytest.fixture(autouse=True)
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for name in _LOCAL_RANKS:
        monkeypatch.delenv(name, raising=False)


def test_only_plain_cuda_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_LOCALID", "2")
    assert [local_device(d) for d in ("cpu", "cuda:3", "cuda")] == ["cpu", "cuda:3", "cuda:2"]


@pytest.mark.parametrize("name", _LOCAL_RANKS)
def test_every_launcher_is_understood(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "5")
    assert local_device("cuda") == "cuda:1"


def test_nobody_said_a_rank() -> None:
    assert local_device("cuda") == "cuda:0"


def test_a_rank_nearer_to_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """mpiexec inside a Slurm step of one task: every rank sees SLURM_LOCALID=0."""
    monkeypatch.setenv("SLURM_LOCALID", "0")
    monkeypatch.setenv("MPI_LOCALRANKID", "3")
    assert local_device("cuda") == "cuda:3"


def say_rank(folder: Path, progress: Progress) -> None:
    import time

    (folder / os.environ[LOCAL_RANK]).touch()
    deadline = time.monotonic() + 240
    while len(list(folder.iterdir())) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.processes
def test_workers_of_a_pool_have_ranks_of_their_own(tmp_path: Path) -> None:
    with closing(LocalMapper(3)) as executor:
        list(executor.map_unordered(say_rank, [tmp_path] * 3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1", "2"]


@pytest.mark.processes
def test_memory_that_was_freed_is_used_again_without_the_system() -> None:
    """Two tensors of 4 MB, again and again: without the setting they bring their 2,000 pages anew each time."""
    code = """
import resource, torch
from landscaper_hpc.objective.device import keep_freed_memory
keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def allocate():
    first, second = torch.empty(1 << 20).fill_(1), torch.empty(1 << 20).fill_(2)
for _ in range(10):
    allocate()
before = faults()
for _ in range(20):
    allocate()
print(faults() - before)
"""
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert int(found) < 20 * 2000 / 10
