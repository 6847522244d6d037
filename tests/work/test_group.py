"""Studies of a model that several processes hold together, against the same model in one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from landscaper_hpc import InputError, Site, Study, run
from landscaper_hpc.work import group

pytestmark = pytest.mark.processes

TASK = """
import os, signal
from pathlib import Path

import torch
from torch import nn

from landscaper_hpc import Task


def task(shard="0.*", skew=False):
    torch.manual_seed(3)
    blocks = nn.Sequential(*(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6)) for _ in range(2)))
    model = nn.Sequential(blocks, nn.LayerNorm(6), nn.Linear(6, 2))
    generator = torch.Generator().manual_seed(rank() if skew else 1)
    data = [(torch.randn(k, 6, generator=generator), torch.randn(k, 2, generator=generator)) for k in (5, 4, 3, 5)]
    return Task(model, loss, data, shard={"tensor": tensor_parallel, "whole": whole, "none": None}.get(shard, shard))


def loss(model, batch):
    marked = Path(__file__).with_name(f"kill.{rank()}")
    if marked.exists():
        marked.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return (model(batch[0]) - batch[1]).square().sum(1)


def rank():
    from torch.distributed import get_rank, is_initialized

    return get_rank() if is_initialized() else None


def tensor_parallel(model, mesh):
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    for block in model[0]:
        parallelize_module(block, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


def whole(model, mesh):
    from torch.distributed.fsdp import fully_shard

    fully_shard(model[2], mesh=mesh)
"""

STUDY = """\
name: s
task: task.py
checkpoints: [{name: a, file: a.pt, options: {shard: SHARD}}]
directions: {kind: random, n: 2, normalization: layer}
grid: {count: 3, range: 0.5}
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("group")
    (folder / "task.py").write_text(TASK)
    namespace: dict[str, object] = {"__file__": str(folder / "task.py"), "__name__": "task"}
    exec(TASK, namespace)
    task: Callable[[], object] = namespace["task"]  # type: ignore[assignment]
    torch.save(task().model.state_dict(), folder / "a.pt")  # type: ignore[attr-defined]
    return folder


def study(base: Path, shard: str = "0.*", more: str = "") -> Study:
    file = base / f"study.{abs(hash((shard, more)))}.yaml"
    file.write_text(STUDY.replace("SHARD", repr(shard) + more))
    return Study.load(file)


def site(size: int, executor: str = "serial") -> Site:
    return Site(executor=executor, workers=1, gpus_per_model=size, shard_points=3)


def losses(folder: Path) -> np.ndarray:
    return np.asarray(zarr.open_group(folder / "study.zarr", mode="r", path="a")["loss"][:])


@pytest.fixture(scope="module")
def alone(base: Path) -> np.ndarray:
    run(study(base), site(1), base / "alone")
    return losses(base / "alone")


@pytest.fixture(scope="module")
def two(base: Path) -> np.ndarray:
    run(study(base), site(2), base / "two")
    group.end()
    return losses(base / "two")


def test_losses_are_those_of_the_whole_model(base: Path, alone: np.ndarray, two: np.ndarray) -> None:
    np.testing.assert_allclose(two, alone, rtol=1e-13)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_group_that_loses_a_process_begins_anew_with_the_same_bytes(
    base: Path, two: np.ndarray, rank: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder = base / f"killed{rank}"
    (base / f"kill.{rank}").touch()
    with caplog.at_level(logging.WARNING):
        run(study(base), site(2, "local"), folder)
    assert not (base / f"kill.{rank}").exists()
    lost = "have lost rank 1, which was ended by signal 9" if rank else "a worker process died"
    assert lost in caplog.text
    assert np.array_equal(losses(folder), two)


def test_another_number_of_processes_is_refused_unless_it_is_accepted(base: Path, two: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"begun with gpus_per_model 2, and here is gpus_per_model 1.*accept-versions"):
        from landscaper_hpc.store.landscape import LandscapeStore
        from landscaper_hpc.work.identity import provenance

        LandscapeStore(base / "two" / "study.zarr", "a").admit(provenance(site(1)), False)


def test_tensor_parallel_parts_give_the_same(base: Path, alone: np.ndarray) -> None:
    run(study(base, "tensor"), site(2), base / "tensor")
    group.end()
    np.testing.assert_allclose(losses(base / "tensor"), alone, rtol=1e-12)


@pytest.mark.parametrize(
    ("shard", "more", "said"),
    [
        ("none", "", "does not say how its model is sharded"),
        ("1.*", "", "names no module"),
        ("whole", "", "leaves .* whole on every rank"),
        ("0.*", ", skew: true", "the ranks of a group differ in data: rank 1"),
    ],
)
def test_what_cannot_be_held_together_is_refused(base: Path, shard: str, more: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(study(base, shard, more), site(2), base / f"refused{abs(hash(said))}")
    assert group.rank is None
