"""What a gradient and a Hessian are compared with: differences of the losses themselves.

Along a line the loss is a function of one number. Its first and second derivative come from central differences with
shrinking steps, extrapolated: C. Ridders, Accurate computation of F'(x) and F'(x)F''(x), Advances in Engineering
Software 4 (1982). Each has an error estimate, so that "they disagree" and "that cannot be told here" are two things.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_FIRST_STEP, _SHRINK, _LEVELS = 0.02, 4.0, 10


@dataclass(frozen=True)
class Estimate:
    """A derivative by differences, and how far off it may be."""

    value: float
    error: float

    def off(self, claimed: float) -> float:
        """The relative difference of a value that is said to be the same."""
        return abs(claimed - self.value) / max(abs(self.value), abs(claimed), 1e-300)

    def measured(self, tolerance: float) -> bool:
        return self.error <= tolerance * abs(self.value)

    def contradicts(self, claimed: float, tolerance: float) -> bool:
        """Whether the claimed value is off by more than the tolerance, relative, and than the steps explain."""
        if not math.isfinite(self.value + self.error):
            return False
        return abs(claimed - self.value) > tolerance * max(abs(self.value), abs(claimed)) + 10 * self.error


def along(
    loss: Callable[[float], float], epsilon: float, tolerance: float, at: float = 0.0
) -> tuple[Estimate, Estimate]:
    """First and second derivative at `at` of a function of one number that is computed with a relative rounding error
    `epsilon`. Three evaluations, and two more for every smaller step, until both are known to a tenth of the
    tolerance or rounding takes over."""
    middle = loss(at)
    first, second = _Table(), _Table()
    step, largest = _FIRST_STEP, abs(middle)
    for _ in range(_LEVELS):
        up, down = loss(at + step), loss(at - step)
        if math.isfinite(up + down):
            largest = max(abs(middle), abs(up), abs(down))
            first.add((up - down) / (2 * step), epsilon * largest / step)
            second.add((up - 2 * middle + down) / step**2, 4 * epsilon * largest / step**2)
            if first.best.measured(tolerance / 10) and second.best.measured(tolerance / 10):
                break
        step /= _SHRINK
    return first.best, second.best


class _Table:
    """Differences at steps that shrink by 4, errors in even powers of the step, extrapolated to zero."""

    def __init__(self) -> None:
        self.best = Estimate(math.nan, math.inf)
        self._row: list[float] = []

    def add(self, difference: float, rounding: float) -> None:
        row = [difference]
        for k, before in enumerate(self._row):
            factor = _SHRINK ** (2 * (k + 1))
            row.append((factor * row[k] - before) / (factor - 1))
            error = max(abs(row[k + 1] - row[k]), abs(row[k + 1] - before), rounding)
            # what is narrower than the first steps is seen by smaller ones, which are right then, though less sure
            is_other = abs(row[k + 1] - self.best.value) > 10 * (error + self.best.error) + 100 * rounding
            if error < self.best.error or is_other:
                self.best = Estimate(row[k + 1], error)
        self._row = row
