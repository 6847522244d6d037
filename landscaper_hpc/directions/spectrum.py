"""Trace and spectral density of a symmetric operator from products with random vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscaper_hpc.directions.lanczos import Product, norm_of
from landscaper_hpc.errors import InputError
from landscaper_hpc.progress import Progress, silent


@dataclass(frozen=True)
class Trace:
    """`value`, its `standard_error` (0 where the trace is exact), and the `products` spent."""

    value: float
    standard_error: float
    products: int


def trace(
    product: Product, random: Callable[[int], Tensor], dimension: int, products: int = 40, progress: Progress = silent
) -> Trace:
    """The trace of a symmetric operator by XTrace, with its standard error.

    Half of the products build a subspace in which the trace is exact, the other half what is left outside; each random
    vector is left out of the subspace in turn, which gives the standard error. With few large eigenvalues the error
    falls like 1/products, not like its root.

    Parameters
    ----------
    product
        v ↦ Hv for flat vectors of shape (dimension,).
    random
        `random(i)` gives the i-th standard normal vector.
    dimension
        Of the vectors.
    products
        How many to spend; at least 4.
    progress
        Called with the products done, and their number.

    Returns
    -------
    Trace
        `value` and `standard_error`, in the operator's unit.

    Raises
    ------
    InputError
        For fewer than 4 products.

    References
    ----------
    E. Epperly, J. Tropp and R. Webber, XTrace: Making the Most of Every Sample in Stochastic Trace Estimation, SIAM J.
    Matrix Anal. Appl. 45 (2024), section 2.2, with the scaling of section 2.3.
    """
    k = products // 2
    if k < 2:
        raise InputError(f"a trace needs at least 4 Hessian-vector products, found {products}")
    k = min(k, dimension)
    omega = torch.stack([random(i) for i in range(k)])
    omega *= dimension**0.5 / torch.linalg.vector_norm(omega, dim=1, keepdim=True)
    y = _apply(product, omega, 0, 2 * k, progress)
    basis = torch.linalg.qr(y.T)[0].T.contiguous()  # rows; Q of the paper, transposed
    z = _apply(product, basis, k, 2 * k, progress)
    # from here on k x k matrices, columns as in the paper
    h, r, w = ((basis @ m.T).double().cpu().numpy() for m in (z, y, omega))
    omega_y = (omega * y).sum(dim=1).double().cpu().numpy()
    if not np.isfinite(h).all():
        raise InputError("a Hessian-vector product is not finite; the loss has no finite curvature at the checkpoint")
    whole = float(np.trace(h))
    if k == dimension:
        return Trace(whole, 0.0, 2 * k)
    estimates = np.empty(k)
    for i in range(k):
        # the subspace of all test vectors but i, in coordinates of the basis; smaller still where the rank is low
        u, singular, _ = np.linalg.svd(np.delete(r, i, axis=1), full_matrices=False)
        u = u[:, singular > 100 * torch.finfo(omega.dtype).eps * max(singular[0], 1e-300)]
        x = u @ (u.T @ w[:, i])
        outside = omega_y[i] - 2 * x @ r[:, i] + x @ h @ x
        scale = (dimension - u.shape[1]) / max(dimension - x @ x, 1e-12 * dimension)
        estimates[i] = np.trace(u.T @ h @ u) + scale * outside
    return Trace(float(estimates.mean()), float(estimates.std(ddof=1) / k**0.5), 2 * k)


@dataclass(frozen=True)
class SpectralDensity:
    """Quadrature of the spectral density: `nodes` and `weights`, shape (probes, steps); the weights of a probe sum to
    1, so the density of all `dimension` eigenvalues integrates to 1."""

    nodes: NDArray[np.float64]
    weights: NDArray[np.float64]
    dimension: int

    def on(self, grid: NDArray[np.float64], width: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The density smoothed by a Gaussian of standard deviation `width` at `grid` (m,), and its standard error over
        the probes, each shape (m,)."""
        bumps = np.exp(-0.5 * ((grid[:, None, None] - self.nodes) / width) ** 2) / (width * np.sqrt(2 * np.pi))
        per_probe = (bumps * self.weights).sum(axis=2)
        error = (
            per_probe.std(axis=1, ddof=1) / per_probe.shape[1] ** 0.5
            if per_probe.shape[1] > 1
            else np.full(len(grid), np.nan)
        )
        return per_probe.mean(axis=1), error

    def mean_of(self, f: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> tuple[float, float]:
        """The mean of f over all eigenvalues, and its standard error over the probes."""
        per_probe = (f(self.nodes) * self.weights).sum(axis=1)
        error = float(per_probe.std(ddof=1) / len(per_probe) ** 0.5) if len(per_probe) > 1 else float("nan")
        return float(per_probe.mean()), error


def spectral_density(
    product: Product,
    random: Callable[[int], Tensor],
    dimension: int,
    *,
    probes: int = 8,
    steps: int = 40,
    progress: Progress = silent,
) -> SpectralDensity:
    """The spectral density of a symmetric operator, by stochastic Lanczos quadrature with full reorthogonalisation.

    Parameters
    ----------
    product
        v ↦ Hv for flat vectors of shape (dimension,).
    random
        `random(i)` gives the i-th standard normal vector.
    dimension
        Of the vectors.
    probes, steps
        Random vectors, and Lanczos steps for each: probes · steps products.
    progress
        Called with the products done, and their number.

    Returns
    -------
    SpectralDensity
        `nodes` and `weights`, both (probes, steps); the weights of a probe add up to 1.

    References
    ----------
    S. Ubaru, J. Chen and Y. Saad, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature, SIAM J. Matrix Anal.
    Appl. 38 (2017), section 3.
    """
    steps = min(steps, dimension)
    nodes, weights = np.zeros((probes, steps)), np.zeros((probes, steps))
    for i in range(probes):
        t = _tridiagonal(product, random(i), steps)
        progress((i + 1) * steps, probes * steps)
        theta, s = np.linalg.eigh(t)
        nodes[i, : len(t)], weights[i, : len(t)] = theta, s[0] ** 2
    return SpectralDensity(nodes, weights, dimension)


def _tridiagonal(product: Product, start: Tensor, steps: int) -> NDArray[np.float64]:
    """The projection on the Krylov space of `start`, at most (steps, steps); smaller where that space is exhausted."""
    q = start.new_zeros(steps, len(start))
    q[0] = start / torch.linalg.vector_norm(start)
    t = np.zeros((steps, steps))
    for j in range(steps):
        w = product(q[j])
        t[j, j] = float(w @ q[j])
        for _ in range(2):
            w = w - (q[: j + 1] @ w) @ q[: j + 1]
        beta = norm_of(w)
        if not np.isfinite(beta):
            raise InputError(
                "a Hessian-vector product is not finite; the loss has no finite curvature at the checkpoint"
            )
        if j + 1 == steps or beta <= 1e-6 * np.abs(t[: j + 1, : j + 1]).max():
            return t[: j + 1, : j + 1]
        t[j, j + 1] = t[j + 1, j] = beta
        q[j + 1] = w / beta
    return t


def _apply(product: Product, rows: Tensor, done: int, total: int, progress: Progress) -> Tensor:
    results = []
    for i, row in enumerate(rows):
        results.append(product(row))
        progress(done + i + 1, total)
    return torch.stack(results)
