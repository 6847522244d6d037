"""Streamed data give the same losses as data that stay on the device, and each copy is made once per round."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from problems import mlp_task

from landscaper_hpc.directions.directions import random_directions
from landscaper_hpc.directions.hessian import Hessian
from landscaper_hpc.errors import InputError
from landscaper_hpc.losses.evaluate import losses
from landscaper_hpc.objective.data import Streamed, bytes_in, placed
from landscaper_hpc.objective.objective import Objective

CPU = torch.device("cpu")


@pytest.mark.thorough
def test_streamed_data_give_the_same_bits() -> None:
    resident, streamed = Objective(mlp_task(batches=True)), Objective(mlp_task(batches=True))
    host = streamed.batches
    streamed.batches = Streamed(host, lambda batch: tuple(t.clone() for t in batch), CPU)
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (9, 2))
    for batch in (1, 4):
        a, b = (losses(o, random_directions(o, 2), points, batch) for o in (resident, streamed))
        assert a.tobytes() == b.tobytes()
    one, other = Hessian(resident), Hessian(streamed)
    assert torch.equal(one @ one.random(0), other @ other.random(0))


def test_one_copy_per_batch_and_round() -> None:
    copies: list[int] = []

    def place(i: int) -> int:
        copies.append(i)
        return 10 * i

    data = Streamed([0, 1, 2], place, CPU)
    assert list(data) == [0, 10, 20]
    assert [data[i] for i in range(3)] == [0, 10, 20]
    assert copies == [0, 1, 2, 0, 1, 2, 0]
    assert data[-1] == 20
    assert data[0:2] == [0, 10]
    assert placed([1, 2], lambda i: 10 * i, CPU, torch.float64) == [10, 20]


def test_what_data_take_is_counted_in_the_precision_of_the_study() -> None:
    batch = {"x": torch.zeros(4, 3), "z": torch.zeros(5, dtype=torch.complex64), "y": torch.zeros(4, dtype=torch.int64)}
    assert bytes_in([batch, batch], torch.float64) == 2 * (12 * 8 + 5 * 16 + 4 * 8)
    assert bytes_in([batch], torch.float32) == 12 * 4 + 5 * 8 + 4 * 8


def test_one_batch_that_does_not_fit_says_what_to_do() -> None:
    def place(_: object) -> None:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(InputError, match=r"Task\.data take 8e-09 GB.*a list of smaller batches"):
        placed([torch.zeros(1)], place, CPU, torch.float64)
