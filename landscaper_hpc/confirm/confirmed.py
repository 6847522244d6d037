"""The confirmed tree: minima of the loss and the saddles between them, from the minima of a grid.

A disconnectivity graph in the sense of energy landscapes: Becker, Karplus, J. Chem. Phys. 106 (1997); Wales, *Energy
Landscapes* (2003); of neural networks: Ballard et al., *Energy landscapes for machine learning*, Phys. Chem. Chem.
Phys. 19 (2017).

(Longer than most modules: following the minima, joining their ends and saying so are one account of one tree.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.confirm.descents import Descents, curvatures, neighbours
from landscaper_hpc.confirm.ends import CLOSE, KINDS, End, pressed
from landscaper_hpc.confirm.joins import Sets, nearest
from landscaper_hpc.confirm.jumps import Jumps
from landscaper_hpc.confirm.result import Confirmed
from landscaper_hpc.confirm.rows import What, saddle_of, searching
from landscaper_hpc.confirm.saddles import Saddle
from landscaper_hpc.confirm.surface import Array, Box, Cost, Surface, search
from landscaper_hpc.grid import Grid
from landscaper_hpc.topology.drawing import most_persistent
from landscaper_hpc.topology.graph import merge_tree_graph
from landscaper_hpc.topology.readers import ArrayReader, Reader
from landscaper_hpc.topology.tree import MergeTree

Spending = Callable[[What, Array], tuple[Array, Cost]]
"""Runs searches from starts (k, …): a row each (k, width), and what was spent."""


class _Pass(NamedTuple):
    """Where two ends meet: which, at what height, in which saddle (None: none was confirmed), and whether what was
    found in its stead is a saddle between others."""

    first: int
    last: int
    height: float
    saddle: Saddle | None
    led: bool = False


def confirm(surface: Surface, grid: Grid, values: NDArray[Any], tree: MergeTree, most: int | None = None) -> Confirmed:
    """Follow the minima of a grid, and the saddles between them, in the continuous subspace.

    Parameters
    ----------
    surface
        The loss over alpha, with derivatives.
    grid
        Where it was evaluated; its box is not left.
    values
        What was found there, in the grid's shape: curvatures to begin with.
    tree
        Their merge tree.
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

    return confirmed_by(run, surface.rounding, grid, ArrayReader(values), tree, most)


def confirmed_by(
    run: Spending, rounding: float, grid: Grid, values: Reader, tree: MergeTree, most: int | None
) -> Confirmed:
    """As `confirm`, with searches run by `run`: minima, then saddles between those that meet on the grid, where some
    fail also between nearest ends that no saddle joins, again where that finds other ends, then bands where those
    failed, too."""
    followed = tree if most is None else most_persistent(tree, most)
    models, beside = curvatures(values, followed.minima), neighbours(values, followed)
    return _joined(run, rounding, grid, tree, followed, lambda ids: _steps(ids, tree.shape), models, beside=beside)[0]


def confirmed_below(
    run: Spending, rounding: float, grid: Grid, tree: MergeTree, level: float, most: int | None
) -> Confirmed:
    """The same of what lies below a level, from the merge tree there (`sampling.restricted`): between its components no
    pass is looked for, and what is found at or above the level is in no tree. First Hessians are exact, as little is
    known of what lies around the minima."""
    followed = tree if most is None else most_persistent(tree, most)
    models = np.full((len(followed.minima), grid.ndim, grid.ndim), np.nan)
    return _joined(run, rounding, grid, tree, followed, lambda ids: _steps(ids, tree.shape), models, level=level)[0]


def network_by(
    run: Spending,
    rounding: float,
    grid: Grid,
    places: Array,
    tree: MergeTree,
    random: Sequence[Array],
    most: int | None,
) -> tuple[Confirmed, list[NDArray[np.bool_]]]:
    """The same from a sample in place of a grid's points: `places` (m, n), in steps, and the merge tree of their graph.
    What the graph leaves apart is joined by straight ways between nearest ends.

    Minima are sought by `jumps`. Batches of `random` starts (k, n) are followed until one ends nowhere else than what
    was met before: also which of each batch do.
    """
    followed = tree if most is None else most_persistent(tree, most)
    models = np.full((len(followed.minima), grid.ndim, grid.ndim), np.nan)
    return _joined(run, rounding, grid, tree, followed, places.__getitem__, models, random)


