"""Trace and density against matrices whose eigenvalues are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from problems import TASKS, dense_hessian_of

from landscaper_hpc.directions.hessian import Hessian
from landscaper_hpc.directions.spectrum import spectral_density, trace
from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.objective import Objective
from tests.directions.test_hessian import SPECTRA, symmetric
from tests.kinds import kinds


def operator(values: np.ndarray, seed: int = 0):
    a = torch.from_numpy(symmetric(values))

    def random(i: int) -> torch.Tensor:
        return torch.randn(len(a), dtype=torch.float64, generator=torch.Generator().manual_seed(1000 * seed + i))

    return lambda v: a @ v, random, len(a)


@pytest.mark.parametrize("name", kinds(SPECTRA, "low rank", "tiny"))
def test_trace_is_within_its_error(name: str) -> None:
    values = SPECTRA[name]
    found = [trace(*operator(values, seed), products=24) for seed in range(8)]
    errors = np.array([abs(f.value - values.sum()) for f in found])
    stated = np.array([f.standard_error for f in found])
    assert (errors <= 5 * stated + 1e-9 * np.abs(values).sum()).all()
    assert all(f.products <= 24 for f in found)


@pytest.mark.thorough
def test_trace_finds_low_rank_exactly_and_falls_faster_than_its_root() -> None:
    low = trace(*operator(SPECTRA["low rank"]), products=12)
    assert low.value == pytest.approx(2.0, abs=1e-9)
    values = 1.0 / np.arange(1, 400) ** 2
    coarse, fine = (trace(*operator(values), products=p).standard_error for p in (20, 80))
    assert fine < coarse / 8  # plain Hutchinson would halve it
    everything = trace(*operator(SPECTRA["tiny"]), products=40)
    assert everything.value == pytest.approx(-1.0)
    assert everything.standard_error == 0
    with pytest.raises(InputError, match="at least 4"):
        trace(*operator(SPECTRA["tiny"]), products=2)


@pytest.mark.thorough
def test_density_integrates_moments() -> None:
    values = SPECTRA["hessian-like"]
    found = spectral_density(*operator(values), probes=30, steps=40)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-10)
    for f in (lambda x: x, np.square, np.exp if values.max() < 50 else np.abs):
        mean, error = found.mean_of(f)
        assert abs(mean - f(values).mean()) <= 5 * error + 1e-10


@pytest.mark.thorough
def test_density_of_a_known_spectrum() -> None:
    values = np.repeat([-1.0, 0.5, 2.0], [100, 200, 100])
    found = spectral_density(*operator(values), probes=40, steps=10)
    grid = np.linspace(-2, 3, 501)
    density, error = found.on(grid, 0.1)
    exact = np.exp(-0.5 * ((grid[:, None] - values) / 0.1) ** 2).mean(axis=1) / (0.1 * np.sqrt(2 * np.pi))
    assert np.abs(density - exact).max() < 0.1 * exact.max()
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=1e-3)
    assert error.max() < 0.1 * exact.max()


@pytest.mark.thorough
def test_of_a_network() -> None:
    objective = Objective(TASKS["transformer"]())
    eigenvalues = np.linalg.eigvalsh(dense_hessian_of("transformer").numpy())
    h = Hessian(objective)
    found = trace(h.__matmul__, h.random, h.layout.dimension, products=60)
    assert abs(found.value - eigenvalues.sum()) <= 5 * found.standard_error
    density = spectral_density(h.__matmul__, h.random, h.layout.dimension, probes=4, steps=30)
    assert density.nodes.max() == pytest.approx(eigenvalues.max(), rel=1e-3)
    mean, error = density.mean_of(np.square)
    assert abs(mean - np.square(eigenvalues).mean()) <= 5 * error
