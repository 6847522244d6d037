"""The merge tree of a scalar field on a graph, as flat arrays.

Elder rule (Edelsbrunner, Letscher and Zomorodian 2002): where components meet, the one with the lowest minimum goes
on and the others' minima die. First saddles: Chen et al., *Landscaper* (2026), eq. 1.

**What is not finite.** Vertices are ordered by (value, id), -inf first, +inf and then NaN last. A minimum of this
order that is +inf or NaN is no minimum: its component is none until a proper one absorbs it, and that event is
neither a saddle, nor a first saddle, nor a death. Vertices that descend to such a place belong to no basin; they
count in `n_vertices` only. Two proper components may still meet at a vertex that is +inf or NaN: that is a saddle
like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc import notebook
from landscaper_hpc.errors import InputError
from landscaper_hpc.topology.heights import apart, unit_of


class Persistence(NamedTuple):
    """Elder-rule pairs of a merge tree, in the order of its minima, and what never dies.

    Values are in the units of the field, ids are flat (C order).

    Attributes
    ----------
    births, deaths
        (p,) values of the minima that die, and of the saddles at which they do.
    minima, saddles
        (p,) where that is.
    essential
        (e,) values of the minima that never die: one for each component of the grid or graph.
    essential_minima
        (e,) where they are.

    References
    ----------
    Edelsbrunner, Letscher and Zomorodian, *Topological Persistence and Simplification* (2002): the elder rule.
    """

    births: NDArray[np.float64]
    deaths: NDArray[np.float64]
    minima: NDArray[np.int64]
    saddles: NDArray[np.int64]
    essential: NDArray[np.float64]
    essential_minima: NDArray[np.int64]

    def _repr_html_(self) -> str:
        """For notebooks."""
        life = self.deaths - self.births
        rows: list[tuple[str, object]] = [("pairs", len(life)), ("never die", len(self.essential))]
        if len(life):
            rows += [("births", _bounds(self.births)), ("deaths", _bounds(self.deaths))]
            rows.append(("largest persistence", float(np.abs(life).max())))
        return notebook.card("persistence", rows, notebook.diagram(self.births, self.deaths))


@dataclass(frozen=True)
class MergeTree:
    """The merge tree of a field: one entry per minimum, in the order of the minima by (value, id).

    All ids are flat (C order, int64), all values in the units of the field, as in the input. With `direction`
    "superlevel" everything is said of the negated field: read maximum for minimum, and the values are the field's own
    again. `merge_tree` makes it.

    Attributes
    ----------
    shape
        Of the grid; (number of vertices,) for a graph.
    connectivity
        "axis", "freudenthal", "full", "knn" or "graph".
    direction
        "sublevel" or "superlevel".
    minima, values
        (m,) where the minima are, and the field there; entry 0 is the global minimum.
    basin_size
        (m,) how many vertices descend steepest to each.
    first_saddle, first_saddle_value
        (m,) where its component first meets another, and the field there; -1 and NaN if it never does.
    parent
        (m,) index of the minimum whose component absorbs it; -1 if it is essential.
    death, death_value
        (m,) where that happens, and the field there; -1 and NaN if it never does.
    value_range
        Smallest and largest finite value of the field; NaN if there is none.
    nonfinite
        How many vertices are NaN ("nan"), +inf ("posinf") and -inf ("neginf").
    n_vertices
        Of the whole grid or graph.
    labels
        On request: index of the minimum each vertex descends to, int32 or int64, in the grid's shape; -1 for none.
    simplified
        The persistence below which `simplify` has left pairs out; 0 of a whole tree. It is not stored.

    References
    ----------
    Chen et al., *Landscaper* (2026), eq. 1: first saddles and basins.
    """

    shape: tuple[int, ...]
    connectivity: str
    direction: str
    minima: NDArray[np.int64]
    values: NDArray[np.float64]
    basin_size: NDArray[np.int64]
    first_saddle: NDArray[np.int64]
    first_saddle_value: NDArray[np.float64]
    parent: NDArray[np.int64]
    death: NDArray[np.int64]
    death_value: NDArray[np.float64]
    value_range: tuple[float, float]
    nonfinite: dict[str, int]
    n_vertices: int
    labels: NDArray[Any] | None = None
    simplified: float = 0.0

    @property
    def n_minima(self) -> int:
        """How many minima there are: one basin for each."""
        return len(self.minima)

    @property
    def n_saddles(self) -> int:
        """Number of vertices at which two or more components meet."""
        return len(np.unique(self.death[self.death >= 0]))

    @property
    def lifetimes(self) -> NDArray[np.float64]:
        """|death - birth| per minimum, (m,); infinite where it never dies or dies at a value that is not finite, or
        where it is infinite itself. One that is larger than numbers go counts as the largest."""
        return apart(self.values, self.death_value)

    def scaled(self) -> tuple[MergeTree, float]:
        """The tree of the values divided by a power of two, and that: 1, unless they are so large that differences and
        sums of them might be no numbers. Then nothing is lost but what is nothing beside them."""
        unit = unit_of(self.value_range)
        if unit == 1:
            return self, 1.0
        heights = {name: getattr(self, name) / unit for name in ("values", "first_saddle_value", "death_value")}
        low, high = self.value_range
        return replace(self, value_range=(low / unit, high / unit), **heights), unit

    def _repr_html_(self) -> str:
        """For notebooks."""
        sign = -1.0 if self.direction == "superlevel" else 1.0
        rows: list[tuple[str, object]] = [
            ("grid" if len(self.shape) > 1 else "vertices", " × ".join(f"{k:,}" for k in self.shape)),
            ("connectivity", f"{self.connectivity}, {self.direction}"),
            ("minima" if sign > 0 else "maxima", self.n_minima),
            ("saddles", self.n_saddles),
            ("range of values", _bounds(np.array(self.value_range))),
        ]
        finite = self.lifetimes[np.isfinite(self.lifetimes)]
        if finite.size:
            rows.append(("largest persistence", float(finite.max())))
        rows += [(f"values that are {name}", count) for name, count in self.nonfinite.items() if count]
        return notebook.card("merge tree", rows, notebook.bars(sign * self.values, sign * self.death_value))

    def persistence(self) -> Persistence:
        """The elder-rule pairs and the essential minima.

        Returns
        -------
        Persistence
            Births and deaths in the units of the field, and where they are.
        """
        dies = self.parent >= 0
        return Persistence(
            self.values[dies],
            self.death_value[dies],
            self.minima[dies],
            self.death[dies],
            self.values[~dies],
            self.minima[~dies],
        )

    def simplify(self, threshold: float) -> MergeTree:
        """The tree without the pairs whose persistence lies below a threshold, in one pass.

        A cancelled minimum's basin goes to the nearest surviving minimum up its `parent` chain. A parent is lower
        and dies later, so it survives whenever a child does, and what remains is again a merge tree. Labels follow.

        Parameters
        ----------
        threshold
            In the units of the field.

        Returns
        -------
        MergeTree
            Of the same grid, with at most as many minima.

        Raises
        ------
        InputError
            For a threshold that is no number, or NaN.
        """
        if not isinstance(threshold, float | int | np.number) or not threshold == threshold:
            raise InputError(f"threshold is {threshold!r}; give a height, in the unit of the field")
        from landscaper_hpc.topology.kernels.elder import first_saddles, inherit  # numba, which reading needs not

        stays = ~(self.lifetimes < threshold)
        heir = np.arange(self.n_minima)
        inherit(self.parent, stays, heir)
        index = np.cumsum(stays) - 1
        size = np.zeros(self.n_minima, np.int64)
        np.add.at(size, heir, self.basin_size)
        parent = self.parent[stays]
        parent[parent >= 0] = index[parent[parent >= 0]]
        labels = self.labels
        if labels is not None:
            table = np.append(index[heir], -1).astype(labels.dtype)
            labels = table[labels]
        death, death_value = self.death[stays], self.death_value[stays]
        sign = -1.0 if self.direction == "superlevel" else 1.0
        first, first_value = first_saddles(parent, death, death_value, sign)
        return replace(
            self,
            minima=self.minima[stays],
            values=self.values[stays],
            basin_size=size[stays],
            first_saddle=first,
            first_saddle_value=first_value,
            parent=parent,
            death=death,
            death_value=death_value,
            labels=labels,
            simplified=max(self.simplified, threshold),
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as flat arrays by name, as stored in a Zarr group; `from_arrays` reads it back."""
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _PER_MINIMUM}
        arrays["shape"] = np.array(self.shape, np.int64)
        arrays["value_range"] = np.array(self.value_range)
        arrays["nonfinite"] = np.array([self.nonfinite[name] for name in _NONFINITE], np.int64)
        arrays["n_vertices"] = np.array(self.n_vertices, np.int64)
        for name in ("connectivity", "direction"):
            arrays[name] = np.frombuffer(getattr(self, name).encode("ascii"), np.uint8)
        if self.labels is not None:
            arrays["labels"] = self.labels
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> MergeTree:
        """The tree that `to_arrays` was made of."""
        low, high = (float(x) for x in arrays["value_range"])
        return cls(
            shape=tuple(int(k) for k in arrays["shape"]),
            connectivity=bytes(arrays["connectivity"]).decode("ascii"),
            direction=bytes(arrays["direction"]).decode("ascii"),
            value_range=(low, high),
            nonfinite={name: int(n) for name, n in zip(_NONFINITE, arrays["nonfinite"], strict=True)},
            n_vertices=int(arrays["n_vertices"]),
            labels=arrays.get("labels"),
            **{name: arrays[name] for name in _PER_MINIMUM},  # type: ignore[arg-type]
        )


def _bounds(values: NDArray[np.float64]) -> str:
    return f"{values.min():.4g} to {values.max():.4g}"


_PER_MINIMUM = (
    "minima",
    "values",
    "basin_size",
    "first_saddle",
    "first_saddle_value",
    "parent",
    "death",
    "death_value",
)
_NONFINITE = ("nan", "posinf", "neginf")


Direction = Literal["sublevel", "superlevel"]


DIRECTIONS: tuple[str, ...] = get_args(Direction)


def check_direction(direction: str) -> None:
    if direction not in DIRECTIONS:
        raise InputError(f"direction is {direction!r}; choose one of {', '.join(DIRECTIONS)}")