def _joined(
    run: Spending,
    rounding: float,
    grid: Grid,
    tree: MergeTree,
    followed: MergeTree,
    place_of: Callable[[NDArray[np.int64]], Array],
    models: Array,
    random: Sequence[Array] = (),
    level: float | None = None,
    beside: NDArray[np.int64] | None = None,
) -> tuple[Confirmed, list[NDArray[np.bool_]]]:
    cost = Cost()

    def searched(what: What, starts: Array) -> Array:
        if not len(starts):
            return np.empty((0, 0))
        rows, spent = run(what, starts)
        cost.gradients += spent.gradients
        cost.products += spent.products
        cost.by_differences |= spent.by_differences
        return rows

    box = Box.of(grid)
    descents = Descents(searched, box, rounding)
    new: list[NDArray[np.bool_]] = []
    if random:
        jumps = Jumps(searched, box, rounding)
        of, new = _jumped(jumps, place_of(followed.minima), random)
        descents.ends = jumps.ends
    else:
        of = descents.follow(place_of(followed.minima), models)
    wanted = _passes(followed, of, beside)
    over = place_of(followed.death[wanted[:, 0]])
    if new:
        more = nearest(np.array([end.point for end in descents.ends]), wanted[:, 1:])
        points = np.array([[descents.ends[i].point for i in pair] for pair in more]).reshape(-1, 2, grid.ndim)
        wanted = np.concatenate([wanted, np.insert(more, 0, -1, axis=1)])
        over = np.concatenate([over, points.mean(axis=1)])
    seen = list(descents.ends)
    ways = np.array([(seen[a].point, way, seen[b].point) for way, (_, a, b) in zip(over, wanted.tolist(), strict=True)])
    passes: list[_Pass] = []

    def joined(what: What, ways: Array) -> Array:
        rows = searched(what, ways)
        passes.extend(_placed(descents, box, [saddle_of(row, grid.ndim) for row in rows], passes))
        return rows

    def missing() -> list[int]:
        return _unjoined(passes, wanted[:, 1:], len(descents.ends))

    rows = joined("saddles", ways)
    heights = rows[:, -1] if len(rows) else np.empty(0)
    # what no search found on the straight way it does not find there again
    tried = {(min(a, b), max(a, b)) for row, (_, a, b) in zip(rows, wanted.tolist(), strict=True) if np.isnan(row[0])}
    nowhere = np.full(grid.ndim, np.nan)
    while missing() and not new:  # other ends may lie between: Carr, Trygubenko, Wales, J. Chem. Phys. 122 (2005)
        points = np.array([end.point for end in descents.ends])
        lowest = of[followed.parent < 0].tolist() if level is not None else []
        apart = [(lowest[0], other) for other in lowest[1:]]  # what joins these lies above the level
        joins = [(one.first, one.last) for one in passes]
        near = nearest(points, np.array([*joins, *apart], np.int64).reshape(-1, 2))
        pairs = [(a, b) for a, b in near.tolist() if (a, b) not in tried]
        if not pairs:
            break
        tried.update(pairs)
        joined("saddles", np.array([(points[a], nowhere, points[b]) for a, b in pairs]))
    led = np.isfinite(rows[:, 0]) if len(rows) else np.zeros(0, np.bool_)
    last = missing()
    if len(bands := joined("bands", ways[last])):
        led[last] |= np.isfinite(bands[:, 0])
    known = descents.ends
    for i in missing():
        a, b = wanted[i, 1:].tolist()
        # of the few values along a way none need be its highest: no pass is lower than what it joins
        height = float(np.fmax(heights[i], np.fmax(known[a].value, known[b].value)))
        passes.append(_Pass(a, b, height, None, bool(led[i])))
    led_to = set(of.tolist())
    stay = [i for i, end in enumerate(known) if level is None or i in led_to or end.value < level]
    order = sorted(stay, key=lambda i: (known[i].value, tuple(known[i].point)))
    place = np.full(len(known), -1)
    place[order] = np.arange(len(order))
    passes = [one._replace(first=int(place[one.first]), last=int(place[one.last])) for one in passes]
    passes = [one for one in passes if min(one.first, one.last) >= 0]
    return _assembled(grid, tree, followed, [known[i] for i in order], place[of], passes, cost, level), new


def _jumped(jumps: Jumps, starts: Array, random: Sequence[Array]) -> tuple[NDArray[np.int64], list[NDArray[np.bool_]]]:
    """Search from starts, from batches of random ones until one is nothing new, and from the lowest ends of all of them
    over to the next: to which ends the starts lead, and which of each batch lead to new ones."""
    of = jumps.follow(starts)
    jumps.walk()
    new: list[NDArray[np.bool_]] = []
    for batch in random:
        met = len(jumps.ends)
        new.append(jumps.follow(batch) >= met)
        if not new[-1].any():
            break
        jumps.walk()
    return of, new


def _steps(ids: NDArray[np.int64], shape: Sequence[int]) -> Array:
    """Vertices of the grid in steps, (k, n)."""
    return np.stack(np.unravel_index(ids, tuple(shape)), axis=1).astype(np.float64).reshape(len(ids), len(shape))


