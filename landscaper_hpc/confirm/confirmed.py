"""The confirmed tree: minima of the loss and the saddles between them, from the minima of a grid.

A disconnectivity graph in the sense of energy landscapes: Becker, Karplus, J. Chem. Phys. 106 (1997); Wales, *Energy
Landscapes* (2003); of neural networks: Ballard et al., *Energy landscapes for machine learning*, Phys. Chem. Chem.
Phys. 19 (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.confirm.ends import CLOSE, CONFIRMED, KINDS, Clusters, End, clustered, pressed
from landscaper_hpc.confirm.rows import What, end_of, saddle_of, searching
from landscaper_hpc.confirm.saddles import Saddle
from landscaper_hpc.confirm.surface import Array, Box, Cost, Surface, search
from landscaper_hpc.grid import Grid
from landscaper_hpc.topology.drawing import most_persistent
from landscaper_hpc.topology.graph import merge_tree_graph
from landscaper_hpc.topology.tree import MergeTree

FATES = ("confirmed", "runs into another", "unconfirmed", "not followed")
"""What became of a minimum of the grid: of those that end in one place the lowest stands for it."""

Searcher = Callable[[What, Array], tuple[Array, Cost]]
"""Runs searches from starts (k, …): a row each (k, width), and what was spent."""


@dataclass(frozen=True)
class Confirmed:
    """What the minima of a grid are in the continuous subspace. Coordinates are alphas, values are losses.

    Attributes
    ----------
    kinds
        (m,) index into `KINDS` of each distinct end, the lowest first.
    points, values, gradients
        (m, n), (m,), (m, n) of the ends; the gradients are with respect to alpha.
    eigenvalues
        (m, n) of the Hessian with respect to alpha, along the faces of the box that an end lies on; NaN for each face.
    grid_minima, ends
        (g,) flat ids of the minima of the grid that were followed, and the index of the end of each.
    saddle_points, saddle_values, saddle_eigenvalues
        (s, n), (s,), (s, n): saddles with one negative eigenvalue.
    joins
        (p, 2) which ends meet, `heights` (p,) at which loss, `saddles` (p,) at which saddle: −1 where none was
        confirmed, and the height is that of the grid's saddle, or of the straight way, whichever is lower.
    tree
        The tree of the ends, as a merge tree: vertices are the ends, then the passes. Its basins are of grid points.
    n_grid_minima
        Of the whole grid.
    gradients_spent, products_spent
        Gradients, and products of a Hessian with a direction.
    """

    kinds: NDArray[np.int64]
    points: Array
    values: Array
    gradients: Array
    eigenvalues: Array
    grid_minima: NDArray[np.int64]
    ends: NDArray[np.int64]
    saddle_points: Array
    saddle_values: Array
    saddle_eigenvalues: Array
    joins: NDArray[np.int64]
    heights: Array
    saddles: NDArray[np.int64]
    tree: MergeTree
    n_grid_minima: int
    gradients_spent: int
    products_spent: int

    def count(self, *kinds: str) -> int:
        """How many ends that minima of the grid lead to are of these kinds."""
        return int((self._are(*kinds) & self._seen).sum())

    @property
    def beyond(self) -> int:
        """How many confirmed minima no minimum of the grid leads to: they were found beyond saddles."""
        return int((self.stands & ~self._seen).sum())

    @property
    def n_saddles(self) -> int:
        """How many joins have a confirmed saddle."""
        return int((self.saddles >= 0).sum())

    def _are(self, *kinds: str) -> NDArray[np.bool_]:
        return np.isin(self.kinds, [KINDS.index(kind) for kind in kinds])

    @property
    def _seen(self) -> NDArray[np.bool_]:
        return np.isin(np.arange(len(self.kinds)), self.ends)

    @property
    def stands(self) -> NDArray[np.bool_]:
        """(m,) which ends are confirmed minima: inside, on a face, or on a kink."""
        return self._are(*CONFIRMED)

    def fates(self, minima: NDArray[np.int64]) -> NDArray[np.int64]:
        """(k,) what became of minima of the grid, flat ids (k,): an index into `FATES`."""
        found = np.full(len(minima), FATES.index("not followed"), np.int64)
        first = {int(end): int(minimum) for minimum, end in zip(self.grid_minima[::-1], self.ends[::-1], strict=True)}
        end_of_minimum = dict(zip(self.grid_minima.tolist(), self.ends.tolist(), strict=True))
        for i, minimum in enumerate(minima.tolist()):
            if minimum in end_of_minimum:
                end = end_of_minimum[minimum]
                fate = "confirmed" if self.stands[end] else "unconfirmed"
                found[i] = FATES.index(fate if first[end] == minimum else "runs into another")
        return found

    def sentence(self) -> str:
        """What the minima of the grid are, in words."""
        followed = len(self.grid_minima)
        of = f"{followed:,} minima" if followed != 1 else "1 minimum"
        if followed < self.n_grid_minima:
            of = f"the {followed:,} most persistent of {self.n_grid_minima:,} minima"
        inside = self.count("interior")
        parts = [f"{inside:,} {'minimum' if inside == 1 else 'minima'} of the loss"]
        words = {"edge": "at the edge of the box", "kink": "on kinks", "flat": "flat to rounding"}
        words |= {"saddle": "stalled at saddles", "unresolved": "unresolved"}
        parts += [f"{found:,} {said}" for kind, said in words.items() if (found := self.count(kind))]
        said = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
        more = f"; {self.beyond:,} more, found beyond saddles, the grid does not show" if self.beyond else ""
        return f"{of} of the grid {'is' if followed == 1 else 'are'} {said}{more}"

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays by name; `from_arrays` reads it back."""
        found: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _ARRAYS}
        found |= {name: np.array(getattr(self, name), np.int64) for name in _COUNTS}
        return found | {f"tree_{name}": values for name, values in self.tree.to_arrays().items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Confirmed:
        """What `to_arrays` was made of."""
        tree = {name.removeprefix("tree_"): values for name, values in arrays.items() if name.startswith("tree_")}
        own: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
        own |= {name: int(arrays[name]) for name in _COUNTS}
        return cls(tree=MergeTree.from_arrays(tree), **own)


_ARRAYS = (
    *("kinds", "points", "values", "gradients", "eigenvalues", "grid_minima", "ends"),
    *("saddle_points", "saddle_values", "saddle_eigenvalues", "joins", "heights", "saddles"),
)
_COUNTS = ("n_grid_minima", "gradients_spent", "products_spent")


class _Pass(NamedTuple):
    """Where two ends meet: which, at what height, in which saddle (None: at this vertex of the grid)."""

    first: int
    last: int
    height: float
    saddle: Saddle | None


def confirm(surface: Surface, grid: Grid, tree: MergeTree, most: int | None = None) -> Confirmed:
    """Follow the minima of a grid, and the saddles between them, in the continuous subspace.

    Parameters
    ----------
    surface
        The loss over alpha, with derivatives.
    grid
        Where it was evaluated; its box is not left.
    tree
        The merge tree of its values.
    most
        Follow only so many of the most persistent minima; all by default.

    Returns
    -------
    Confirmed

    References
    ----------
    Wales, *Energy Landscapes* (2003); Ballard et al., Phys. Chem. Chem. Phys. 19 (2017).
    """
    box = Box.of(grid)

    def run(what: What, starts: Array) -> tuple[Array, Cost]:
        cost = Cost()
        found = search(surface, box, [searching(what, start, box, surface.rounding) for start in starts], cost)
        return np.array(found), cost

    return confirmed_by(run, surface.rounding, grid, tree, most)


def confirmed_by(run: Searcher, rounding: float, grid: Grid, tree: MergeTree, most: int | None) -> Confirmed:
    """As `confirm`, with searches run by `run`: first all minima, then all saddles, then bands where those failed."""
    n, cost = grid.ndim, Cost()

    def searched(what: What, starts: Array) -> Array:
        if not len(starts):
            return np.empty((0, 0))
        rows, spent = run(what, starts)
        cost.gradients += spent.gradients
        cost.products += spent.products
        return rows

    followed = tree if most is None else most_persistent(tree, most)
    rows = searched("minima", _steps(followed.minima, tree.shape))
    minima = clustered([end_of(row, n) for row in rows], rounding)
    wanted = _passes(followed, minima.of)
    over = _steps(followed.death[wanted[:, 0]], tree.shape)
    ends = minima.ends
    ways = np.array([(ends[a].point, way, ends[b].point) for way, (_, a, b) in zip(over, wanted.tolist(), strict=True)])
    rows = searched("saddles", ways)
    known, passes = _placed(ends, [saddle_of(row, n) for row in rows], rounding)
    if left := _unjoined(passes, wanted[:, 1:], len(known)):
        more = [saddle_of(row, n) for row in searched("bands", ways[left])]
        known, passes = _placed(known, more, rounding, passes)
        for i in _unjoined(passes, wanted[:, 1:], len(known)):
            passes.append(_Pass(int(wanted[i, 1]), int(wanted[i, 2]), float(rows[i, -1]), None))
    order = sorted(range(len(known)), key=lambda i: (known[i].value, tuple(known[i].point)))
    place = np.empty(len(known), np.int64)
    place[order] = np.arange(len(known))
    passes = [one._replace(first=int(place[one.first]), last=int(place[one.last])) for one in passes]
    of = place[minima.of] if len(minima.of) else minima.of
    return _assembled(grid, tree, followed, [known[i] for i in order], of, passes, cost)


def _steps(ids: NDArray[np.int64], shape: Sequence[int]) -> Array:
    """Vertices of the grid in steps, (k, n)."""
    return np.stack(np.unravel_index(ids, tuple(shape)), axis=1).astype(np.float64).reshape(len(ids), len(shape))


def _passes(tree: MergeTree, of: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where ends meet on the grid: (minimum that dies, its end, the end that goes on), the lowest pass between two sets
    of ends only, by Kruskal."""
    dying = np.flatnonzero((tree.parent >= 0) & np.isfinite(tree.death_value))
    dying = dying[np.lexsort((tree.death[dying], tree.death_value[dying]))]
    component = _Sets(int(of.max(initial=-1)) + 1)
    found = []
    for child in dying.tolist():
        a, b = int(of[child]), int(of[tree.parent[child]])
        if component.join(a, b):
            found.append((child, a, b))
    return np.array(found, np.int64).reshape(-1, 3)


def _placed(
    known: Sequence[End], found: Sequence[Saddle | None], rounding: float, before: Sequence[_Pass] = ()
) -> tuple[list[End], list[_Pass]]:
    """Saddles as passes between ends, after those `before`; what a side leads to and no minimum of the grid does is an
    end, too."""
    saddles = [saddle for saddle in found if saddle is not None]
    sides: Clusters = clustered([end for saddle in saddles for end in saddle.sides], rounding, known)
    passes = list(before)
    for i, saddle in enumerate(saddles):
        a, b = int(sides.of[2 * i]), int(sides.of[2 * i + 1])
        others = (one.saddle for one in passes if one.saddle is not None)
        known_already = any(np.abs(saddle.point - other.point).max() <= CLOSE for other in others)
        if not known_already and a != b and saddle.value >= max(sides.ends[a].value, sides.ends[b].value):
            passes.append(_Pass(a, b, saddle.value, saddle))
    return sides.ends, passes


def _unjoined(passes: Sequence[_Pass], wanted: NDArray[np.int64], count: int) -> list[int]:
    """Which of the wanted joins (k, 2) no passes make, when those before it are made."""
    component = _Sets(count)
    for one in passes:
        component.join(one.first, one.last)
    return [i for i, (a, b) in enumerate(wanted.tolist()) if component.join(a, b)]


class _Sets:
    def __init__(self, count: int) -> None:
        self._of = list(range(count))

    def _root(self, i: int) -> int:
        while self._of[i] != i:
            self._of[i] = self._of[self._of[i]]
            i = self._of[i]
        return i

    def join(self, a: int, b: int) -> bool:
        """Whether they were apart."""
        a, b = self._root(a), self._root(b)
        self._of[max(a, b)] = min(a, b)
        return a != b


def _assembled(
    grid: Grid,
    tree: MergeTree,
    followed: MergeTree,
    ends: Sequence[End],
    of: NDArray[np.int64],
    passes: Sequence[_Pass],
    cost: Cost,
) -> Confirmed:
    box, n = Box.of(grid), grid.ndim
    passes = sorted(passes, key=lambda one: (one.height, one.first, one.last))
    saddles = [one.saddle for one in passes if one.saddle is not None]
    confirmed = [one.saddle is not None for one in passes]
    points = np.array([end.point for end in ends]).reshape(-1, n)
    saddle_points = np.array([saddle.point for saddle in saddles]).reshape(-1, n)
    return Confirmed(
        kinds=np.array([KINDS.index(end.kind) for end in ends], np.int64),
        points=box.alpha(points),
        values=np.array([end.value for end in ends], np.float64),
        gradients=np.array([end.gradient / box.step for end in ends]).reshape(-1, n),
        eigenvalues=np.array([_in_alpha(end.hessian, end.eigenvalues, end, box) for end in ends]).reshape(-1, n),
        grid_minima=followed.minima,
        ends=of,
        saddle_points=box.alpha(saddle_points),
        saddle_values=np.array([saddle.value for saddle in saddles], np.float64),
        saddle_eigenvalues=np.array([saddle.eigenvalues for saddle in saddles]).reshape(-1, n),
        joins=np.array([(one.first, one.last) for one in passes], np.int64).reshape(-1, 2),
        heights=np.array([one.height for one in passes], np.float64),
        saddles=np.where(confirmed, np.cumsum(confirmed) - 1, -1).astype(np.int64),
        tree=_tree(tree, followed, ends, of, passes),
        n_grid_minima=tree.n_minima,
        gradients_spent=cost.gradients,
        products_spent=cost.products,
    )


def _in_alpha(hessian: Array, in_steps: Array, end: End, box: Box) -> Array:
    """Eigenvalues with respect to alpha; NaN where those in steps are."""
    found = np.full(len(in_steps), np.nan)
    free = ~pressed(end.point, end.gradient, box)
    if free.any() and np.isfinite(hessian).all() and np.isfinite(in_steps).any():
        scaled = hessian / np.outer(box.step, box.step)
        found[: np.count_nonzero(free)] = np.linalg.eigvalsh(scaled[np.ix_(free, free)])
    return found


def _tree(
    tree: MergeTree, followed: MergeTree, ends: Sequence[End], of: NDArray[np.int64], passes: Sequence[_Pass]
) -> MergeTree:
    """The merge tree of ends and passes as a graph, with the grid's points as basins and its range of values."""
    m = len(ends)
    values = np.array([*(end.value for end in ends), *(one.height for one in passes)], np.float64)
    pairs = [(m + i, end) for i, one in enumerate(passes) for end in (one.first, one.last)]
    edges = np.array([*pairs, *((b, a) for a, b in pairs)], np.int64).reshape(-1, 2)
    edges = edges[np.lexsort((edges[:, 1], edges[:, 0]))]
    starts = np.searchsorted(edges[:, 0], np.arange(len(values) + 1))
    found = merge_tree_graph(values, starts, edges[:, 1], connectivity="confirmed")
    size = np.bincount(of, followed.basin_size, minlength=len(values)).astype(np.int64)
    low, high = tree.value_range
    return replace(
        found,
        basin_size=size[found.minima],
        value_range=(float(values[np.isfinite(values)].min(initial=low)), high),
        nonfinite=tree.nonfinite,
        n_vertices=tree.n_vertices,
    )
