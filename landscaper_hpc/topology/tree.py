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

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology.kernels.compiled import jit
from landscaper_hpc.topology.kernels.forest import find
from landscaper_hpc.topology.kernels.order import Census, ordered_keys


class Persistence(NamedTuple):
    """Elder-rule pairs: `births` and `deaths` (p,), `minima` and `saddles` (p,) flat ids, in the order of the
    minima; and the essential minima, which never die: `essential` (e,) their values, `essential_minima` (e,) their
    flat ids."""

    births: NDArray[np.float64]
    deaths: NDArray[np.float64]
    minima: NDArray[np.int64]
    saddles: NDArray[np.int64]
    essential: NDArray[np.float64]
    essential_minima: NDArray[np.int64]


@dataclass(frozen=True)
class MergeTree:
    """The merge tree of a field: one entry per minimum, in the order of the minima by (value, id).

    All ids are flat (C order, int64), all values as in the input. With `direction` "superlevel" everything is said
    of the negated field: read maximum for minimum, and the values are the field's own again.

    shape           of the grid; (number of vertices,) for a graph
    connectivity    "axis", "freudenthal", "full", "knn" or "graph"
    direction       "sublevel" or "superlevel"
    minima, values  (m,) where the minima are, and the field there; entry 0 is the global minimum
    basin_size      (m,) how many vertices descend steepest to each
    first_saddle, first_saddle_value    (m,) where its component first meets another; -1 and NaN if it never does
    parent          (m,) index of the minimum whose component absorbs it; -1 if it is essential
    death, death_value                  (m,) where that happens; -1 and NaN if it never does
    value_range     smallest and largest finite value of the field; NaN if there is none
    nonfinite       how many vertices are NaN, +inf and -inf
    n_vertices      of the whole grid or graph
    labels          on request: index of the minimum each vertex descends to, int32 or int64, in the grid's shape; -1
                    for none
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

    @property
    def n_minima(self) -> int:
        return len(self.minima)

    @property
    def n_saddles(self) -> int:
        """Number of vertices at which two or more components meet."""
        return len(np.unique(self.death[self.death >= 0]))

    @property
    def lifetimes(self) -> NDArray[np.float64]:
        """|death - birth| per minimum, (m,); infinite where it never dies or dies at a value that is not finite, or
        where it is infinite itself."""
        with np.errstate(invalid="ignore"):
            life = np.abs(self.death_value - self.values)
        life[~np.isfinite(life)] = np.inf
        return life

    def persistence(self) -> Persistence:
        """The elder-rule pairs and the essential minima."""
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
        """The tree without the pairs whose persistence lies below `threshold`, in one pass.

        A cancelled minimum's basin goes to the nearest surviving minimum up its `parent` chain. A parent is lower
        and dies later, so it survives whenever a child does, and what remains is again a merge tree. Labels follow.
        """
        stays = ~(self.lifetimes < threshold)
        heir = np.arange(self.n_minima)
        _inherit(self.parent, stays, heir)
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
        first, first_value = _first_saddles(parent, death, death_value, sign)
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
            **{name: arrays[name] for name in _PER_MINIMUM},
        )


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


@jit
def _inherit(parent: Any, stays: Any, heir: Any) -> None:
    for i in range(heir.size):  # parents come first
        if not stays[i]:
            heir[i] = heir[parent[i]]


@jit
def _elder_rule(child: Any, parent: Any, saddle: Any, n_nodes: int, up: Any, died: Any, met: Any) -> None:
    """Over forest edges in order: `up` becomes each minimum's parent, `died` the edge at which it dies, `met` the
    one at which its component first meets another; all -1 for none.

    Nodes beyond the minima are none (see the module's first lines): they are absorbed without a trace.
    """
    component = np.arange(n_nodes)
    n_minima = up.size
    for e in range(child.size):
        a = find(component, child[e])
        b = find(component, parent[e])
        if b < a:
            a, b = b, a
        component[b] = a
        if b < n_minima:
            up[b] = a
            died[b] = e
            if met[a] < 0:
                met[a] = e
            if met[b] < 0:
                met[b] = e
    for i in range(n_minima):
        # several components at one vertex: the eldest of all absorbs each of the others
        a = up[i]
        if a >= 0 and up[a] >= 0 and saddle[died[a]] == saddle[died[i]]:
            up[i] = up[a]


def _first_saddles(
    parent: NDArray[np.int64], death: NDArray[np.int64], death_value: NDArray[np.float64], sign: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A minimum's component is first met either where it dies or where the first other one dies in it."""
    first = death.copy()
    value = death_value.copy()
    children = np.flatnonzero(parent >= 0)
    if len(children):
        keys = ordered_keys(sign * death_value[children])
        order = np.lexsort((death[children], keys))
        children = children[order]
        elders, at = np.unique(parent[children], return_index=True)
        earliest = children[at]
        rank = np.full(len(parent), len(parent), np.int64)
        rank[children] = np.arange(len(children))
        sooner = rank[earliest] < rank[elders]
        first[elders[sooner]] = death[earliest[sooner]]
        value[elders[sooner]] = death_value[earliest[sooner]]
    return first, value


class Edges(NamedTuple):
    """A spanning forest of minima, by their indices: `child` and `parent` meet at `saddle` (flat id, and its
    `value`); in the order of the saddles."""

    child: NDArray[Any]
    parent: NDArray[Any]
    saddle: NDArray[np.int64]
    value: NDArray[np.float64]


def build_tree(
    minima: NDArray[np.int64],
    values: NDArray[np.float64],
    sizes: NDArray[np.int64],
    edges: Edges,
    census: Census,
    *,
    shape: tuple[int, ...],
    connectivity: str,
    direction: str,
    n_vertices: int,
    labels: NDArray[Any] | None = None,
) -> MergeTree:
    """The merge tree from all minima in order (those that are none last), their basins and a forest that spans them.

    `values`, `edges` and `census` are those of the negated field if `direction` is "superlevel". `labels`: index of
    the minimum of each vertex in the order of `minima`; those of minima that are none become -1, in place.
    """
    proper = int(np.count_nonzero(values < np.inf))
    parent, died, met = np.full((3, proper), -1, np.int64)
    _elder_rule(edges.child, edges.parent, edges.saddle, len(minima), parent, died, met)
    # one NaN for all of them, and one more entry at the end for those that never die
    saddle_value = np.append(np.where(np.isnan(edges.value), np.nan, edges.value), np.nan)
    saddle = np.append(edges.saddle, -1)
    death, death_value = saddle[died], saddle_value[died]
    first, first_value = saddle[met], saddle_value[met]
    low, high = (census.low, census.high) if census.low <= census.high else (np.nan, np.nan)
    nonfinite = {"nan": census.nan, "posinf": census.posinf, "neginf": census.neginf}
    values = values[:proper]
    if labels is not None:
        labels[labels >= proper] = -1
    if direction == "superlevel":
        low, high = 0.0 - high, 0.0 - low
        values, death_value, first_value = 0.0 - values, 0.0 - death_value, 0.0 - first_value
        nonfinite["posinf"], nonfinite["neginf"] = census.neginf, census.posinf
    return MergeTree(
        shape=shape,
        connectivity=connectivity,
        direction=direction,
        minima=minima[:proper],
        values=values,
        basin_size=sizes[:proper],
        first_saddle=first,
        first_saddle_value=first_value,
        parent=parent,
        death=death,
        death_value=death_value,
        value_range=(low, high),
        nonfinite=nonfinite,
        n_vertices=n_vertices,
        labels=labels,
    )


Direction = Literal["sublevel", "superlevel"]


DIRECTIONS: tuple[str, ...] = get_args(Direction)


def check_direction(direction: str) -> None:
    if direction not in DIRECTIONS:
        raise InputError(f"direction is {direction!r}; choose one of {', '.join(DIRECTIONS)}")
