"""Random models and losses against plain evaluation and differences of losses. A seed that fails names its case; the
fault becomes a test of its own where it belongs."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from fuzz.generator import MORE, case

from landscaper_hpc.directions.directions import random_directions
from landscaper_hpc.directions.hessian import Hessian
from landscaper_hpc.losses.evaluate import losses
from landscaper_hpc.objective.flat_layout import Layout
from landscaper_hpc.objective.objective import Objective
from tests.kinds import slow

MINUTE, HOUR = 40, 3600
FOUND = (78, 268, 446, 10287)  # faults, once: they are in every minute


def prove(seed: int) -> None:
    found = case(seed)
    objective = Objective(found.task)
    where = f"seed {seed}: {found.words}"
    prove_losses(objective, seed, where)
    prove_hessian(objective, found.kinked, where)


def prove_losses(objective: Objective, seed: int, where: str) -> None:
    """Values are those of the plain loss, and have the same bits in another order."""
    directions = random_directions(objective, 2, seed=seed)
    points = np.random.default_rng(seed).uniform(-0.5, 0.5, (12, 2))
    plain = []
    for alpha in points:
        shifts = {k: torch.tensordot(torch.from_numpy(alpha), u, 1) for k, u in directions.vectors.items()}
        plain.append(float(objective.loss({k: p + shifts[k] for k, p in objective.parameters.items()}).detach()))
    order = np.random.default_rng(seed + 1).permutation(len(points))
    for batch in (1, 4):
        values = losses(objective, directions, points, batch)
        np.testing.assert_allclose(values, plain, rtol=1e-8, atol=1e-12, err_msg=where)
        assert losses(objective, directions, points[order], batch).tobytes() == values[order].tobytes(), where


def prove_hessian(objective: Objective, kinked: bool, where: str) -> None:
    """w'Hv is that of Richardson's second differences of the losses; of a kinked loss, it is symmetric at least."""
    hessian = Hessian(objective)
    assert torch.isfinite(hessian.start(0)).all(), where
    v, w = hessian.random(1), hessian.random(2)
    product, across = hessian @ v, hessian @ w
    scale = float(product.norm() * w.norm()) / len(w) ** 0.5
    assert float(w @ product) == pytest.approx(float(v @ across), rel=1e-5, abs=1e-5 * scale + 1e-9), where
    if kinked:
        return
    layout = Layout.of(objective.parameters)
    theta = layout.flatten(objective.parameters)

    def mixed(h: float) -> float:
        def loss(s: int, t: int) -> float:
            return float(objective.loss(layout.unflatten(theta + h * (s * v + t * w))).detach())

        return (loss(1, 1) - loss(1, -1) - loss(-1, 1) + loss(-1, -1)) / (4 * h * h)

    steps = [mixed(2e-3 / 2**k) for k in range(3)]
    once = [(4 * fine - coarse) / 3 for coarse, fine in itertools.pairwise(steps)]
    twice = (16 * once[1] - once[0]) / 15
    rough = 10 * abs(twice - once[1])  # how far the differences themselves can be trusted
    assert float(w @ product) == pytest.approx(twice, rel=1e-3, abs=1e-3 * scale + rough + 1e-6), where


FEW = (*range(0, MINUTE, 4), *range(MORE, MORE + 10, 4), *FOUND)
ALL = (*range(MINUTE), *range(MORE, MORE + 10), *FOUND)


@pytest.mark.parametrize("seed", [*FEW, *(slow(s) for s in ALL if s not in FEW)])  # as the hour's, which are more
@pytest.mark.thorough
def test_a_random_model(seed: int) -> None:
    prove(seed)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_an_hour_of_random_models() -> None:
    with warnings.catch_warnings():
        for start in (MINUTE, MORE):
            for seed in range(start, start + HOUR // 2):
                prove(seed)
