"""How far rounding moves the losses of a study, and so which persistence pairs are noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.directions.directions import Directions
from landscaper_hpc.losses.evaluate import losses
from landscaper_hpc.objective.objective import Objective


@dataclass(frozen=True)
class PrecisionReport:
    """`error`: the largest |loss − reference| at `points` points; `relative`: the same, relative to the reference. A
    persistence is a difference of two losses, so pairs up to `noise_persistence` = 2 · error may be made by rounding
    alone."""

    precision: str
    points: int
    error: float
    relative: float

    @property
    def noise_persistence(self) -> float:
        return 2 * self.error


def precision_report(
    objective: Objective, reference: Objective, directions: Directions, points: NDArray[np.float64], batch: int
) -> PrecisionReport:
    """Compare the objective at `points` (m, n) with `reference`, the same task and checkpoint in float64.

    Points where either is not finite do not count. See `compared`.
    """
    values, exact = compared(objective, reference, directions, points, batch)
    finite = np.isfinite(values) & np.isfinite(exact)
    difference = np.abs(values - exact)[finite]
    relative = difference / np.maximum(np.abs(exact[finite]), np.finfo(float).tiny)
    return PrecisionReport(
        objective.precision, int(finite.sum()), float(difference.max(initial=0)), float(relative.max(initial=0))
    )


def compared(
    objective: Objective, reference: Objective, directions: Directions, points: NDArray[np.float64], batch: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The losses at `points` (m, n), and those of `reference`, the same task and checkpoint in float64; both (m,).

    An objective in float64 is compared with itself added up in another order: data batches reversed, one point at a
    time.
    """
    values = losses(objective, directions, points, batch)
    if objective.precision == "float64":
        return values, _other_order(objective, directions, points)
    vectors = {k: v.to(reference.parameters[k]) for k, v in directions.vectors.items()}
    wide = Directions(vectors, directions.kind, directions.normalization, directions.gram)
    return values, losses(reference, wide, points, 1)


def _other_order(objective: Objective, directions: Directions, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The losses with the displacements and the batches added from last to first: as exact, differently rounded."""
    values = []
    for alpha in points:
        params = {}
        for name, p in objective.parameters.items():
            shift = sum(float(a) * directions.vectors[name][i] for i, a in reversed(list(enumerate(alpha))))
            params[name] = p + shift
        parts = [objective.part(params, *given) for given in zip(objective.batches, objective.examples, strict=True)]
        values.append(float(objective.combine([v.detach() for v, _ in parts[::-1]], [w for _, w in parts[::-1]])))
    return np.array(values)
