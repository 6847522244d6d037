"""What searches are and find as rows of numbers: so they can be dealt out, kept in files, and stored as arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from landscaper_hpc.confirm.ends import KINDS, End, follow
from landscaper_hpc.confirm.jumping import jump, walk
from landscaper_hpc.confirm.newton import ROUND, Here, Passed, a_round
from landscaper_hpc.confirm.saddles import Saddle, over_band, saddle_between
from landscaper_hpc.confirm.surface import Array, Box, Search

What = Literal["descents", "jumps", "walks", "minima", "saddles", "bands"]
"""What is looked for: a round of a descent, from its row and that of a point below it; where a descent that jumps
rests, from its row; where a walk does, from an end's row, which eigenvector, and its sign; the minimum that a descent
leads to, from its row; saddles between minima, and the same by bands, from a minimum, a saddle of the grid and the
other minimum (3, n)."""


def searching(what: What, start: Array, box: Box, rounding: float) -> Search[Array]:
    """The search from one start, which returns its row."""
    n = len(box.far)
    if what == "descents":
        here, target = here_of(start[: here_width(n)], n), passed_of(start[here_width(n) :], n)
        return _rows(a_round(here, target, box, rounding), lambda found: round_row(found, n))
    if what == "jumps":
        return _rows(jump(here_of(start, n), box, rounding), here_row)
    if what == "walks":
        return _rows(walk(end_of(start[:-2], n), int(start[-2]), float(start[-1]), box, rounding), here_row)
    if what == "minima":
        return _rows(follow(here_of(start, n), box, rounding), end_row)
    if what == "saddles":
        return _rows(
            saddle_between(start[0], start[1], start[2], box, rounding),
            lambda found: np.append(saddle_row(found[0], n), found[1]),
        )
    return _rows(
        over_band(start[0], start[1], start[2], box, rounding), lambda found: np.append(saddle_row(found, n), np.nan)
    )


def _rows(inner: Search[Any], row: Callable[[Any], Array]) -> Search[Array]:
    return row((yield from inner))


# ---- descents -------------------------------------------------------------------------------------------------------


def here_width(n: int) -> int:
    return 2 * n + n * n + 4


def here_row(here: Here) -> Array:
    parts = [here.point, here.gradient, here.model.reshape(-1)]
    return np.concatenate([*parts, np.array([here.value, here.radius, here.going, here.close])])


def here_of(row: Array, n: int) -> Here:
    value, radius, going, close = row[-4:].tolist()
    return Here(row[:n], value, row[n : 2 * n], row[2 * n : -4].reshape(n, n), radius, bool(going), bool(close))


def passed_row(passed: Passed | None, n: int) -> Array:
    """(2 n + 1,): point, gradient, value; NaN for none."""
    if passed is None:
        return np.full(2 * n + 1, np.nan)
    return np.concatenate([passed.point, passed.gradient, np.array([passed.value])])


def passed_of(row: Array, n: int) -> Passed | None:
    return None if np.isnan(row[-1]) else Passed(row[:n], float(row[-1]), row[n : 2 * n])


def round_row(found: tuple[Here, bool, list[Passed]], n: int) -> Array:
    """The row of where it is, whether it joined, and the rows of what was passed, as many as there may be."""
    here, joined, passed = found
    ways = [passed_row(one, n) for one in passed] + [passed_row(None, n)] * (ROUND + 1 - len(passed))
    return np.concatenate([here_row(here), np.array([joined]), *ways])


def round_of(row: Array, n: int) -> tuple[Here, bool, list[Passed]]:
    width = here_width(n)
    ways = (passed_of(way, n) for way in row[width + 1 :].reshape(-1, 2 * n + 1))
    return here_of(row[:width], n), bool(row[width]), [way for way in ways if way is not None]


# ---- ends and saddles -----------------------------------------------------------------------------------------------


def end_row(end: End) -> Array:
    """(3 n + n² + 2,): point, gradient, eigenvalues, Hessian, value, kind."""
    kind = KINDS.index(end.kind)
    parts = [end.point, end.gradient, end.eigenvalues, end.hessian.reshape(-1), np.array([end.value, kind])]
    return np.concatenate(parts)


def end_of(row: Array, n: int) -> End:
    hessian = row[3 * n : 3 * n + n * n].reshape(n, n)
    return End(row[:n], float(row[-2]), row[n : 2 * n], row[2 * n : 3 * n], hessian, KINDS[int(row[-1])])


def saddle_row(saddle: Saddle | None, n: int) -> Array:
    """(4 n + n² + 1,): point, gradient, eigenvalues, mode, Hessian, value; NaN throughout for none."""
    if saddle is None:
        return np.full(4 * n + n * n + 1, np.nan)
    parts = [saddle.point, saddle.gradient, saddle.eigenvalues, saddle.mode, saddle.hessian.reshape(-1)]
    return np.concatenate([*parts, np.array([saddle.value])])


def saddle_of(row: Array, n: int) -> Saddle | None:
    """Of a row with a height behind it."""
    if np.isnan(row[0]):
        return None
    point, gradient, eigenvalues, mode = row[: 4 * n].reshape(4, n)
    return Saddle(point, float(row[-2]), gradient, eigenvalues, row[4 * n : -2].reshape(n, n), mode)
