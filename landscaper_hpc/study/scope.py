"""How much of a landscape is evaluated: its lowest part, up to a level."""

from __future__ import annotations

from pydantic import Field, model_validator

from landscaper_hpc.grid import lattice_size
from landscaper_hpc.study.schema import Strict


class Scope(Strict):
    """Only the lowest part of the landscape, {v : f(v) < L}: one of `share`, `points` and `below` says up to where."""

    share: float | None = Field(
        None, gt=0, lt=1, description="up to the level below which this share of the grid's points lies"
    )
    points: int | None = Field(None, ge=1, description="as far up as so many evaluations lead")
    below: float | None = Field(None, description="up to this loss")
    descents: int | None = Field(
        None,
        ge=0,
        le=10**6,
        description="random descents that bound what was not met; left out: 300, or what 1 % of the grid allows",
    )
    climb: int | None = Field(
        None,
        ge=2,
        le=10**7,
        description="also estimate the mean climb of the whole grid, from so many random points",
    )

    @model_validator(mode="after")
    def _one(self) -> Scope:
        given = [name for name in ("share", "points", "below") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of share (of the points), points (that are evaluated) and below (a loss); "
                f"found {' and '.join(given) or 'none of them'}"
            )
        return self

    def refuse_few(self, shape: tuple[int, ...]) -> None:
        """`ValueError` for fewer points than the lattice of a grid has."""
        least = lattice_size(shape)
        if self.points is not None and self.points <= least:
            raise ValueError(
                f"scope.points: the search begins with a lattice of {least:,} points; give more than that; "
                f"found {self.points}"
            )
