"""What a quantity is: one number that is told of a landscape, and all that there is to say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.comparison.weight_spectra import PowerLaws
from landscaper_hpc.confirm.result import Confirmed
from landscaper_hpc.grid import Grid
from landscaper_hpc.report import text
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import StoredDirections
from landscaper_hpc.topology.all_data import Change
from landscaper_hpc.topology.contour_result import ContourTree
from landscaper_hpc.topology.decided import without_shallow
from landscaper_hpc.topology.error_bars import ErrorBars
from landscaper_hpc.topology.metrics import (
    PersistenceStatistics,
    SmadCurve,
    noise_floor,
    persistence_statistics,
    smad_curve,
)
from landscaper_hpc.topology.refinement import Refinement
from landscaper_hpc.topology.scope import below, level_of_share, of_logarithm
from landscaper_hpc.topology.tree import MergeTree

if TYPE_CHECKING:  # numba, which telling what is stored needs not
    from landscaper_hpc.confirm.network import Network
    from landscaper_hpc.sampling.all_data import OfAllData
    from landscaper_hpc.sampling.climb import Climb
    from landscaper_hpc.sampling.lowest import Lowest
    from landscaper_hpc.sampling.scattered import Scattered

SCOPE_SHARE = 0.1
"""The scope that numbers are told of beside those of the whole grid: the lowest tenth of its points."""


class MetricsAt(NamedTuple):
    """The task's metrics at the points that a tree is of, by name, and which of its minima each point descends to; of a
    grid's points also what they are at the checkpoint, where that is one, and of others their coordinates."""

    values: Mapping[str, NDArray[np.float64]]
    labels: NDArray[Any]
    checkpoint: Mapping[str, float] | None = None
    alphas: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Measured:
    """What quantities are functions of: a merge tree, the precision that the field was computed in, for those of a
    landscape its store, for those of a scope the `field`: its values, and the tree's labels, for those of its
    refinement the trees, with labels, of the `nested` grids and their values, the coarsest first and the field's own
    not among them, for those of the contour tree that, and for those of what else a study asks for the answers, with
    the `change` that all data make where the losses are of a few batches. Where only the lowest part is evaluated, the
    tree is of that: the `lowest`, and perhaps an estimate of the whole grid's mean `climb`, or what all data say of it
    (`of_all_data`). Of scattered points it is of their graph, with what that says (`scattered`) and the `network` of
    minima that they lead to. Both may have the task's `metrics` at the tree's points."""

    tree: MergeTree
    precision: Any
    store: LandscapeStore | None = None
    field: tuple[NDArray[Any], NDArray[Any]] | None = None
    nested: Sequence[tuple[MergeTree, NDArray[Any]]] | None = None
    contour: ContourTree | None = None
    confirmed: Confirmed | None = None
    error_bars: ErrorBars | None = None
    change: Change | None = None
    lowest: Lowest | None = None
    climb: Climb | None = None
    step: int = 1
    """Of the grid's points along each axis the tree is of every so manieth."""
    trajectory: tuple[Sequence[str], Sequence[str], Mapping[str, NDArray[Any]]] | None = None
    """Its files, their SHA-256, and by name where they lie (`directions.of_checkpoints.Projection`)."""
    of_all_data: OfAllData | None = None
    power_laws: PowerLaws | None = None
    scattered: Scattered | None = None
    network: Network | None = None
    metrics: MetricsAt | None = None

    @cached_property
    def noise_floor(self) -> float:
        return noise_floor(self.precision, self.tree.value_range)

    @cached_property
    def persistence(self) -> PersistenceStatistics:
        return persistence_statistics(self.tree)

    @cached_property
    def curve(self) -> SmadCurve:
        return smad_curve(self.tree)

    @cached_property
    def logarithm(self) -> MergeTree | None:
        return of_logarithm(self.tree)

    @cached_property
    def simplified(self) -> MergeTree:
        return without_shallow(self.tree)

    @cached_property
    def scope(self) -> MergeTree | None:
        """Of the lowest tenth of the points; None without a field, and where ties leave no point in it."""
        if self.field is None:
            return None
        values, labels = self.field
        found = below(self.tree, values, labels, level_of_share(values, SCOPE_SHARE))
        return found if found.n_vertices else None

    @cached_property
    def scope_logarithm(self) -> MergeTree | None:
        return None if self.scope is None else of_logarithm(self.scope)

    @cached_property
    def refinement(self) -> Refinement | None:
        if self.nested is None:
            return None
        scopes = None
        if self.scope is not None:
            level = self.scope.value_range[1]
            scopes = [below(t, values, t.labels, level) for t, values in self.nested if t.labels is not None]
            scopes.append(self.scope)
        return Refinement.of([*(t for t, _ in self.nested), self.tree], scopes)

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        assert self.store is not None
        return self.store.attributes

    @cached_property
    def coarser(self) -> Measured | None:
        """The same of every second point along each axis; None where grids are not nested."""
        if not self.nested:
            return None
        tree, values = self.nested[-1]
        field = None if tree.labels is None else (values, tree.labels)
        return replace(self, tree=tree, field=field, nested=None, contour=None, step=2 * self.step)

    @property
    def coordinates(self) -> list[NDArray[np.float64]]:
        """Of the points that the tree is of, along each axis."""
        return [along[:: self.step] for along in self.grid.coordinates()]

    @property
    def grid(self) -> Grid:
        assert self.store is not None
        return self.store.grid

    @cached_property
    def directions(self) -> StoredDirections:
        assert self.store is not None
        return self.store.directions()

    def hessian(self, name: str) -> Any:
        return self.directions.hessian.get(name)


