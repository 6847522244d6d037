"""Whether a claim stands: an effect's sign, its exact p-value, and whether it is much the same on coarser grids.

Groups are compared by ranks, so that one run of a quantity that spans orders of magnitude does not decide: Cliff's δ
with the interval of R. Newcombe, Confidence intervals for an effect size measure based on the Mann-Whitney statistic,
part 2, Statistics in Medicine 25 (2006), method 5, which is not empty where the groups do not overlap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize, stats

from experiments.declared import LANDSCAPES, SEED, Claim, Groups, Trend, named
from landscaper_hpc.comparison.association import FEWEST, association, difference, holm
from landscaper_hpc.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05
HALF = 0.5
"""How much of an effect must be there on coarser grids: its sign alone chance gives every second time."""
REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "undecided at this size"
CONFIRMED = {
    "n_minima": "confirmed_minima",
    "simplified_n_minima": "confirmed_minima",
    "mean_climb": "confirmed_mean_climb",
    "smad": "confirmed_smad",
    "persistence_max": "confirmed_persistence",
    "persistence_total": "confirmed_total_persistence",
}
"""Quantities of the grid's minima, and the same of those that gradients confirmed."""
_MOST_NUMBERS = 12


@dataclass(frozen=True)
class Effect:
    """How large an effect is from −1 to 1 (Cliff's δ, Spearman's ρ), its 95 % interval, and its p-value; NaN where it
    was not tested, for the reason `why`. `numbers` are of the groups, or of the levels of what the trend is with."""

    size: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    least_p: float = math.nan
    n: tuple[int, ...] = ()
    numbers: tuple[Mapping[str, Any], ...] = ()
    left_out: int = 0
    why: str = ""


@dataclass(frozen=True)
class Judged:
    """A claim with its effect, the effect on other grids and of the loss's own minima, and what follows from them."""

    claim: Claim
    effect: Effect
    elsewhere: tuple[tuple[str, float], ...]
    tests: int = 1
    p_of_all: float = math.nan

    @property
    def holds(self) -> bool:
        """Whether everywhere else the effect has the same sign and is at least half as large."""
        return not self._against

    @property
    def _against(self) -> list[str]:
        size = self.effect.size
        return [where for where, other in self.elsewhere if not other * math.copysign(1, size) >= HALF * abs(size) > 0]

    @property
    def verdict(self) -> str:
        if not self.p_of_all < LEVEL or not self.holds:
            return UNDECIDED
        return REPRODUCED if self.effect.size * self.claim.test.sign > 0 else NOT_REPRODUCED

    @property
    def why(self) -> str:
        """The reason of the verdict, as a clause."""
        if math.isnan(self.p_of_all):
            return self.effect.why or "all the same"
        if not self.p_of_all < LEVEL:
            few = self.tests * self.effect.least_p >= LEVEL
            return "so few runs cannot decide it" if few else "chance may have made it"
        if not self.holds:
            return f"not half as large, or of the other sign, {', '.join(self._against)}"
        return "as claimed" if self.verdict == REPRODUCED else "the opposite of the claim"

    def as_json(self) -> dict[str, Any]:
        it, claim = self.effect, self.claim
        return {
            "sentence": claim.sentence,
            "source": claim.source,
            "paper": claim.paper,
            "quantity": claim.quantity,
            "test": claim.test.text,
            "where": dict(claim.where),
            "expected": claim.test.sign,
            "measure": "Cliff's δ" if isinstance(claim.test, Groups) else "Spearman's ρ",
            "n": list(it.n),
            "left_out": it.left_out,
            "numbers": [dict(each) for each in it.numbers],
            "effect": it.size,
            "interval": [it.low, it.high],
            "p": it.p,
            "p_of_all": self.p_of_all,
            "tests": self.tests,
            "elsewhere": [{"where": where, "effect": size} for where, size in self.elsewhere],
            "verdict": self.verdict,
            "why": self.why,
        }


def judged(claims: Sequence[Claim], tables: Mapping[str, pd.DataFrame], settings: Sequence[str]) -> list[Judged]:
    """Every claim, p-values after as many tests as there were (Holm 1979). `settings` are the columns of the landscapes
    that tell one training from another, its seed among them."""
    found = [_one(claim, tables, settings) for claim in claims]
    p = [each.effect.p for each in found]
    tests = sum(not math.isnan(each) for each in p)
    return [replace(each, tests=tests, p_of_all=all_) for each, all_ in zip(found, holm(p), strict=True)]


def _one(claim: Claim, tables: Mapping[str, pd.DataFrame], settings: Sequence[str]) -> Judged:
    if claim.table not in tables:
        raise InputError(f"claim {claim.sentence!r}: there is no table {claim.table!r}; there is {', '.join(tables)}")
    rows = tables[claim.table]
    _known(claim, claim.where, rows)
    rows = rows[_are(rows, claim.where)]
    if claim.table == LANDSCAPES and rows.duplicated(list(settings)).any():
        raise InputError(
            f"claim {claim.sentence!r}: counts several landscapes of the same training; say which variant with where"
        )
    same = [name for name in settings if name != SEED and name in rows]
    elsewhere = [
        (where, _effect(_on(claim, column, rows), rows, same).size) for column, where in _other_columns(claim, rows)
    ]
    return Judged(claim, _effect(claim, rows, same), tuple(elsewhere))


def _on(claim: Claim, column: str, rows: pd.DataFrame) -> Claim:
    """The claim about this column, and what its trend is with on the same nested grid, or of confirmed minima, where
    that is of a grid too."""
    test, (_, at, step) = claim.test, column.partition("@")
    if isinstance(test, Trend):
        number, of, which = test.against.partition("_of_")
        other = f"{test.against}@{step}" if at else CONFIRMED.get(number, "") + of + which
        if other in rows and (at or column in CONFIRMED.values()):
            test = replace(test, against=other)
    return replace(claim, quantity=column, test=test)


