"""Differences of values, also of such as lie near the ends of what numbers go to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def apart(first: NDArray[np.float64], last: NDArray[np.float64]) -> NDArray[np.float64]:
    """|last - first|; infinite where either is not finite, and at most the largest number where both are."""
    with np.errstate(invalid="ignore", over="ignore"):
        found = np.minimum(np.abs(last - first), np.finfo(np.float64).max)
    found[~(np.isfinite(last) & np.isfinite(first))] = np.inf
    return found


def unit_of(value_range: tuple[float, float]) -> float:
    """A power of two: 1, unless values in this range are so large that differences and sums of them might be no
    numbers."""
    return 2.0**64 if max(map(abs, value_range)) > 2.0**900 else 1.0
