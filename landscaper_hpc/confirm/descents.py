"""Descents from many starts, in rounds of a few steps each: one that comes upon another's way downhill ends there.

A descending path from a start to a minimum is what "leads to" means, and two such paths joined by a third one are one.
So a valley is walked once, however many minima a grid shows in it. What is compared with what depends on the starts
alone, not on who did which.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.confirm import rows
from landscaper_hpc.confirm.ends import End, clustered
from landscaper_hpc.confirm.joins import Sets
from landscaper_hpc.confirm.newton import Here, Passed, care, leads_to
from landscaper_hpc.confirm.rows import What
from landscaper_hpc.confirm.surface import Array, Box
from landscaper_hpc.topology.readers import ArrayReader, Reader
from landscaper_hpc.topology.tree import MergeTree

_AT_ONCE = 1 << 22

Searcher = Callable[[What, Array], Array]
"""Runs searches from starts (k, …): a row each, (k, width)."""


class Descents:
    """Where starts lead: to one of `ends`, which are those of all calls of `follow`."""

    def __init__(self, run: Searcher, box: Box, rounding: float) -> None:
        self._run, self._box, self._n, self._rounding = run, box, len(box.far), rounding
        self._care = care(self._n)
        self._ways: list[tuple[int, Passed]] = []  # what was passed, and by which descent
        self._points = np.empty((0, self._n))
        self._into: list[int | None] = []  # the descent whose way each came upon
        self._leads: dict[int, int] = {}  # to which end, of those that came upon none
        self.ends: list[End] = []

    def follow(self, starts: Array, models: Array) -> NDArray[np.int64]:
        """To which of `ends` starts lead, (k,).

        Parameters
        ----------
        starts
            (k, n), in steps.
        models
            (k, n, n) first Hessians; where they are not finite the exact ones are asked for.
        """
        n, first = self._n, len(self._into)
        unknown = np.full(n, np.nan)
        begin = (Here(x, np.nan, unknown, H, self._care.first) for x, H in zip(starts, models, strict=True))
        states = dict(enumerate(begin, first))
        self._into += [None] * len(states)
        near: dict[int, tuple[int, Passed]] = {}
        going = list(states)
        while going:
            asked = [[rows.here_row(states[i]), rows.passed_row(near[i][1] if i in near else None, n)] for i in going]
            found = self._run("descents", np.array([np.concatenate(one) for one in asked]))
            known = len(self._ways)
            for i, row in zip(going, found, strict=True):
                states[i], joined, passed = rows.round_of(row, n)
                if joined:
                    self._into[i] = near[i][0]
                self._ways += [(i, one) for one in passed]
            self._points = np.vstack([self._points, *(one.point for _, one in self._ways[known:])])
            going = [i for i in going if self._into[i] is None and states[i].going]
            near = {i: way for i in going if (way := self._below(i, states[i])) is not None}
        alone = [i for i in states if self._into[i] is None]
        found = self._run("minima", np.array([rows.here_row(states[i]) for i in alone]))
        clusters = clustered([rows.end_of(row, n) for row in found], self._rounding, self.ends)
        self.ends = clusters.ends
        self._leads |= dict(zip(alone, clusters.of.tolist(), strict=True))
        return np.array([self._leads[self._last(i)] for i in states], np.int64)

    def _last(self, i: int) -> int:
        """The descent that goes on where this one's way ends."""
        while (into := self._into[i]) is not None:
            i = into
        return i

    def _below(self, own: int, here: Here) -> tuple[int, Passed] | None:
        """The nearest point of another's way that the loss seems to lead down to."""
        apart = np.abs(self._points - here.point).max(axis=1)
        for i in np.argsort(apart, kind="stable").tolist():
            if apart[i] > self._care.reach:
                break
            whose, passed = self._ways[i]
            # not what came upon this one's way: it leads nowhere else
            if leads_to(here, passed, self._box) and self._last(whose) != own:
                return whose, passed
        return None


