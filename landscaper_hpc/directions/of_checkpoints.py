"""Directions through other checkpoints, and where checkpoints lie in the space that directions span.

A plane through three checkpoints: Garipov et al., *Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs*
(2018), appendix. A training run and its principal components: Li et al., *Visualizing the Loss Landscape of Neural
Nets* (2018), section 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscaper_hpc.directions.directions import Directions, fix_signs, make_directions
from landscaper_hpc.errors import InputError, list_some
from landscaper_hpc.objective.checkpoints import read_checkpoint
from landscaper_hpc.objective.checkpoints.fit import matched, refuse_nonfinite
from landscaper_hpc.objective.checkpoints.names import Naming
from landscaper_hpc.objective.objective import Objective

_APART = 1e-6
"""The sine of the angle from which on a checkpoint is no longer on the line, or in the plane, of those before it."""


class Projection(NamedTuple):
    """Checkpoints within the space that directions span.

    Attributes
    ----------
    alphas
        (t, n) the coordinates of the point that is nearest to each.
    shares
        (t,) how much of each one's squared distance from θ* lies in that space, from 0 to 1.
    distances
        (t,) ‖θ − θ*‖.
    """

    alphas: NDArray[np.float64]
    shares: NDArray[np.float64]
    distances: NDArray[np.float64]


def read_all(objective: Objective, files: Sequence[Path], naming: Naming) -> Sequence[Mapping[str, Tensor]]:
    """Checkpoints of the objective's model. `InputError` for one that does not fit it, or is not finite."""
    found = []
    for file in files:
        weights = matched(objective.model, read_checkpoint(file, naming.containers), file, naming=naming)
        refuse_nonfinite({name: weights[name] for name in objective.parameters}, f"checkpoint {file}")
        found.append(weights)
    return found


def moves(objective: Objective, checkpoints: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """θ_k − θ* as flat vectors in float64, (t, size)."""
    layout, shapes = objective.layout, objective.layout.whole_shapes
    theta = layout.flatten(objective.parameters).double()
    rows = []
    for i, checkpoint in enumerate(checkpoints):
        absent = [k for k, shape in shapes.items() if k not in checkpoint or tuple(checkpoint[k].shape) != shape]
        if absent:
            raise InputError(f"checkpoint {i} of the trajectory lacks {list_some(absent)} in the shape of the model")
        own = {k: layout.own(k, checkpoint[k]).to(p) for k, p in objective.parameters.items()}
        rows.append(layout.flatten(own).double() - theta)
    return torch.stack(rows) if rows else theta.new_zeros(0, layout.size)


def projection(objective: Objective, directions: Directions, checkpoints: Sequence[Mapping[str, Tensor]]) -> Projection:
    """Where checkpoints lie in the space that directions span: α = G⁻¹ ⟨u_i, θ − θ*⟩ with their Gram matrix G, the
    orthogonal projection whatever their angles."""
    layout = objective.layout
    u = layout.flatten(directions.vectors).double()
    moved = moves(objective, checkpoints)
    along = layout.total(u @ moved.T)
    alphas = torch.linalg.solve(layout.total(u @ u.T), along)
    squares = layout.total(moved.square().sum(dim=1))
    held = (alphas * along).sum(dim=0)
    shares = torch.where(squares > 0, held / squares.clamp(min=1e-300), torch.ones_like(held)).clamp(0, 1)
    return Projection(alphas.T.cpu().numpy(), shares.cpu().numpy(), squares.sqrt().cpu().numpy())


def plane_directions(
    objective: Objective, checkpoints: Sequence[Mapping[str, Tensor]], *, normalization: str = "unit"
) -> Directions:
    """Directions of the plane through θ* and two other checkpoints: the first leads to the first of them, the second is
    at a right angle to it and leads to the side on which the other lies. One checkpoint gives a line, more of them a
    space of as many dimensions.

    Parameters
    ----------
    objective
        The loss at θ*.
    checkpoints
        The others, by parameter name.
    normalization
        How long directions are: a name in the registry. Those that scale by layer or filter turn directions, so that
        the plane no longer holds the checkpoints: they are refused.

    Returns
    -------
    Directions

    Raises
    ------
    InputError
        Where the checkpoints lie on a line, or two of them are the same.
    """
    layout, basis = objective.layout, list[Tensor]()
    for i, move in enumerate(moves(objective, checkpoints)):
        left = move
        for _ in range(2):  # once more, for what rounding has left
            for vector in basis:
                left = left - layout.dot(left, vector) * vector
        length = layout.norm(left)
        if length <= _APART * layout.norm(move) or length == 0:
            raise InputError(
                f"directions.through: entry {i} is the study's own checkpoint, or lies on a line or plane with it and "
                "those before; name others, or fewer"
            )
        basis.append(left / length)
    found = make_directions(objective, "plane", torch.stack(basis), normalization)
    if projection(objective, found, checkpoints).shares.min() < 1 - _APART:
        raise InputError(
            f"directions.normalization: {normalization} turns directions, so that the plane misses its checkpoints; "
            "use model or unit with kind: plane"
        )
    return found


def trajectory_directions(
    objective: Objective, checkpoints: Sequence[Mapping[str, Tensor]], n: int, *, normalization: str = "unit"
) -> tuple[Directions, NDArray[np.float64], NDArray[np.float64]]:
    """The n principal components of theta_k − theta* over a list of checkpoints (a training trajectory): Li et al.
    2018, section 7.2.

    Also returns the coordinates alpha of each checkpoint in the plane, shape (len(checkpoints), n), in units of the
    normalised directions, and the fraction of the variation that each component holds, shape (n,).
    """
    moved = moves(objective, checkpoints)
    # the Gram matrix is small where the parameters are many
    values, vectors = torch.linalg.eigh(objective.layout.total(moved @ moved.T))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    rank = int((values > 1e-12 * values[:1]).sum())
    if rank < n:
        raise InputError(f"{len(moved)} checkpoints span {rank} directions; {n} are asked for")
    components = fix_signs((vectors[:, :n] / values[:n].sqrt()).T @ moved, objective.layout)
    share: NDArray[np.float64] = (values[:n] / values.sum()).cpu().numpy()
    found = replace(make_directions(objective, "trajectory", components, normalization), explained=share)
    return found, projection(objective, found, checkpoints).alphas, share
