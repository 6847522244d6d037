"""Functions whose minima and saddles are known, as surfaces with exact derivatives, on grids."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.func import grad_and_value, hessian, vmap

from landscaper_hpc.grid import Axis, Grid


class Analytic:
    """f of a tensor (n,), as a `Surface`; counts what is asked."""

    rounding = 2.2e-16

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        self._both, self._second, self._value = vmap(grad_and_value(f)), vmap(hessian(f)), vmap(f)

    def gradients(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slopes, values = self._both(torch.from_numpy(points))
        return values.numpy(), slopes.numpy()

    def hessians(self, points: np.ndarray) -> np.ndarray:
        return self._second(torch.from_numpy(points)).numpy()

    def on(self, grid: Grid) -> np.ndarray:
        points = np.stack(np.meshgrid(*grid.coordinates(), indexing="ij"), axis=-1).reshape(-1, grid.ndim)
        return self._value(torch.from_numpy(points)).numpy().reshape(grid.shape)


def cube(n: int, half: float, count: int) -> Grid:
    return Grid((Axis(-half, half, count),) * n)


def rastrigin(x: Tensor) -> Tensor:
    return (10 + x.square() - 10 * torch.cos(2 * torch.pi * x)).sum()


def wells(x: Tensor) -> Tensor:
    """Two minima along each axis, at different heights: 2ⁿ in all."""
    weight = torch.arange(1, len(x) + 1, dtype=x.dtype)
    return (weight * (x.square() - 1).square() + 0.1 * weight.sqrt() * x).sum()


def mueller_brown(x: Tensor) -> Tensor:
    A = torch.tensor([-200.0, -100.0, -170.0, 15.0], dtype=x.dtype)
    a = torch.tensor([-1.0, -1.0, -6.5, 0.7], dtype=x.dtype)
    b = torch.tensor([0.0, 0.0, 11.0, 0.6], dtype=x.dtype)
    c = torch.tensor([-10.0, -10.0, -6.5, 0.7], dtype=x.dtype)
    u = x[0] - torch.tensor([1.0, 0.0, -0.5, -1.0], dtype=x.dtype)
    v = x[1] - torch.tensor([0.0, 0.5, 1.5, 1.0], dtype=x.dtype)
    return (A * torch.exp(a * u * u + b * u * v + c * v * v)).sum()


MUELLER_BROWN = Grid((Axis(-1.5, 1.2, 41), Axis(-0.2, 2.0, 41)))


def bends(seed: int) -> Callable[[Tensor], Tensor]:
    """A valley that winds through the plane, with shallow minima along it."""
    K, a, phase, tilt = map(torch.from_numpy, _drawn(seed))

    def f(x: Tensor) -> Tensor:
        floor = 0.4 * torch.sin(2 * x[0] + phase[0])
        return 30 * (x[1] - floor).square() + (a * torch.cos(K @ x + phase)).sum() + (x * tilt).sum()

    return f


def _drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.normal(0, 2, (6, 2)), draw.uniform(0.2, 1, 6), draw.uniform(0, 6.28, 6), draw.normal(0, 0.3, 2)


def bends_slopes(seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """The gradients of `bends` at points (m, 2), written out: a hundred times quicker than those that torch derives."""
    K, a, phase, tilt = _drawn(seed)

    def slopes(x: np.ndarray) -> np.ndarray:
        across = 60 * (x[:, 1] - 0.4 * np.sin(2 * x[:, 0] + phase[0]))
        valley = np.stack([-0.8 * np.cos(2 * x[:, 0] + phase[0]) * across, across], axis=1)
        return valley - (a * np.sin(x @ K.T + phase)) @ K + tilt

    return slopes


def valley(n: int, stiff: float = 1e5) -> Callable[[Tensor], Tensor]:
    """A quadratic that is flat along one slanted line and steep across it; its one minimum is at 0.1 on every axis."""
    rotation = np.linalg.qr(np.column_stack([np.arange(1, n + 1) ** 0.5, np.eye(n)[:, 1:]]))[0]
    H = torch.from_numpy(rotation @ np.diag([1.0] + [stiff] * (n - 1)) @ rotation.T)

    def f(x: Tensor) -> Tensor:
        return (x - 0.1) @ H @ (x - 0.1) / 2

    return f


class Waves:
    """A sum of waves in a bowl, or in a valley `10 ** stiff` times as steep across as along."""

    rounding = 2.2e-16

    def __init__(self, n: int, seed: int, stiff: float = 0.0) -> None:
        draw, m = np.random.default_rng(seed), 8 * n
        self._K, self._a = draw.normal(0, 2.0 if n < 5 else 1.5, (m, n)), draw.uniform(0.2, 1, m)
        self._phase = draw.uniform(0, 6.28, m)
        axes = np.linalg.qr(draw.normal(size=(n, n)))[0]
        self._A = axes.T @ np.diag(0.6 * 10.0 ** np.linspace(0, stiff, n)) @ axes

    def gradients(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        phase = points @ self._K.T + self._phase
        values = np.cos(phase) @ self._a + np.einsum("pi,ij,pj->p", points, self._A, points) / 2
        return values, -(np.sin(phase) * self._a) @ self._K + points @ self._A

    def hessians(self, points: np.ndarray) -> np.ndarray:
        phase = points @ self._K.T + self._phase
        return np.einsum("pm,mi,mj->pij", -np.cos(phase) * self._a, self._K, self._K) + self._A

    def on(self, grid: Grid) -> np.ndarray:
        points = np.stack(np.meshgrid(*grid.coordinates(), indexing="ij"), axis=-1).reshape(-1, grid.ndim)
        return self.gradients(points)[0].reshape(grid.shape)