class Kind(NamedTuple):
    """What values of a quantity are: a fragment of JSON schema, how they are printed, whether one fits into a column of
    a table, and of a list the fields of its entries."""

    schema: Mapping[str, Any]
    text: Callable[[Any], str]
    scalar: bool = False
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True)
class Field:
    """What each entry of a list tells: its key, what it is called, its unit, what it says, how it is written."""

    name: str
    label: str
    unit: str
    meaning: str
    kind: Kind

    def text(self, entry: Mapping[str, Any]) -> str:
        """Its value in an entry, for people."""
        value = entry[self.name]
        return "–" if value is None else self.kind.text(value)


_NUMBER = {"$ref": "#/$defs/number"}
_NUMBERS = {"type": "array", "items": _NUMBER}
TEXT = Kind({"type": "string"}, str)
TEXTS = Kind({"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "null"}]}}, text.texts)
COUNT = Kind({"type": "integer"}, text.number, scalar=True)
NUMBER = Kind(_NUMBER, text.number, scalar=True)
SHARE = Kind(_NUMBER, text.percent, scalar=True)
NUMBERS = Kind(_NUMBERS, text.numbers)
BOUNDS = Kind({**_NUMBERS, "minItems": 2, "maxItems": 2}, text.bounds)
ESTIMATE = Kind({**_NUMBERS, "minItems": 2, "maxItems": 2}, text.with_error)
SHAPE = Kind({"type": "array", "items": {"type": "integer"}}, text.shape)
COUNTS = Kind({"type": "array", "items": {"type": "integer"}}, text.numbers)
SHAPES = Kind({"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}, text.shapes)
MATRIX = Kind({"type": "array", "items": _NUMBERS}, text.matrix)
FLAG = Kind({"type": "boolean"}, lambda value: "yes" if value else "no")


def records(*fields: Field) -> Kind:
    """A list of entries with these fields, any of which may be null."""
    entry = {
        "type": "object",
        "additionalProperties": False,
        "required": [field.name for field in fields],
        "properties": {
            field.name: {"description": field.meaning, "oneOf": [field.kind.schema, {"type": "null"}]}
            for field in fields
        },
    }
    return Kind({"type": "array", "items": entry}, lambda entries: f"{len(entries):,} entries", fields=fields)


Place = Literal["run", "topology", "page", "sweep", "figure"]
Origin = Literal[
    "tree",
    "tree of a study",
    "contour",
    "landscape",
    "confirmed",
    "error_bars",
    "trajectory",
    "power_law",
    "scope",
    "sampling",
]


@dataclass(frozen=True)
class Quantity:
    """One number that is told of a landscape.

    key         its place in the entry of a landscape in `results.json`; without "topology.", in `topology --json`
    label       what it is called, everywhere
    unit        "" for none; "loss" for that of the loss, "1/|Δθ|²" …
    meaning     what it says, in a few words for the reader of the page
    formula     how it is defined; `source` who says so
    origin      tree: of any merge tree; "tree of a study": of one, but too dear for every call of `topology`;
                contour: of the contour tree, where there is one; landscape: of directions, Hessian and checkpoint;
                confirmed, error_bars, trajectory, power_law: of what else a study asks for; scope: of the lowest part,
                sampling: of scattered points, both in place of a tree
    kind        how it is written and printed
    of          the function; None where there is no value
    places      where it is printed: the table of `run`, the lines of `topology`, the page, a column of a sweep's
                page, a figure of it. All scalars are in a sweep's table, under `column`
    undefined   of a contour row: what is said where the contour tree is there and the number is not
    """

    key: str
    label: str
    unit: str
    meaning: str
    formula: str
    source: str
    origin: Origin
    kind: Kind
    of: Callable[[Measured], Any]
    places: frozenset[Place] = frozenset()
    named: str | None = None
    undefined: str | None = None

    @property
    def column(self) -> str:
        """Its name in a sweep's table."""
        if self.origin == "scope":  # beside the numbers of a whole grid's lowest tenth
            return self.key.replace("scope", "lowest", 1).replace(".", "_")
        return self.named or "_".join(self.key.split(".")[-2:]).removeprefix("topology_")

    def value(self, entry: Mapping[str, Any]) -> Any:
        """Its value in a landscape's entry of `results.json`; None where there is none."""
        found: Any = entry
        for name in self.key.split("."):
            found = None if found is None else found.get(name)
        return found

    def text(self, value: Any) -> str:
        """A value for people."""
        return "–" if value is None else self.kind.text(value)

    def said(self, entry: Mapping[str, Any]) -> str | None:
        """Its value in an entry, for people, or that it is not defined; None where there is nothing to tell."""
        value = self.value(entry)
        if value is not None:
            return self.text(value)
        return None if entry.get("topology", {}).get("n_maxima") is None else self.undefined
