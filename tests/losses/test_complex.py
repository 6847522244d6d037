"""Complex parameters are the pairs of real numbers that they are made of, in every way that they are used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from landscaper_hpc.directions.directions import hessian_directions, random_directions
from landscaper_hpc.directions.gradient import gradient
from landscaper_hpc.directions.hessian import MODES, Hessian
from landscaper_hpc.losses.evaluate import losses
from landscaper_hpc.objective.objective import Objective, Task


class Waves(nn.Module):
    """|W x|² b with a complex W, or with W as pairs of real numbers."""

    def __init__(self, as_complex: bool) -> None:
        super().__init__()
        pairs = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0))
        self.as_complex = as_complex
        self.w = nn.Parameter(torch.view_as_complex(pairs) if as_complex else pairs)
        self.b = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))

    def forward(self, x: Tensor) -> Tensor:
        if self.as_complex:
            return (x.to(self.w.dtype) @ self.w.T).abs().square() * self.b
        return ((x @ self.w[..., 0].T).square() + (x @ self.w[..., 1].T).square()) * self.b


def loss(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().sum(dim=1)


@pytest.fixture
def both() -> tuple[Objective, Objective]:
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(5, 2, generator=generator), torch.randn(5, 3, generator=generator)
    first, second = (Objective(Task(Waves(as_complex), loss, data)) for as_complex in (True, False))
    return first, second


@pytest.mark.parametrize("normalization", ["model", "layer", "filter"])
def test_losses(both: tuple[Objective, Objective], normalization: str) -> None:
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (7, 2))
    for batch in (1, 4):
        a, b = (losses(o, random_directions(o, 2, normalization=normalization), points, batch) for o in both)
        np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize("mode", MODES)
def test_products_and_gradients(both: tuple[Objective, Objective], mode: str) -> None:
    a, b = (Hessian(o, mode) for o in both)
    v = a.random(0)
    torch.testing.assert_close(a @ v, b @ v, rtol=1e-7 if mode == "finite differences" else 1e-12, atol=1e-7)
    torch.testing.assert_close(gradient(both[0]), gradient(both[1]), rtol=1e-12, atol=1e-12)


def test_eigenvectors(both: tuple[Objective, Objective]) -> None:
    a, b = (hessian_directions(o, 3, tolerance=1e-9) for o in both)
    np.testing.assert_allclose(a.eigenvalues, b.eigenvalues, rtol=1e-10)
    torch.testing.assert_close(torch.view_as_real(a.vectors["w"]), b.vectors["w"], rtol=1e-6, atol=1e-7)
