"""Eigenvectors by PyHessian's own power iteration, for directions of published landscapes (Yao et al. 2020; Landscaper
1.3.1 has a copy of it): the loop is that package's, the products are this one's, proved against the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscaper_hpc.directions.directions import Directions, make_directions
from landscaper_hpc.directions.hessian import Hessian
from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import arithmetic, one_thread
from landscaper_hpc.progress import Progress, silent


def power_iteration_directions(
    objective: Objective,
    n: int,
    *,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
    seed: int = 0,
    normalization: str = "model",
    progress: Progress = silent,
) -> Directions:
    """The vectors that `pyhessian.hessian.eigenvalues` ends with: near eigenvectors of largest |λ|, one by one.

    Parameters
    ----------
    objective
        The loss.
    n
        How many.
    tolerance
        PyHessian's `tol`: it ends where the estimate of λ changes by less than this share from one step to the next,
        which says nothing of the residual.
    max_iterations
        PyHessian's `maxIter`: the most products for each vector; 100 there by default.
    seed
        Of torch's generator, which draws the start vectors as PyHessian does after `torch.manual_seed(seed)`.
    normalization
        How long they are: a name in the registry; `landscaper` for Landscaper's points.
    progress
        Called with the products done, and the most.

    Returns
    -------
    Directions
        With PyHessian's estimates of the eigenvalues, in the order in which they were found, and the residuals
        ‖Hv − λv‖ / |λ| with v of length 1, (n,). Signs are as they came.

    Raises
    ------
    InputError
        Where pyhessian is not installed, for complex parameters, and where the loss has no Hessian that agrees with it.

    References
    ----------
    Yao et al., *PyHessian: Neural Networks Through the Lens of the Hessian* (2020).
    """
    try:
        from pyhessian.hessian import hessian as PyHessian  # noqa: N812
    except ImportError:
        raise InputError(
            "directions.solver is pyhessian, which is not installed; pip install 'landscaper-hpc[pyhessian]'"
        ) from None
    if any(p.is_complex() for p in objective.parameters.values()):
        raise InputError("directions.solver: pyhessian has no complex parameters; use lanczos")
    with one_thread(objective.device), arithmetic("float32", objective.device):
        ours = Hessian(objective)
        layout = ours.layout
        names = list(objective.parameters)
        most = n * max_iterations

        def product(v: Sequence[Tensor]) -> tuple[float, list[Tensor]]:
            progress(min(ours.products, most), most)
            flat = layout.flatten(dict(zip(names, v, strict=True))).to(objective.dtype)
            found = layout.unflatten((ours @ flat).detach())
            columns = [found[name] for name in names]
            return sum(float(torch.sum(a * b)) for a, b in zip(columns, v, strict=True)), columns

        theirs: Any = PyHessian.__new__(PyHessian)  # without its own evaluation of a model
        theirs.model = _NoGradients()
        theirs.device = objective.device
        theirs.params = [objective.parameters[name] for name in names]
        theirs.full_dataset = True
        theirs.dataloader_hv_product = product
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            values, vectors = theirs.eigenvalues(maxIter=max_iterations, tol=tolerance, top_n=n)
        products = ours.products
        flat = torch.stack([layout.flatten(dict(zip(names, v, strict=True))) for v in vectors]).to(objective.dtype)
        residuals = []
        for value, vector in zip(values, flat, strict=True):
            unit = vector / torch.linalg.vector_norm(vector)
            off = torch.linalg.vector_norm((ours @ unit) - value * unit)
            residuals.append(float(off) / abs(value) if value else np.inf)
    return make_directions(
        objective,
        "hessian",
        flat,
        normalization,
        eigenvalues=np.array(values, np.float64),
        residuals=np.array(residuals),
        iterations=products,
    )


class _NoGradients:
    """What PyHessian asks of a model between products."""

    def zero_grad(self) -> None: ...
