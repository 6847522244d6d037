"""What an experiment says of itself: what is trained at which size, and what the paper claims of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Scalar = bool | int | float | str
LANDSCAPES = "landscapes"
SEED = "seed"


def combined(**factors: Sequence[Scalar]) -> list[dict[str, Scalar]]:
    """Every combination of the factors' levels."""
    return [dict(zip(factors, levels, strict=True)) for levels in itertools.product(*factors.values())]


@dataclass(frozen=True)
class Size:
    """How much of an experiment is done.

    conditions
        Levels of the factors; each is trained with each seed. Task and trainer get them as options, with `seed`.
        Empty: nothing is trained, all comes from the experiment's tables.
    seeds
        How many, from 0.
    options
        More options of task and trainer, the same for all.
    set
        Keys of study.yaml that are other here: {"grid.count": 21}.
    variants
        More such keys, a landscape of every checkpoint for each, all of them with the same keys: [{"directions.n": 2},
        {"directions.n": 3}].
    data
        What has to be given with --data, in words; task and trainer get its path as the option `data`.
    check
        check(path of the data): raises `InputError` in one sentence where they are not what is needed.
    claims
        In place of the experiment's, whose groups have levels that this size has not.
    """

    conditions: Sequence[Mapping[str, Scalar]]
    seeds: int
    options: Mapping[str, Scalar] = field(default_factory=dict)
    set: Mapping[str, Any] = field(default_factory=dict)
    variants: Sequence[Mapping[str, Any]] = ({},)
    data: str | None = None
    check: Callable[[Path], None] | None = None
    claims: Sequence[Claim] | None = None


@dataclass(frozen=True)
class Groups:
    """The quantity is larger (or smaller) in runs of the `second` group than in those of the `first`.

    A group is what its runs have in common: {"skip": False}. With `spread` it is not the quantity that is compared but
    how far it lies from the median of the runs that differ by their seed only.
    """

    first: Mapping[str, Any]
    second: Mapping[str, Any]
    expected: Literal["larger", "smaller"]
    spread: bool = False

    @property
    def sign(self) -> int:
        return 1 if self.expected == "larger" else -1

    @property
    def text(self) -> str:
        what = "varies more" if self.spread and self.sign > 0 else "varies less" if self.spread else self.expected
        return f"{what} for {named(self.second)} than for {named(self.first)}"


@dataclass(frozen=True)
class Trend:
    """The quantity rises (or falls) with the column `against`: a factor, an outcome, another quantity.

    `by`: runs with the same values of these columns count once, by their means, as repetitions of one setting. Without
    it every run counts, which is right where `against` is a factor that was set, and not where it is an outcome.
    """

    against: str
    expected: Literal["rises", "falls"]
    by: Sequence[str] = ()

    @property
    def sign(self) -> int:
        return 1 if self.expected == "rises" else -1

    @property
    def text(self) -> str:
        return f"{self.expected} with {self.against}" + (f", means of each {', '.join(self.by)}" if self.by else "")


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper, and the test that it has to stand here.

    sentence, source
        What the paper says, and where. `paper`: its numbers.
    quantity
        A column: a number of the sweep's table, an outcome, one of the experiment's own.
    where
        Only rows with these values count: {"directions.n": 3}.
    table
        Of which the quantity is a column.
    """

    sentence: str
    source: str
    quantity: str
    test: Groups | Trend
    paper: str = "no number"
    where: Mapping[str, Any] = field(default_factory=dict)
    table: str = LANDSCAPES


@dataclass(frozen=True)
class Done:
    """What an experiment's own tables are made from: its size, the landscapes' rows (None where nothing is trained), a
    folder to keep things in, and how many processes there may be."""

    size: str
    landscapes: pd.DataFrame | None
    folder: Path
    jobs: int
    data: Path | None


@dataclass(frozen=True)
class Experiment:
    """A paper's experiment.

    sizes
        smallest (seconds, for tests), small (minutes on two cores), full (as the paper's), and more by any name.
    show
        Columns of the landscapes that RESULTS.md tells for each condition.
    outcomes
        outcomes(checkpoint, **options): what else is known of a trained network, such as its test error.
    quantities
        More numbers of a landscape: functions of its array of losses.
    tables
        More tables, each row a run: functions of what was `Done`.
    remarks
        Sentences that RESULTS.md ends with.
    """

    title: str
    sizes: Mapping[str, Size]
    claims: Sequence[Claim]
    show: Sequence[str] = ("loss", "n_minima", "mean_climb", "smad")
    outcomes: Callable[..., Mapping[str, float]] | None = None
    quantities: Mapping[str, Callable[[NDArray[Any]], float]] = field(default_factory=dict)
    tables: Mapping[str, Callable[[Done], pd.DataFrame]] = field(default_factory=dict)
    remarks: Sequence[str] = ()

    def claims_at(self, size: str) -> Sequence[Claim]:
        """What is tested at a size."""
        own = self.sizes[size].claims
        return self.claims if own is None else own


def named(values: Mapping[str, Any]) -> str:
    """Levels in words: "skip = False"."""
    return ", ".join(f"{key} = {value}" for key, value in values.items()) or "all"
