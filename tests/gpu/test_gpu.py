"""What must hold on a GPU as it does on a CPU: values, bits in any company, directions that do not depend on the
device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from problems import TASKS

from landscaper_hpc.directions.directions import hessian_directions, random_directions
from landscaper_hpc.directions.hessian import Hessian
from landscaper_hpc.errors import InputError
from landscaper_hpc.losses.evaluate import choose_batch, losses
from landscaper_hpc.objective.data import Streamed
from landscaper_hpc.objective.objective import Objective, Task
from landscaper_hpc.recording.cudagraph import _Captured, captured
from landscaper_hpc.recording.record import record

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

POINTS = np.random.default_rng(0).uniform(-0.3, 0.3, (40, 3))
TOLERANCE = {"float64": 1e-10, "float32": 1e-4, "tf32": 1e-2, "bf16": 5e-2}


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", TASKS)
def test_losses_are_those_of_the_cpu(name: str, precision: str) -> None:
    exact = Objective(TASKS[name]())
    expected = losses(exact, random_directions(exact, 3), POINTS)
    objective = Objective(TASKS[name](), precision=precision, device="cuda")
    directions = random_directions(objective, 3)
    for batch in (1, 8):
        np.testing.assert_allclose(losses(objective, directions, POINTS, batch), expected, rtol=TOLERANCE[precision])


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("name", TASKS)
def test_a_value_has_the_same_bits_in_any_company(name: str, batch: int) -> None:
    objective = Objective(TASKS[name](), precision="float32", device="cuda")
    directions = random_directions(objective, 3)
    values = losses(objective, directions, POINTS, batch)
    order = np.random.default_rng(1).permutation(len(POINTS))
    assert losses(objective, directions, POINTS[order], batch).tobytes() == values[order].tobytes()
    pieces = [losses(objective, directions, POINTS[i : i + 13], batch) for i in range(0, len(POINTS), 13)]
    assert np.concatenate(pieces).tobytes() == values.tobytes()


@pytest.mark.parametrize("name", TASKS)
def test_products_and_eigenvectors_are_those_of_the_cpu(name: str) -> None:
    here, there = (Objective(TASKS[name](), device=device) for device in ("cpu", "cuda"))
    a, b = Hessian(here), Hessian(there)
    assert torch.equal(a.random(3), b.random(3).cpu())
    torch.testing.assert_close((b @ b.random(3)).cpu(), a @ a.random(3), rtol=1e-8, atol=1e-10)
    first, second = (hessian_directions(o, 2, tolerance=1e-8, max_iterations=500) for o in (here, there))
    np.testing.assert_allclose(second.eigenvalues, first.eigenvalues, rtol=1e-8)
    for key, vector in first.vectors.items():
        torch.testing.assert_close(second.vectors[key].cpu(), vector, rtol=1e-4, atol=1e-6)


def wide() -> Objective:
    """16 MB of results for each point."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4000), nn.Tanh(), nn.Linear(4000, 1))
    task = Task(model, lambda model, x: model(x).square(), torch.randn(1000, 3))
    return Objective(task, precision="float32", device="cuda")


@pytest.fixture
def one_gigabyte() -> Iterator[None]:
    """More than what is taken already, and no more."""
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**30) / whole)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_batch_that_does_not_fit_is_not_chosen_and_says_so_when_forced(one_gigabyte: None) -> None:
    objective = wide()
    directions = random_directions(objective, 2)
    assert choose_batch(objective, directions, memory=1, seconds=0.01) == 1
    with pytest.raises(InputError, match=r"ran out of memory.*smaller batch"):
        losses(objective, directions, np.zeros((512, 2)), 512)
    chosen = choose_batch(objective, directions, memory=2**40, seconds=0.01)  # found out by trying
    assert chosen < 64
    assert np.isfinite(losses(objective, directions, np.zeros((3, 2)), chosen)).all()


# ---- CUDA graphs ----------------------------------------------------------------------------------------------------


def test_a_graph_gives_the_bits_of_what_it_captured_for_other_arguments() -> None:
    weights = torch.randn(50, 50, device="cuda")

    def many_small_operations(x: torch.Tensor) -> torch.Tensor:
        for _ in range(50):
            x = torch.tanh(x @ weights)
        return x.double().sum()

    example = torch.randn(50, 50, device="cuda")
    recorded = record(many_small_operations, example)
    replayed = captured(recorded, example)
    assert isinstance(replayed, _Captured)  # one launch is faster than a hundred
    kept = [(replayed(scale * example), recorded(scale * example)) for scale in (1.0, -0.5, 2.0)]
    assert all(torch.equal(a, b) for a, b in kept)


def test_what_waits_for_the_gpu_is_not_captured_and_does_no_harm() -> None:
    mask = torch.arange(100, device="cuda") % 3 == 0
    example = torch.randn(100, device="cuda", dtype=torch.float64)
    recorded = record(lambda x: x[mask].sum(), example)
    stream = torch.cuda.current_stream()
    assert captured(recorded, example) is recorded
    assert torch.cuda.current_stream() == stream
    assert torch.cuda.get_sync_debug_mode() == 0
    test_a_graph_gives_the_bits_of_what_it_captured_for_other_arguments()


# ---- data -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_streamed_data_give_the_same_bits_and_take_three_batches(precision: str) -> None:
    batches = [torch.randn(4000, 1000) for _ in range(20)]  # 16 MB each

    def objective() -> Objective:
        torch.manual_seed(0)
        task = Task(nn.Linear(1000, 1), lambda model, x: model(x).square(), batches)
        return Objective(task, precision=precision, device="cuda")

    resident, streamed = objective(), objective()
    streamed.batches = Streamed([b.pin_memory() for b in batches], streamed.on_device, streamed.device)
    directions = random_directions(resident, 2)
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (10, 2))
    expected = losses(resident, directions, points)
    del resident
    found = losses(streamed, directions, points)
    assert found.tobytes() == expected.tobytes()
    batch = batches[0].numel() * (8 if precision == "float64" else 4)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    losses(streamed, directions, points)
    assert torch.cuda.max_memory_allocated() - before < 6 * batch  # not twenty, with copies in both precisions


def test_data_that_do_not_fit_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS["mlp, unequal batches"]
    resident = Objective(task(), device="cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (100, 100))
    streamed = Objective(task(), device="cuda")
    assert isinstance(streamed.batches, Streamed)
    directions = random_directions(resident, 3)
    assert losses(streamed, directions, POINTS).tobytes() == losses(resident, directions, POINTS).tobytes()


# ---- ranks ----------------------------------------------------------------------------------------------------------


def test_products_by_nccl(tmp_path: Path) -> None:
    dist.init_process_group("nccl", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        objective = Objective(TASKS["mlp, unequal batches"](), device="cuda")
        alone, together = Hessian(objective), Hessian(objective, group=dist.group.WORLD)
        v = alone.random(0)
        torch.testing.assert_close(together @ v, alone @ v, rtol=1e-12, atol=1e-14)
    finally:
        dist.destroy_process_group()
