"""What the algorithms ask of a loss, and how they ask it: many searches at once, each a generator of requests.

A search never sees another, so what it finds does not depend on which others it was batched with. Coordinates within
`confirm` are in steps of the grid: point 0 is the lower corner of the box, and a distance of 1 is one grid step.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.grid import Grid

Array = NDArray[np.float64]


class Surface(Protocol):
    """A function of n numbers with its derivatives.

    Attributes
    ----------
    rounding
        Relative error of a value, such as 2.2e-16.
    """

    rounding: float

    def gradients(self, points: Array) -> tuple[Array, Array]:
        """Values and gradients at points.

        Parameters
        ----------
        points
            (b, n) coordinates alpha.

        Returns
        -------
        values, gradients
            (b,) losses, and (b, n) their derivatives with respect to alpha.
        """
        ...

    def hessians(self, points: Array) -> Array:
        """Hessians at points.

        Parameters
        ----------
        points
            (b, n) coordinates alpha.

        Returns
        -------
        (b, n, n) second derivatives of the loss with respect to alpha.
        """
        ...


@dataclass(frozen=True)
class Box:
    """The box of a grid and its steps: `lower` and `step`, (n,), and `far`, the upper corner in steps, (n,)."""

    lower: Array
    step: Array
    far: Array

    @classmethod
    def of(cls, grid: Grid) -> Box:
        lower, upper = grid.corners()
        far = np.array(grid.shape, np.float64) - 1
        return cls(lower, (upper - lower) / np.maximum(far, 1), far)

    def alpha(self, points: Array) -> Array:
        """Points in steps as coordinates of the subspace; the corners exactly."""
        weight = points / np.maximum(self.far, 1)
        found: Array = (1 - weight) * self.lower + weight * (self.lower + self.far * self.step)
        return found


class Request(NamedTuple):
    """Points (p, n), in steps, at which a search wants values and gradients, or Hessians."""

    points: Array
    hessian: bool = False


class Answer(NamedTuple):
    """What a request is answered with, in steps: values (p,) and gradients (p, n), or Hessians (p, n, n)."""

    values: Array
    gradients: Array
    hessians: Array


Found = TypeVar("Found")
Search = Generator[Request, Answer, Found]
"""A search for one thing: yields requests, is sent their answers, returns what it found."""


@dataclass
class Cost:
    """What was spent: gradients, and products of a Hessian with a direction (n for each Hessian); `by_differences`:
    Hessians were made of differences of gradients."""

    gradients: int = 0
    products: int = 0
    by_differences: bool = False

    @property
    def total(self) -> int:
        return self.gradients + self.products


def search(surface: Surface, box: Box, searches: Sequence[Search[Found]], cost: Cost | None = None) -> list[Found]:
    """Run searches to their ends, side by side: what all of them want next is evaluated together.

    Parameters
    ----------
    surface
        The loss.
    box
        The units of the searches.
    searches
        Generators that have not begun.
    cost
        What is spent is added to it.

    Returns
    -------
    list
        What each returned, in their order.
    """
    cost = cost if cost is not None else Cost()
    found: dict[int, Found] = {}
    wanted: dict[int, Request] = {}

    def go_on(i: int, answer: Answer | None) -> None:
        try:
            wanted[i] = next(searches[i]) if answer is None else searches[i].send(answer)
        except StopIteration as over:
            found[i] = over.value

    for i in range(len(searches)):
        go_on(i, None)
    while wanted:
        asked, wanted = wanted, {}
        for hessian in (False, True):
            mine = [i for i, request in asked.items() if request.hessian == hessian]
            if not mine:
                continue
            counts = [len(asked[i].points) for i in mine]
            answers = _evaluated(surface, box, np.concatenate([asked[i].points for i in mine]), hessian, cost)
            for i, first, count in zip(mine, np.cumsum([0, *counts[:-1]]), counts, strict=True):
                go_on(i, Answer(*(part[first : first + count] for part in answers)))
    return [found[i] for i in range(len(searches))]


def _evaluated(surface: Surface, box: Box, points: Array, hessian: bool, cost: Cost) -> Answer:
    alpha, n = box.alpha(points), points.shape[1]
    nothing = np.empty((len(points), 0))
    if hessian:
        cost.products += n * len(points)
        return Answer(nothing[:, 0:0], nothing, surface.hessians(alpha) * np.outer(box.step, box.step))
    cost.gradients += len(points)
    values, gradients = surface.gradients(alpha)
    return Answer(values, gradients * box.step, nothing)