def _passes(tree: MergeTree, of: NDArray[np.int64], beside: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Where ends meet on the grid: (minimum that dies, an end on its side, one on the other), the lowest pass between
    two sets of ends only, by Kruskal. The ends are those of the minima `beside` the pass (`neighbours`), or else of
    what dies and what goes on, which may lie far from it."""
    dying = np.flatnonzero((tree.parent >= 0) & np.isfinite(tree.death_value))
    dying = dying[np.lexsort((tree.death[dying], tree.death_value[dying]))]
    component = Sets(int(of.max(initial=-1)) + 1)
    found = []
    for child in dying.tolist():
        a, b = int(of[child]), int(of[tree.parent[child]])
        if component.join(a, b):
            near = (a, b) if beside is None else of[beside[child]].tolist()
            found.append((child, *near))
    return np.array(found, np.int64).reshape(-1, 3)


def _placed(descents: Descents, box: Box, found: Sequence[Saddle | None], before: Sequence[_Pass]) -> list[_Pass]:
    """New saddles as passes between the ends that their sides lead to."""
    saddles: list[Saddle] = []
    known = [one.saddle.point for one in before if one.saddle is not None]
    for saddle in found:
        if saddle is not None and not any(np.abs(saddle.point - other).max() <= CLOSE for other in known):
            saddles.append(saddle)
            known.append(saddle.point)
    if not saddles:
        return []
    sides = np.concatenate([saddle.sides(box) for saddle in saddles])
    models = np.repeat([saddle.hessian for saddle in saddles], 2, axis=0)
    of = descents.follow(sides, models).reshape(-1, 2).tolist()
    return [
        _Pass(a, b, saddle.value, saddle)
        for saddle, (a, b) in zip(saddles, of, strict=True)
        if a != b and saddle.value >= max(descents.ends[a].value, descents.ends[b].value)
    ]


def _unjoined(passes: Sequence[_Pass], wanted: NDArray[np.int64], count: int) -> list[int]:
    """Which of the wanted joins (k, 2) no passes make, when those before it are made."""
    component = Sets(count)
    for one in passes:
        component.join(one.first, one.last)
    return [i for i, (a, b) in enumerate(wanted.tolist()) if component.join(a, b)]


def _assembled(
    grid: Grid,
    tree: MergeTree,
    followed: MergeTree,
    ends: Sequence[End],
    of: NDArray[np.int64],
    passes: Sequence[_Pass],
    cost: Cost,
    level: float | None,
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
        eigenvalues=np.array([_in_alpha(end, box) for end in ends]).reshape(-1, n),
        grid_minima=followed.minima,
        ends=of,
        saddle_points=box.alpha(saddle_points),
        saddle_values=np.array([saddle.value for saddle in saddles], np.float64),
        saddle_eigenvalues=np.array([_in_alpha(one, box) for one in saddles]).reshape(-1, n),
        joins=np.array([(one.first, one.last) for one in passes], np.int64).reshape(-1, 2),
        heights=np.array([one.height for one in passes], np.float64),
        saddles=np.where(confirmed, np.cumsum(confirmed) - 1, [-2 if one.led else -1 for one in passes]).astype(
            np.int64
        ),
        tree=_tree(tree, followed, ends, of, passes, level),
        n_grid_minima=tree.n_minima,
        gradients_spent=cost.gradients,
        products_spent=cost.products,
        by_differences=cost.by_differences,
        level=level,
    )


def _in_alpha(one: End | Saddle, box: Box) -> Array:
    """Eigenvalues with respect to alpha; NaN where those in steps are."""
    found = np.full(len(one.point), np.nan)
    free = ~pressed(one.point, one.gradient, box)
    if free.any() and np.isfinite(one.hessian).all() and np.isfinite(one.eigenvalues).any():
        scaled = one.hessian / np.outer(box.step, box.step)
        found[: np.count_nonzero(free)] = np.linalg.eigvalsh(scaled[np.ix_(free, free)])
    return found


def _tree(
    tree: MergeTree,
    followed: MergeTree,
    ends: Sequence[End],
    of: NDArray[np.int64],
    passes: Sequence[_Pass],
    level: float | None,
) -> MergeTree:
    """The merge tree of ends and passes as a graph, with the grid's points as basins and its range of values; of those
    below a level, where one is given."""
    if not ends:  # nothing lies below the level
        return tree
    m, passes = len(ends), [one for one in passes if level is None or one.height < level]
    values = np.array([*(end.value for end in ends), *(one.height for one in passes)], np.float64)
    pairs = [(m + i, end) for i, one in enumerate(passes) for end in (one.first, one.last)]
    edges = np.array([*pairs, *((b, a) for a, b in pairs)], np.int64).reshape(-1, 2)
    edges = edges[np.lexsort((edges[:, 1], edges[:, 0]))]
    starts = np.searchsorted(edges[:, 0], np.arange(len(values) + 1))
    found = merge_tree_graph(values, starts, edges[:, 1], connectivity="confirmed")
    size = np.bincount(of, followed.basin_size, minlength=len(values)).astype(np.int64)
    low, high = tree.value_range
    first, first_value = found.first_saddle, found.first_saddle_value
    if level is not None and found.n_minima > 1:  # as on the grid: one that is alone counts as high as the level
        alone = first < 0
        first, first_value = np.where(alone, len(values), first), np.where(alone, level, first_value)
    return replace(
        found,
        first_saddle=first,
        first_saddle_value=first_value,
        basin_size=size[found.minima],
        value_range=(float(values[np.isfinite(values)].min(initial=low)), high),
        nonfinite=tree.nonfinite,
        n_vertices=tree.n_vertices,
    )
