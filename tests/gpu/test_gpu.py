"""What must hold on a GPU as it does on a CPU: values, bits in any company, directions that do not depend on the
device."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from problems import TASKS

from landscaper_hpc.directions import hessian_directions, random_directions
from landscaper_hpc.errors import InputError
from landscaper_hpc.evaluate import choose_batch, losses
from landscaper_hpc.hessian import Hessian
from landscaper_hpc.objective import Objective

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


def test_a_batch_that_does_not_fit_is_not_chosen_and_says_so_when_forced() -> None:
    objective = Objective(TASKS["cnn"](), precision="float32", device="cuda")
    directions = random_directions(objective, 2)
    assert choose_batch(objective, directions, memory=1, seconds=0.01) == 1
    free = torch.cuda.mem_get_info()[0]
    hog = torch.empty(int(0.97 * free), dtype=torch.uint8, device="cuda")
    try:
        with pytest.raises(InputError, match=r"ran out of memory.*smaller batch"):
            losses(objective, directions, np.zeros((200_000, 2)), 200_000)
    finally:
        del hog
        torch.cuda.empty_cache()
