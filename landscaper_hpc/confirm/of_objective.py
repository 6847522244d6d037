"""A loss and its directions as a `Surface`: exact gradients and Hessians in the subspace, at any point of it.

The gradient is one backward pass and n products ⟨u_i, ∇L⟩; the n × n Hessian differentiates those n numbers again
(reverse over reverse), or is made of differences of gradients where the loss cannot be differentiated twice.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscaper_hpc.confirm.gradients import BEHIND, Plain, Ways
from landscaper_hpc.confirm.surface import Array
from landscaper_hpc.directions.decompose import Decomposed
from landscaper_hpc.directions.derivatives import inner
from landscaper_hpc.directions.directions import Directions
from landscaper_hpc.directions.gradient import TOLERANCE, batch_gradient, in_place, two_functions
from landscaper_hpc.directions.proof import along
from landscaper_hpc.errors import InputError, RankRaised, user_traceback
from landscaper_hpc.losses.displacement import Walk
from landscaper_hpc.losses.spotcheck import another_course, tolerance_of
from landscaper_hpc.objective.flat_layout import spans
from landscaper_hpc.objective.in_step import is_broken
from landscaper_hpc.objective.objective import Objective, Parameters
from landscaper_hpc.objective.precision import arithmetic, epsilon, one_thread, plain_attention

log = logging.getLogger(__name__)

_PROBES, _WALK = 4, 24


class ObjectiveSurface:
    """The loss over alpha, proved at the checkpoint: its gradient is that of the losses, its Hessian the gradient's.

    `InputError` where there is no gradient. `exact`: whether Hessians come from second derivatives, not differences.
    """

    def __init__(self, objective: Objective, directions: Directions, scale: Array) -> None:
        """`scale` (n,): a displacement along each direction that matters, such as the grid's step."""
        self._objective = objective
        self._walk = Walk(objective, directions)
        layout = self._walk.layout
        ordered = {name: directions.vectors[name].to(p) for name, p in objective.parameters.items()}
        self._u = layout.whole(ordered)
        self._vectors = layout.unflatten(self._u)
        self._scale = np.asarray(scale, np.float64)
        self._plain = Plain(objective, layout)
        self.rounding = epsilon(objective.precision, objective.device)
        self.exact = not objective.sharded  # a gradient of FSDP's has no derivative
        with one_thread(objective.device):
            self._prove()

    def gradients(self, points: Array) -> tuple[Array, Array]:
        ways = self.ways
        with one_thread(self._objective.device):
            found = [self._of_rows(rows) for rows in ways(np.asarray(points, np.float64))]
        return np.array([value for value, _ in found]), np.array([slope for _, slope in found])

    @cached_property
    def ways(self) -> Ways:
        """How gradients are found: proved at the checkpoint and some steps away, once."""
        n = len(self._u)
        away = np.random.default_rng(0).uniform(-10, 10, (_PROBES - 1, n)) * self._scale
        with one_thread(self._objective.device):
            return Ways(self._objective, self._walk, np.vstack([np.zeros(n), away]))

    def _of_rows(self, rows: Iterable[tuple[Tensor, int]]) -> tuple[float, Array]:
        """Value and slopes along the directions (n,), of a row and weight for every batch of data."""
        total = torch.zeros(len(self._u), dtype=torch.float64, device=self._u.device)
        values, weights = [], []
        for row, weight in rows:
            total += weight * self._along(row[:-BEHIND])
            values.append(row[-BEHIND].clone())  # and not all of the row
            weights.append(weight)
            del row  # as large as the parameters, in float64, before there is the next one
        return float(self._objective.combine(values, weights)), (total / sum(weights)).cpu().numpy()

    def _along(self, flat: Tensor) -> Tensor:
        """Float64 inner products with the directions, (n,)."""
        parts = [self._u[:, span].double() @ flat[span].double() for span in spans(len(flat), len(self._u))]
        return self._walk.layout.total(sum(parts[1:], parts[0]))

    def hessians(self, points: Array) -> Array:
        points = np.asarray(points, np.float64)
        self._refuse_wrong(points)
        with one_thread(self._objective.device):
            if self.exact:
                return np.array([self._hessian(point) for point in points])
            return np.array([self._differences(point, lambda beside: self.gradients(beside)[1]) for point in points])

    def _refuse_wrong(self, points: Array) -> None:
        """`InputError` where what gradients are found by has another loss than the one that is written: a search ends
        nowhere else than where it asks for a Hessian. Where the loss is almost zero only rounding is left of it."""
        tolerance = tolerance_of(self._objective)
        for point, value in zip(points, self.gradients(points)[0].tolist(), strict=True):
            with one_thread(self._objective.device):
                expected = float(self._objective.loss(self._parameters(point)).detach())
            if not np.isclose(value, expected, rtol=tolerance, atol=tolerance * self._size_of_losses, equal_nan=True):
                advice = (
                    "Keep nothing, and call float() on what it depends on inside the loss, which has it evaluated as "
                    "it is written"
                )
                raise another_course(self._objective, point, value, expected, advice)

    def _parameters(self, point: Array) -> Parameters:
        return {name: p.clone() for name, p in self._walk.one(point).items()}

    def _gradient(self, point: Array) -> tuple[float, Array]:
        """As it is written."""
        params = self._parameters(point)
        return self._of_rows(self._plain(params, i) for i in range(len(self._objective.batches)))

    def _hessian(self, point: Array) -> NDArray[np.float64]:
        objective, params = self._objective, self._parameters(point)
        n = len(self._u)
        total, examples = torch.zeros(n, n, dtype=torch.float64, device=objective.device), 0
        exactly = arithmetic(objective.precision, objective.device, autocast=False)
        with exactly, plain_attention(), Decomposed(norms=True):
            for batch, count in zip(objective.batches, objective.examples, strict=True):
                leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
                slopes, weight = batch_gradient(objective, leaves, batch, count, keep=True)
                examples += weight
                if not any(slope.requires_grad for slope in slopes.values()):
                    continue
                along = [self._derivable(slopes, i) for i in range(n)]
                with in_place(objective, leaves):
                    for i in range(n):
                        row = torch.autograd.grad(
                            along[i], list(leaves.values()), retain_graph=i + 1 < n, materialize_grads=True
                        )
                        total[i] += weight * self._along(self._walk.layout.flatten(dict(zip(leaves, row, strict=True))))
        found = (total / max(examples, 1)).cpu().numpy()
        return np.asarray((found + found.T) / 2)

    def _derivable(self, slopes: Parameters, i: int) -> Tensor:
        """The inner product of slopes with the i-th direction, to be differentiated: tensor by tensor, for
        derivatives of what is put together are as large as the whole, once for each tensor."""
        return torch.stack([inner(s, self._vectors[name][i]) for name, s in slopes.items() if s.requires_grad]).sum()

    def _differences(self, point: Array, slopes: Callable[[Array], Array]) -> NDArray[np.float64]:
        """Central differences of gradients: their step balances truncation against rounding."""
        steps = np.diag(self._scale * self.rounding ** (1 / 3))
        beside = slopes(point + np.concatenate([steps, -steps]))
        found = (beside[: len(steps)] - beside[len(steps) :]) / (2 * np.diag(steps)[:, None])
        return np.asarray((found + found.T) / 2)

    # ---- proof --------------------------------------------------------------------------------------------------

    def _prove(self) -> None:
        objective, n = self._objective, len(self._u)
        tolerance = TOLERANCE.get(objective.precision, 0.3)
        origin, line = np.zeros(n), self._scale * np.resize([1.0, 0.7, -0.8, 0.6], n)
        try:
            value, slope = self._gradient(origin)
        except InputError:
            raise
        except RuntimeError as error:
            if isinstance(error, RankRaised) or is_broken(error):
                raise
            raise _no_gradient(objective, " ".join(str(error).split())[:200], error) from error
        self._size_of_losses = abs(value) if math.isfinite(value) else 0.0
        if not any(self._requires_grad(batch, count) for batch, count in self._data()):
            raise _no_gradient(objective, "its value does not depend on the parameters in a way that torch can follow")
        found = ((value, slope), *(self._gradient(t * line) for t in (3.7, -4.1)))
        if not any(slope.any() for _, slope in found) and self._changes(value):
            raise _no_gradient(objective, "it changes in steps: its gradient is zero where it is not flat")
        measured, _ = along(
            lambda t: float(objective.loss(self._parameters(t * 50 * line)).detach()), self.rounding, tolerance
        )
        if problem := two_functions(measured, float(slope @ line) * 50, tolerance):
            raise InputError(f"{objective.source}: confirm follows gradients, and {problem.split('; use random')[0]}")
        if not math.isfinite(value) or not np.isfinite(slope).all():
            return
        self.exact = self.exact and self._second_derivatives(line, tolerance)

    def _changes(self, value: float) -> bool:
        """Whether the loss is another somewhere on a walk of a few dozen steps of the grid, with no gradient on it."""
        walk = np.random.default_rng(0).uniform(-10, 10, (_WALK, len(self._scale))) * self._scale
        found = [self._gradient(point) for point in walk]
        return not any(slope.any() for _, slope in found) and any(other != value for other, _ in found)

    def _second_derivatives(self, line: Array, tolerance: float) -> bool:
        """Whether second derivatives are those of the gradients, a little away from the checkpoint."""
        at = 0.37 * line
        try:
            claimed = self._hessian(at)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.info("Hessians by differences of gradients, since %s", " ".join(str(error).split())[:200])
            return False
        measured = self._differences(at, lambda beside: np.array([self._gradient(point)[1] for point in beside]))
        scales = np.outer(self._scale, self._scale)
        off = float(np.abs((claimed - measured) * scales).max())
        size = float(np.abs(measured * scales).max())
        if not math.isfinite(off) or off <= 10 * tolerance * size:
            return True
        log.info("Hessians by differences of gradients: second derivatives are off by %.2g, relative", off / size)
        return False

    def _data(self) -> list[tuple[object, int]]:
        return list(zip(self._objective.batches, self._objective.examples, strict=True))

    def _requires_grad(self, batch: object, count: int) -> bool:
        leaves = {name: p.detach().requires_grad_() for name, p in self._objective.parameters.items()}
        value, _ = self._objective.part(leaves, batch, count)
        return bool(value.requires_grad)


def _no_gradient(objective: Objective, why: str, error: BaseException | None = None) -> InputError:
    said = f"{objective.source}: confirm follows gradients, and the loss has none ({why}); leave `confirm` out"
    return InputError(said, "" if error is None else user_traceback(error))
