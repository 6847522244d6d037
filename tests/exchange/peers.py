"""What tests of the exchange share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NEED_VTK = ("vti", "vtp", "vtu")


def wells_at(places: NDArray[Any], tilt: float = 0.1) -> NDArray[Any]:
    """The loss of `studies.wells` at coordinates, (n, …)."""
    weights = np.arange(1, len(places) + 1).reshape(-1, *[1] * (places.ndim - 1))
    found: NDArray[Any] = (weights * (places**2 - 1) ** 2).sum(axis=0) + tilt * places.sum(axis=0)
    return found
