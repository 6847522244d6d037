"""A landscape without a grid: scattered points, and the network of minima and saddles that they lead to."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from landscaper_hpc.study.schema import Strict


class Sampling(Strict):
    """Scattered points of the box that the grid's ranges span, and minima followed from there: in place of the grid,
    whose steps are then the lengths of the method."""

    kind: Literal["sobol", "random", "latin"] = Field("sobol", description="how the points are spread in the box")
    points: int = Field(1024, ge=8, le=10**6, description="how many losses are evaluated to find out where to begin")
    minima: int = Field(
        100, ge=0, description="so many of the points' most persistent minima are followed, at most; 0: none"
    )
