"""What six points can tell: python workflow/reaction_ood/table6.py [TABLE.csv]

Of the paper's Table 6 (SMAD within the distribution and the error out of it at six levels of augmentation) the summary
is known here, ρ = 0.928 and p = 0.008, and not the twelve numbers. Which ranks six points must have for that ρ is a
finite question, and so are all p-values that such points can have. With the table, a CSV file of columns `smad` and
`error` in a row for each level, everything is computed from its numbers.
"""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from landscaper_hpc.comparison.association import association
from landscaper_hpc.errors import InputError

RHO, N = 0.928, 6
LOOCV = (0.135, 0.020, 0.0056)  # the paper's: error of the mean, of the line, and p


@dataclass(frozen=True)
class Ranks:
    """Ranks that six points can have for the paper's ρ, and what follows from them: their exact p-value, that of
    Student's t, the smallest that six points with such ties can have, and ρ without any one of them."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    rho: float
    p: float
    p_of_t: float
    least_p: float
    without_one: tuple[float, float]


def possible(rho: float = RHO, n: int = N) -> list[Ranks]:
    """All ranks of n points whose rank correlation is `rho` to three decimals, ties included."""
    orders = np.array(sorted(_ranks(n)))
    centred = orders - orders.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # ranks that are all the same have no correlation
        units = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    rising = (np.diff(orders, axis=1) >= 0).all(axis=1)  # points are numbered by their x
    found = []
    for i in np.flatnonzero(rising):
        for j in np.flatnonzero(np.abs(units @ units[i] - rho) < 0.0005):
            of = association(orders[i], orders[j])
            p_of_t = 2 * stats.t.sf(of.rho * np.sqrt((n - 2) / (1 - of.rho**2)), n - 2)
            x, y = tuple(orders[i].tolist()), tuple(orders[j].tolist())
            found.append(Ranks(x, y, of.rho, of.p, float(p_of_t), of.least_p, of.without_one))
    return found


def _ranks(n: int) -> set[tuple[float, ...]]:
    """All ranks of n numbers, equal ones with the mean of their places."""
    return {
        tuple(sum(a < b for a in levels) + (sum(a == b for a in levels) + 1) / 2 for b in levels)
        for levels in itertools.product(range(n), repeat=n)
        if set(levels) == set(range(max(levels) + 1))
    }


def of_table(file: Path) -> list[str]:
    """What the numbers of a table give, in lines."""
    if not file.is_file():
        raise InputError(f"{file} does not exist; give a CSV file with columns smad and error, a row for each level")
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or {"smad", "error"} - rows[0].keys():
        raise InputError(f"{file} has no columns smad and error; name them so in its first line")
    try:
        found = association([float(row["smad"]) for row in rows], [float(row["error"]) for row in rows])
    except ValueError as error:
        raise InputError(f"{file}: {error}") from error
    low, high = found.without_one
    return [
        f"{found.n} levels: ρ = {found.rho:.3f} ({found.low:.2f} to {found.high:.2f}), exact p = {found.p:.4f}",
        f"without any one level ρ is from {low:.3f} to {high:.3f}",
        f"an error left out is {found.error_of_mean:.3f} from the mean of the others, {found.error:.3f} from a line "
        f"through them, p = {found.p_error:.4f} (the paper: {LOOCV[0]}, {LOOCV[1]}, {LOOCV[2]})",
    ]


def of_summary(found: Sequence[Ranks]) -> list[str]:
    """What ρ = 0.928 of six points alone gives, in lines."""
    p, least = [each.p for each in found], [each.least_p for each in found]
    low, high = min(each.without_one[0] for each in found), max(each.without_one[0] for each in found)
    ties = {tuple(N - len(set(ranks)) for ranks in (each.x, each.y)) for each in found}
    return [
        f"{len(found)} orders of six points have ρ = {RHO}; all have ties (equal values of SMAD, of the error: "
        f"{', '.join(f'{a} and {b}' for a, b in sorted(ties))})",
        f"by Student's t, which six points do not follow, p = {found[0].p_of_t:.4f}",
        f"counted exactly, p is from {min(p):.4f} to {max(p):.4f}; a perfect order would have {min(least):.4f} to "
        f"{max(least):.4f}",
        f"without the level that matters most, ρ falls to {low:.3f}{'' if low == high else f' to {high:.3f}'}",
    ]


if __name__ == "__main__":
    try:
        told = of_table(Path(sys.argv[1])) if len(sys.argv) > 1 else of_summary(possible())
    except InputError as error:
        print(f"table6.py: {error}", file=sys.stderr)
        sys.exit(2)
    print("\n".join(told))