def _other_columns(claim: Claim, rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Columns with the same quantity of nested grids, of confirmed minima, and for SMAD the mean climb, which settles
    where SMAD does not."""
    found = []
    for column in map(str, rows.columns):
        quantity, at, step = column.partition("@")
        if at and quantity == claim.quantity and rows[column].notna().any():
            found.append((int(step), column, f"on every {_ORDINALS.get(int(step), step + 'th')} point"))
    told = [(column, words) for _, column, words in sorted(found, reverse=True)]
    confirmed = CONFIRMED.get(claim.quantity, "")
    if confirmed in rows and rows[confirmed].notna().any():
        told.append((confirmed, "for confirmed minima"))
    if claim.quantity == "smad" and "mean_climb" in rows:
        told.append(("mean_climb", "for mean climb"))
    return told


_ORDINALS = {2: "second"}


def _known(claim: Claim, columns: Iterable[str], rows: pd.DataFrame) -> None:
    for column in columns:
        if column not in rows:
            raise InputError(
                f"claim {claim.sentence!r}: there is no column {column!r} in {claim.table}; there are "
                f"{', '.join(map(str, rows.columns))}"
            )


def _effect(claim: Claim, rows: pd.DataFrame, same: Sequence[str]) -> Effect:
    test = claim.test
    _known(claim, [test.against, *test.by] if isinstance(test, Trend) else [*test.first, *test.second], rows)
    _known(claim, [claim.quantity], rows)
    numbers = [claim.quantity, *([test.against] if isinstance(test, Trend) else [])]
    finite = rows[numbers].astype(float).map(math.isfinite).all(axis=1)
    left_out = int((~finite).sum())
    rows = rows[finite]
    found = _of_groups(claim, test, rows, same) if isinstance(test, Groups) else _of_trend(claim, test, rows)
    return replace(found, left_out=left_out)


def _of_groups(claim: Claim, test: Groups, rows: pd.DataFrame, same: Sequence[str]) -> Effect:
    sides = []
    for group in (test.first, test.second):
        values = rows.loc[_are(rows, group)]
        of = values[claim.quantity].astype(float)
        if test.spread:
            of = (of - values.groupby(list(same))[claim.quantity].transform("median")).abs()
        sides.append(of.to_numpy())
    a, b = sides
    numbers = tuple(_spread(named(g), v) for g, v in zip((test.first, test.second), sides, strict=True))
    if empty := [named(group) for group, side in zip((test.first, test.second), sides, strict=True) if not len(side)]:
        return Effect(n=(len(a), len(b)), numbers=numbers, why=f"not measured: no run with {' or '.join(empty)}")
    if min(len(a), len(b)) < 2:
        return Effect(n=(len(a), len(b)), numbers=numbers, why="not tested: a group has fewer than two runs")
    ranks = stats.rankdata(np.concatenate(sides))
    found = difference(ranks[: len(a)], ranks[len(a) :])
    if np.ptp(ranks) == 0:
        return Effect(size=0.0, n=found.n, numbers=numbers, why="not tested: all the same")
    low, high = cliff_interval(found.delta, *found.n)
    return Effect(found.delta, low, high, found.p, found.least_p, found.n, numbers)


def _of_trend(claim: Claim, test: Trend, rows: pd.DataFrame) -> Effect:
    x, y = test.against, claim.quantity
    if test.by:
        rows = rows.groupby(list(test.by), sort=True)[[*dict.fromkeys((x, y))]].mean().reset_index()
    numbers: tuple[Mapping[str, Any], ...] = ()
    if rows[x].nunique() <= min(_MOST_NUMBERS, len(rows) - 1):
        numbers = tuple(_spread(named({x: at}), each[y].to_numpy(float)) for at, each in rows.groupby(x, sort=True))
    if len(rows) < FEWEST:
        return Effect(n=(len(rows),), numbers=numbers, why=f"not tested: fewer than {FEWEST} settings")
    found = association(rows[x].astype(float), rows[y].astype(float))
    if math.isnan(found.rho):
        return Effect(size=0.0, n=(found.n,), numbers=numbers, why="not tested: all the same")
    return Effect(found.rho, found.low, found.high, found.p, found.least_p, (found.n,), numbers)


def cliff_interval(delta: float, n: int, m: int) -> tuple[float, float]:
    """The 95 % interval of Cliff's δ of groups of n and m (Newcombe 2006, method 5)."""
    z, share = stats.norm.ppf(0.975), (delta + 1) / 2
    others = (n + m) / 2 - 1

    def beyond(theta: float) -> float:
        shape = 1 + others * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (theta - share) ** 2 - z * z * theta * (1 - theta) * shape / (n * m)

    # at the ends of [0, 1] it is zero as well
    low = optimize.brentq(beyond, 0, min(share, 1 - 1e-12))
    high = optimize.brentq(beyond, max(share, 1e-12), 1)
    return 2 * low - 1, 2 * high - 1


def _are(rows: pd.DataFrame, values: Mapping[str, Any]) -> Any:
    found = np.ones(len(rows), dtype=bool)
    for key, value in values.items():
        found &= (rows[key] == value).to_numpy()
    return found


def _spread(name: str, values: Any) -> dict[str, Any]:
    n = len(values)
    return {
        "of": name,
        "n": n,
        "mean": float(np.mean(values)) if n else math.nan,
        "sd": float(np.std(values, ddof=1)) if n > 1 else math.nan,
        "low": float(np.min(values)) if n else math.nan,
        "high": float(np.max(values)) if n else math.nan,
    }