def curvatures(values: Reader, vertices: NDArray[np.int64]) -> Array:
    """Hessians in steps at vertices (k,), (k, n, n), by differences of the values around; next to a face, of those one
    step inside. NaN where they are not finite, or too few."""
    shape = values.shape
    n = len(shape)
    found = np.full((len(vertices), n, n), np.nan)
    if min(shape) < 3:
        return found
    one = np.eye(n, dtype=np.int64)
    for H, vertex in zip(found, np.stack(np.unravel_index(vertices, shape), axis=1), strict=True):
        middle = np.clip(vertex, 1, np.array(shape) - 2)
        f = np.asarray(values.read(tuple(slice(i - 1, i + 2) for i in middle.tolist())), np.float64)
        with np.errstate(invalid="ignore"):
            for i in range(n):
                for j in range(i + 1):
                    if i == j:
                        H[i, i] = f[tuple(1 + one[i])] - 2 * f[(1,) * n] + f[tuple(1 - one[i])]
                    else:
                        both, across = one[i] + one[j], one[i] - one[j]
                        ends = f[tuple(1 + both)] + f[tuple(1 - both)] - f[tuple(1 + across)] - f[tuple(1 - across)]
                        H[i, j] = H[j, i] = ends / 4
    return found


def neighbours(values: Reader, tree: MergeTree) -> NDArray[np.int64]:
    """Between which minima of a merge tree the pass lies at which each dies, (m, 2): one on its side, one on the other,
    by steepest descent along the axes. What goes on is the lowest of its side, and may lie anywhere. Where descent
    tells nothing, such as on a plateau, it is what dies and what goes on."""
    if math.prod(values.shape) <= _AT_ONCE:  # what is small is read once, not around each vertex
        values = ArrayReader(np.asarray(values.read(tuple(slice(0, size) for size in values.shape))))
    found = np.stack([np.arange(len(tree.minima)), tree.parent], axis=1).astype(np.int64)
    minimum = {vertex: i for i, vertex in enumerate(tree.minima.tolist())}
    dying = np.flatnonzero((tree.parent >= 0) & np.isfinite(tree.death_value))
    sides = Sets(len(tree.minima))
    known: dict[int, int] = {}
    for child in dying[np.lexsort((tree.death[dying], tree.death_value[dying]))].tolist():
        parent = int(tree.parent[child])
        own, other = sides.root(child), sides.root(parent)
        for vertex in _lower(values, int(tree.death[child])):
            if (end := minimum.get(_lowest(values, vertex, known))) is not None:
                side = sides.root(end)
                if side == own and found[child, 0] == child:
                    found[child, 0] = end
                elif side == other and found[child, 1] == parent:
                    found[child, 1] = end
        sides.join(child, parent)
    return found


def _lowest(values: Reader, vertex: int, known: dict[int, int]) -> int:
    """Where steepest descent along the axes ends; `known` of what was passed before."""
    way = []
    while vertex not in known:
        way.append(vertex)
        if not (below := _lower(values, vertex)):
            known[vertex] = vertex
            break
        vertex = below[0]
    end = known[vertex]
    known.update(dict.fromkeys(way, end))
    return end


def _lower(values: Reader, vertex: int) -> list[int]:
    """Neighbours along the axes that are lower, the lowest first."""
    shape = values.shape
    at = np.array(np.unravel_index(vertex, shape))
    first, last = np.maximum(at - 1, 0), np.minimum(at + 2, shape)
    block = np.asarray(values.read(tuple(slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True))))
    middle, found = at - first, []
    for axis in range(len(shape)):
        for beside in (middle[axis] - 1, middle[axis] + 1):
            if 0 <= beside < block.shape[axis]:
                there = middle.copy()
                there[axis] = beside
                if (value := block[tuple(there)]) < block[tuple(middle)]:
                    found.append((float(value), int(np.ravel_multi_index(tuple(first + there), shape))))
    return [vertex for _, vertex in sorted(found)]
