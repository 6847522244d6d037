"""What searches are and find as rows of numbers: so they can be dealt out, kept in files, and stored as arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from landscaper_hpc.confirm.ends import KINDS, End, follow
from landscaper_hpc.confirm.saddles import Saddle, band, saddle_between, saddle_near
from landscaper_hpc.confirm.surface import Array, Box, Search

What = Literal["minima", "saddles", "bands"]
"""What is looked for: minima from points (n,); saddles between minima, and the same by bands, from a minimum, a saddle
of the grid and the other minimum (3, n)."""


def searching(what: What, start: Array, box: Box, rounding: float) -> Search[Array]:
    """The search from one start, which returns its row."""
    if what == "minima":
        return _rows(follow(start, box, rounding), end_row)
    n = start.shape[1]
    if what == "saddles":
        return _rows(
            saddle_between(start[0], start[1], start[2], box, rounding),
            lambda found: np.append(saddle_row(found[0], n), found[1]),
        )
    return _rows(_over_band(start, box, rounding), lambda saddle: np.append(saddle_row(saddle, n), np.nan))


def _rows(inner: Search[Any], row: Callable[[Any], Array]) -> Search[Array]:
    return row((yield from inner))


def _over_band(points: Array, box: Box, rounding: float) -> Search[Saddle | None]:
    top = yield from band(points[0], points[1], points[2], box)
    return (yield from saddle_near(top, box, rounding))


def end_row(end: End) -> Array:
    """(3 n + n² + 2,): point, gradient, eigenvalues, Hessian, value, kind."""
    kind = KINDS.index(end.kind)
    parts = [end.point, end.gradient, end.eigenvalues, end.hessian.reshape(-1), np.array([end.value, kind])]
    return np.concatenate(parts)


def end_of(row: Array, n: int) -> End:
    hessian = row[3 * n : 3 * n + n * n].reshape(n, n)
    return End(row[:n], float(row[-2]), row[n : 2 * n], row[2 * n : 3 * n], hessian, KINDS[int(row[-1])])


def saddle_row(saddle: Saddle | None, n: int) -> Array:
    """Point, gradient, eigenvalues, value, and the rows of both sides; NaN throughout for none."""
    if saddle is None:
        return np.full(3 * n + 1 + 2 * (3 * n + n * n + 2), np.nan)
    own = [saddle.point, saddle.gradient, saddle.eigenvalues, np.array([saddle.value])]
    return np.concatenate([*own, *map(end_row, saddle.sides)])


def saddle_of(row: Array, n: int) -> Saddle | None:
    """Of a row with a height behind it."""
    if np.isnan(row[:-1]).all():
        return None
    first, last = np.split(row[3 * n + 1 : -1], 2)
    sides = end_of(first, n), end_of(last, n)
    return Saddle(row[:n], float(row[3 * n]), row[n : 2 * n], row[2 * n : 3 * n], sides)
