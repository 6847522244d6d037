"""How the numbers of a sweep go with outcomes of the same runs, such as test errors, that a user's table gives.

Rows of both belong together where every column that both have says the same. Runs that repeat one setting, with other
seeds, are no more evidence than their mean: they are averaged first, by what tells settings apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscaper_hpc.comparison.association import FEWEST, Association, Difference, association, difference, holm
from landscaper_hpc.errors import InputError
from landscaper_hpc.report.quantities import ROWS, shown
from landscaper_hpc.report.quantity import Quantity
from landscaper_hpc.report.sweep_table import table
from landscaper_hpc.store.folder import SweepFolder
from landscaper_hpc.store.sweep_record import read_sweep

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05
"""A p-value below it, after all tests, is called evidence."""


@dataclass(frozen=True)
class Found:
    """A quantity and an outcome, or a quantity of two groups: what they have to do with each other, `None` where there
    are too few numbers, and its p-value after all `tests` of the table."""

    quantity: str
    label: str
    against: str
    n: int
    tested: Association | Difference | None
    tests: int = 0
    p_of_all: float = math.nan

    @property
    def verdict(self) -> str:
        if self.tested is None or math.isnan(self.tested.p):
            return "not tested: too few runs" if self.tested is None else "not tested: all the same"
        if self.p_of_all < LEVEL:
            return "evidence"
        return "undecided" if self.tests * self.tested.least_p < LEVEL else "undecided, as so few runs must be"

    def as_json(self) -> dict[str, Any]:
        tested = {} if self.tested is None else asdict(self.tested)
        return {
            "quantity": self.quantity,
            "against": self.against,
            "n": self.n,
            **tested,
            "p_of_all_tests": self.p_of_all,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Joined:
    """Rows of runs with numbers and outcomes: `rows` one for each run or, averaged, each setting; `single` of these
    have one run; `without` runs of the sweep have no outcome or are not finished; `unmet` outcomes have no run;
    `words` are columns of the outcomes that are no numbers."""

    rows: pd.DataFrame
    outcomes: list[str]
    on: list[str]
    single: int
    without: int
    unmet: int
    words: list[str]


def joined(folder: Path, file: Path, by: Sequence[str] = ()) -> Joined:
    """The sweep in `folder` with the outcomes in `file` (CSV), runs with the same values of all of `by` averaged.

    Raises
    ------
    InputError
        No column in common, columns that name several rows, outcomes that are no numbers, nothing that is finished.
    """
    runs, told = table(folder, read_sweep(folder)), _read(file)
    if own := [name for name in _columns(told) if _measured(name)]:
        raise InputError(
            f"{file}: has the column {own[0]}, as the sweep's own table has; leave it out, or name it otherwise where "
            "it is an outcome"
        )
    names = [name for name in _columns(told) if name in runs]
    if not names:
        raise InputError(
            f"{file}: none of its columns ({', '.join(_columns(told))}) tells which run of the sweep a row is of; "
            f"name one as the sweep does, and separate columns by commas: {', '.join(_identity(runs))}"
        )
    for name in names:
        said = runs[name].map(_as_said)
        # names of runs may be numbers that are the same: 010 and 10
        as_is = said.nunique() < runs[name].map(_text).nunique()
        runs[name], told[name] = (
            (runs[name].map(_text), told[name].map(_text)) if as_is else (said, told[name].map(_as_said))
        )
    for name in told.columns.difference(names):
        told[name] = _numbers(told[name], file)
    if len(twice := told[told.duplicated(names)]):
        row = ", ".join(f"{name} = {twice.iloc[0][name]}" for name in names)
        raise InputError(f"{file}: two rows are of {row}; keep one, or add a column that tells them apart")
    done = runs[runs["state"] == "done"]
    found = done.merge(told, on=names)
    if not len(found):
        raise InputError(f"{file}: no row is of a finished run, by {', '.join(names)}; see {SweepFolder(folder).csv}")
    without = len(runs) - len(found)
    met = told.merge(done[names].drop_duplicates(), on=names)
    by = list(dict.fromkeys(by))
    _known(by, found, file)
    outcomes = [name for name in _columns(told) if name not in names and name not in by]
    words = [name for name in outcomes if name not in found.select_dtypes("number")]
    single = 0
    if by:
        if missing := [name for name in by if found[name].isna().any()]:
            lacking = int(found[missing[0]].isna().sum())
            raise InputError(
                f"--by {missing[0]}: {lacking} of {len(found)} runs have no value of it; give each one, or leave it out"
            )
        groups = found.groupby(by, sort=True)
        single = int((groups.size() == 1).sum())
        numbers = [name for name in found.select_dtypes("number") if name not in by]
        found = groups[numbers].mean().reset_index()
    return Joined(found, outcomes, names, single, without, len(told) - len(met), words)


def correlations(runs: Joined, keys: Sequence[str] = ()) -> list[Found]:
    """Each quantity (those of a sweep's page, or of these `keys`) against each outcome that is a number."""
    outcomes = [name for name in runs.outcomes if name in runs.rows.select_dtypes("number")]
    if not outcomes:
        raise InputError(f"no column of the outcomes is a number: {', '.join(runs.outcomes) or 'there is no other'}")
    found = []
    for row, outcome in ((row, outcome) for outcome in outcomes for row in _quantities(runs, keys)):
        pairs = runs.rows[[row.column, outcome]].astype(float)
        pairs = pairs[pairs.map(math.isfinite).all(axis=1)]
        tested = None if len(pairs) < FEWEST else association(pairs[row.column], pairs[outcome])
        found.append(Found(row.column, row.label, outcome, len(pairs), tested))
    return _after_all(found)


def differences(runs: Joined, groups: str, keys: Sequence[str] = ()) -> list[Found]:
    """Each quantity, and each outcome, in the two groups of runs that the column `groups` makes."""
    _known([groups], runs.rows, "the runs")
    values = sorted(runs.rows[groups].dropna().unique(), key=str)
    if len(values) != 2:
        raise InputError(f"--groups {groups}: has {len(values)} values; two groups are compared")
    columns = {row.column: row.label for row in _quantities(runs, keys)}
    numbers = runs.rows.select_dtypes("number")
    columns |= {name: name for name in runs.outcomes if name in numbers and name != groups}
    found = []
    for name, label in columns.items():
        sides = [runs.rows.loc[runs.rows[groups] == value, name].astype(float) for value in values]
        sides = [side[side.map(math.isfinite)] for side in sides]
        tested = None if min(map(len, sides)) < 2 else difference(*sides)
        against = f"{groups} = {values[0]} against {values[1]}"
        found.append(Found(name, label, against, sum(map(len, sides)), tested))
    return _after_all(found)


def _after_all(found: list[Found]) -> list[Found]:
    p = [math.nan if one.tested is None else one.tested.p for one in found]
    tests = sum(not math.isnan(each) for each in p)
    return [replace(one, tests=tests, p_of_all=each) for one, each in zip(found, holm(p), strict=True)]


def _quantities(runs: Joined, keys: Sequence[str]) -> list[Quantity]:
    numbers = runs.rows.select_dtypes("number")
    rows = [row for row in shown("sweep") if row.kind.scalar and row.column in numbers]
    if not keys:
        return rows
    known = {row.column: row for row in ROWS if row.kind.scalar}
    for key in keys:
        if key not in known or key not in numbers:
            raise InputError(f"--quantity {key}: is no number of this sweep; its table names those that are")
    return [known[key] for key in dict.fromkeys(keys)]


def _measured(name: str) -> bool:
    return name == "state" or any(name == row.column for row in ROWS)


def _identity(runs: pd.DataFrame) -> list[str]:
    return [name for name in _columns(runs) if not _measured(name) and runs[name].notna().any()]


def _columns(rows: pd.DataFrame) -> list[str]:
    return list(map(str, rows.columns))


def _read(file: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        # as text: pandas takes a first column without a name, and all that rows have too much, for names of rows
        found = pd.read_csv(file, skipinitialspace=True, header=None, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"{file}: does not exist; give a CSV file with a row for each run") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: is no table in CSV ({str(error).splitlines()[0]})") from None
    # what a row lacks at its end
    found = found.fillna("")
    found.columns = pd.Index([str(name).strip() for name in found.iloc[0]])
    found = found.iloc[1:].reset_index(drop=True)
    for name in found.columns[found.columns.duplicated()]:
        if name:
            raise InputError(f"{file}: has two columns {name!r}; name them apart, or leave one out")
    unnamed = found.loc[:, [not name for name in found.columns]]
    # pandas and R write numbers of rows there; an empty one comes of a comma at the end of each line
    if any(not (column.eq("").all() or column.tolist() == _counted(column)) for _, column in unnamed.items()):
        raise InputError(f"{file}: a column has values and no name; name it, or leave it out")
    return found.loc[:, [bool(name) for name in found.columns]]


def _counted(column: pd.Series[str]) -> list[str]:
    """The numbers of rows from where this column begins, 0 or 1."""
    first = 1 if column.iloc[0] == "1" else 0
    return [str(i) for i in range(first, first + len(column))]


_NOTHING = {"", "na", "n/a", "nan", "null", "none", "-"}
"""What tables say where there is no number."""


def _numbers(column: pd.Series[str], file: Path) -> pd.Series[Any]:
    """A column of outcomes: numbers, NaN where there is none; or text where none of it is one."""
    import pandas as pd

    text = column.str.strip()
    nothing = text.str.lower().isin(_NOTHING)
    numbers = pd.to_numeric(text.where(~nothing), errors="coerce").astype(float)
    wrong = text[numbers.isna() & ~nothing]
    if not len(wrong):
        return numbers
    if numbers.notna().any():
        raise InputError(f"{file}: {column.name} has numbers, and {wrong.iloc[0]!r}; write a number, or nothing")
    return text.where(~nothing)


def _known(names: Sequence[str], rows: pd.DataFrame, where: object) -> None:
    for name in names:
        if name not in rows:
            raise InputError(
                f"{name}: neither the sweep nor {where} has such a column; these have {', '.join(_columns(rows))}"
            )


def _text(value: Any) -> str | None:
    import pandas as pd

    return None if pd.isna(value) or not str(value).strip() else str(value).strip()


def _as_said(value: Any) -> str | None:
    """A value as a table in CSV has it: 1, 1.0 and "1" are the same."""
    text = _text(value)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else str(number)


def as_json(runs: Joined, found: Mapping[str, Sequence[Found]]) -> dict[str, Any]:
    """What `outcomes.json` holds."""
    return {
        "joined_on": runs.on,
        "rows": len(runs.rows),
        "settings_of_one_run": runs.single,
        "runs_without_outcome": runs.without,
        "outcomes_without_run": runs.unmet,
        "not_numbers": runs.words,
        **{kind: [one.as_json() for one in each] for kind, each in found.items()},
    }
