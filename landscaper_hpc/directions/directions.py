"""n directions in parameter space: Hessian eigenvectors, random ones, or from a file; normalised as one of
`normalizations/` says. Only `unit` and `model` keep orthogonality: see `gram`.

(Longer than most modules by the docstrings of the API.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from landscaper_hpc.directions.gradient import gradient
from landscaper_hpc.directions.hessian import Hessian
from landscaper_hpc.directions.lanczos import Order, by_magnitude, eigenpairs
from landscaper_hpc.directions.orthonormal import orthonormalize
from landscaper_hpc.errors import InputError, list_some
from landscaper_hpc.objective.checkpoints import read_checkpoint
from landscaper_hpc.objective.flat_layout import Layout, spans
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import arithmetic, one_thread
from landscaper_hpc.progress import Progress, silent
from landscaper_hpc.study.choices import NORMALIZATIONS


@dataclass(frozen=True, eq=False)
class Directions:
    """n directions in parameter space, as they are added to theta*.

    Attributes
    ----------
    vectors
        By parameter name, (n, *parameter shape), in the parameters' own unit.
    kind, normalization
        How they were found, and how long they are: names in the registries.
    gram
        (n, n) inner products of the u_i (real part, for complex parameters).
    eigenvalues
        (n,) of the Hessian, ordered by |λ|, in losses per squared unit of the parameters; None for other kinds.
    residuals
        (n,) ‖Hv − λv‖ / |λ|, of the eigenvectors.
    iterations
        The number of Hessian-vector products.
    explained
        (n,) the share of the squared distances of a training run that each holds, of principal components.
    """

    vectors: dict[str, Tensor]
    kind: str
    normalization: str
    gram: NDArray[np.float64]
    eigenvalues: NDArray[np.float64] | None = None
    residuals: NDArray[np.float64] | None = None
    iterations: int | None = None
    explained: NDArray[np.float64] | None = None

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self.gram)


KEPT_IN = {"float32": torch.float32, "bf16": torch.bfloat16}
"""What the vectors of Lanczos may be held in."""


def hessian_directions(
    objective: Objective,
    n: int,
    *,
    tolerance: float = 1e-3,
    max_iterations: int = 200,
    seed: int = 0,
    normalization: str = "model",
    select: Order = by_magnitude,
    basis: int | None = None,
    basis_precision: str | None = None,
    group: dist.ProcessGroup | None = None,
    resume: Path | None = None,
    progress: Progress = silent,
) -> Directions:
    r"""Eigenvectors of the Hessian at the checkpoint, by Lanczos: those of largest \|λ\|, or those that `select` puts
    first.

    Parameters
    ----------
    objective
        The loss.
    n
        How many.
    tolerance
        The largest allowed residual, ‖Hv − λv‖ / \|λ\|.
    max_iterations
        The most Hessian-vector products.
    seed
        Of the start vector.
    normalization
        How long they are: a name in the registry (`model`: ‖u_i‖ = ‖θ*‖).
    select
        The order of preference of eigenvalues, shape (k,), as indices.
    basis
        How many vectors Lanczos holds, each as large as the parameters, before it restarts with the best of them.
    basis_precision
        `float32` or `bf16`: the type in which it holds them, where that is not the objective's.
    group
        Ranks of torch.distributed that share the work.
    resume
        A file from which a killed search goes on.
    progress
        Called with the products done, and the most.

    Returns
    -------
    Directions
        With eigenvalues and residuals, (n,). The sign is fixed: the entry of largest magnitude is positive.

    Raises
    ------
    InputError
        Where `max_iterations` products do not reach `tolerance`, and where the loss has no Hessian that agrees with it.
    """
    # what Lanczos itself multiplies is never rounded to TF32; the products have the arithmetic of the objective
    with one_thread(objective.device), arithmetic("float32", objective.device):
        hessian = Hessian(objective, group=group)
        found = eigenpairs(
            hessian.__matmul__,
            lambda i: hessian.random(seed + i),
            hessian.layout.dimension,
            n,
            tolerance=tolerance,
            max_products=max_iterations,
            order=select,
            start=lambda: hessian.start(seed),
            basis=basis,
            kept_in=None if basis_precision is None else KEPT_IN[basis_precision],
            layout=hessian.layout,
            resume=resume,
            progress=progress,
        )
    return make_directions(
        objective,
        "hessian",
        fix_signs(found.vectors, hessian.layout),
        normalization,
        eigenvalues=found.values,
        residuals=found.residuals,
        iterations=found.products,
    )


def random_directions(objective: Objective, n: int, *, seed: int = 0, normalization: str = "model") -> Directions:
    """n random directions, orthonormal before they are normalised: uniform on the sphere, one after the other.

    Parameters
    ----------
    objective
        The loss, whose parameters give the shapes.
    n
        How many.
    seed
        The same seed gives the same directions on every device.
    normalization
        How long they are: a name in the registry.

    Returns
    -------
    Directions

    Raises
    ------
    InputError
        For more directions than there are moving parameters.
    """
    layout = objective.layout
    if n > layout.dimension:
        raise InputError(f"directions.n is {n} but only {layout.dimension} parameters move; ask for fewer directions")
    # Gaussian, then orthonormalised in float64 on the CPU: the same on every device
    flat = layout.gaussian(n, seed, layout.working_type(objective.dtype, n))
    orthonormalize(flat, layout)
    return make_directions(objective, "random", flat, normalization)


def directions_from_file(
    path: Path, objective: Objective, *, n: int | None = None, normalization: str = "model"
) -> Directions:
    """Directions from a .pt or .safetensors file: tensors by parameter name, each of shape (n, *parameter shape).

    Every moving parameter must be there and nothing else; the first `n` directions are used.
    """
    path = Path(path)
    tensors = read_checkpoint(path)
    wanted = objective.layout.whole_shapes
    problems = [
        f"{what}: {list_some(names)}"
        for what, names in (
            ("missing", [name for name in wanted if name not in tensors]),
            ("not a parameter that moves", [name for name in tensors if name not in wanted]),
            (
                "of a shape other than (n, *parameter shape)",
                [
                    f"{name} {tuple(t.shape)} for (n, {', '.join(map(str, wanted[name]))})"
                    for name, t in tensors.items()
                    if name in wanted and tuple(t.shape[1:]) != wanted[name]
                ],
            ),
        )
        if names
    ]
    if problems:
        raise InputError(f"directions file {path} does not fit the model; {'; '.join(problems)}")
    counts = {len(t) for t in tensors.values()}
    if len(counts) > 1 or min(counts) < (n or 1):
        raise InputError(f"directions file {path} holds {sorted(counts)} directions per tensor; {n or 1} are asked for")
    n = n or min(counts)
    layout = objective.layout
    dtype = objective.dtype
    flat = torch.zeros(n, layout.size, dtype=dtype, device=objective.device)
    for name, view in layout.unflatten(flat).items():
        given = tensors.pop(name)[:n]
        for row, whole in zip(view, given, strict=True):
            row.copy_(layout.own(name, whole))
    unfit = torch.stack([(~torch.isfinite(flat)).sum(dim=1).double(), flat.any(dim=1).double()])
    unfit = layout.total(unfit)
    bad = [i for i in range(n) if unfit[0, i] or not unfit[1, i]]
    if bad:
        raise InputError(f"directions file {path}: direction {bad[0]} is zero or not finite")
    return make_directions(objective, "file", flat, normalization)


def make_directions(
    objective: Objective,
    kind: str,
    flat: Tensor,
    normalization: str,
    *,
    eigenvalues: NDArray[np.float64] | None = None,
    residuals: NDArray[np.float64] | None = None,
    iterations: int | None = None,
) -> Directions:
    """Directions from flat vectors (n, size), normalised and in the objective's dtype and on its device; what is given
    may be changed."""
    layout = objective.layout
    flat = flat.to(objective.device, layout.working_type(objective.dtype, len(flat)))
    flat = normalized(flat, layout, objective.parameters, normalization).to(objective.dtype)
    moves = torch.stack([flat[:, span].any(dim=1) for span in spans(*flat.shape[::-1])]).any(dim=0)
    if not bool(layout.total(moves.double()).all()):
        raise InputError(
            f"directions.normalization is {normalization!r}, which leaves a direction of length zero; choose another"
        )
    products = [wide @ wide.T for wide in (flat[:, span].double() for span in spans(*flat.shape[::-1]))]
    gram: NDArray[np.float64] = layout.total(sum(products[1:], products[0])).cpu().numpy()
    return Directions(layout.unflatten(flat), kind, normalization, gram, eigenvalues, residuals, iterations)


def normalized(flat: Tensor, layout: Layout, parameters: Mapping[str, Tensor], normalization: str) -> Tensor:
    """Flat vectors (n, size) scaled as the normalisation says, maybe in their place."""
    theta = layout.whole(parameters)
    scaled: Tensor = NORMALIZATIONS.load(normalization)(flat, layout, theta.to(flat.dtype))
    return scaled


def fix_signs(vectors: Tensor, layout: Layout | None = None) -> Tensor:
    """Eigenvectors have no sign of their own: make the entry of largest magnitude positive (the first of equals)."""
    largest = torch.zeros_like(vectors[:, :1])
    for span in spans(*vectors.shape[::-1]):
        part = vectors[:, span]
        here = part.gather(1, part.abs().argmax(dim=1, keepdim=True))
        largest = torch.where(here.abs() > largest.abs(), here, largest)
    if layout is not None and layout.parts is not None:
        for here in layout.parts.gathered(largest):
            largest = torch.where(here.abs() > largest.abs(), here, largest)
    return vectors.mul_(torch.sign(largest))


def gradient_direction(objective: Objective, *, normalization: str = "model") -> Directions:
    """One direction: the gradient of the loss at the checkpoint (uphill).

    Parameters
    ----------
    objective
        The loss.
    normalization
        How long it is: a name in the registry.

    Returns
    -------
    Directions

    Raises
    ------
    InputError
        Where the gradient is zero, or is not that of the losses.
    """
    with one_thread(objective.device):
        flat = gradient(objective)
    if not objective.layout.norm(flat):
        raise InputError("the gradient at the checkpoint is zero; choose other directions")
    return make_directions(objective, "gradient", flat[None], normalization)
