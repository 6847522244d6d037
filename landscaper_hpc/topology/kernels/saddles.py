"""Compiled kernels that find candidate saddles: the vertices that may join basins. Here for the axis connectivity, for
the others in `dense_saddles`.

A vertex u joins the basins of its lower neighbours. It cannot be where two of them first meet if these neighbours are
already connected strictly below u: dropping it changes no component of any sublevel set. So only vertices whose lower
neighbours fall apart are candidates, as the saddles of piecewise linear Morse theory (Banchoff 1970); of those only
the ones whose lower neighbours lie in different basins. Lower neighbours in the same basin are connected below u: both
descend to its minimum.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.kernels.compiled import jit, lowest_bit
from landscaper_hpc.topology.kernels.forest import Candidates
from landscaper_hpc.topology.kernels.rows import GROW, columns, first_row, next_row, room, row_start, rows_at_once

MOST_AXES = 15
"""Up to here the directions of the axis connectivity fit into 32 bits; beyond, `dense_saddles` serves."""
MOST_CANDIDATES = 1 << 18
"""How many are found at a time, a few rows more or less: memory that a field cannot raise."""


class Run(NamedTuple):
    """The vertices `first` to `stop` from the vertex at `base` on."""

    base: int
    first: int
    stop: int


class Lower(NamedTuple):
    """Per vertex of a run the set of its lower neighbours, as bits: those `across` in other basins, and those in the
    `same`."""

    across: NDArray[Any]
    same: NDArray[Any]


@jit
def add_label(labels: Any, start: int, used: int, label: int) -> int:
    """Append a label unless it is among those from `start` on; return the new end."""
    for i in range(start, used):
        if labels[i] == label:
            return used
    labels[used] = label
    return used + 1


@jit
def _sort_lower(f: Any, root: Any, start: int, step: int, bit: Any, a: int, b: int, lower: Any) -> None:
    """Where the neighbour a `step` away is lower, set `bit` in `across` if its label is another, else in `same`."""
    across, same = lower
    s = np.uint64(start)
    t = np.uint64(start + step)
    none = across.dtype.type(0)
    if step > 0:
        for j in range(np.uint64(a), np.uint64(b)):
            which = bit if f[t + j] < f[s + j] else none
            other = which if root[t + j] != root[s + j] else none
            across[j] |= other
            same[j] |= which ^ other
    else:
        for j in range(np.uint64(a), np.uint64(b)):
            which = bit if f[t + j] <= f[s + j] else none
            other = which if root[t + j] != root[s + j] else none
            across[j] |= other
            same[j] |= which ^ other


@jit
def _within(f: Any, start: int, band: Any, a: int, b: int, across: Any) -> Any:
    """Clear `across` where the value is out of the band; return the union of what is left."""
    s = np.uint64(start)
    low, high = band[0], band[1]
    none = across.dtype.type(0)
    some = none
    for j in range(np.uint64(a), np.uint64(b)):
        v = f[s + j]
        x = across[j] if (v >= low) & (v <= high) else none
        across[j] = x
        some |= x
    return some


@jit
def _axis_row(f: Any, root: Any, run: Any, step: Any, neighbours: Any, into: Any, found: int, used: int) -> Any:
    """The candidates of a run, appended to the first `found`, which have `used` labels; a function of its own because
    numba would count references per vertex."""
    base, a, b = run
    across, same = neighbours
    vertices, stops, labels = into
    one = np.uint64(1)
    for j in range(a, b):
        if across[j] == 0:
            continue
        lower = np.uint64(across[j])
        corners = np.uint64(same[j])
        u = np.uint64(base + j)
        fu = f[u]
        start = used
        while lower:
            away = step[lowest_bit(lower)]
            lower &= lower - one
            apart = True
            rest = corners
            while rest:
                corner = away + step[lowest_bit(rest)]
                rest &= rest - one
                fw = f[u + np.uint64(corner)]
                if fw < fu or (fw == fu and corner < 0):
                    apart = False
                    break
            if apart:
                if used == start:
                    labels[used] = ~root[u]
                    used += 1
                used = add_label(labels, start, used, ~root[u + np.uint64(away)])
        if used > start:
            vertices[found] = u
            stops[found] = used
            found += 1
    return found, used


@jit
def axis_candidates(f: Any, root: Any, box: Any, dist: Any, begin: int, end: int, band: Any) -> Any:
    """Candidates among the core rows `begin` to `end` for the axis connectivity, each with the labels it joins; of
    those only with values from band[0] to band[1]. `dist` (n,): the distances of neighbours along each axis.

    Returns `Candidates` and the row at which it stopped, because of `MOST_CANDIDATES` or at the end.

    With t a lower neighbour of u in its own basin and v one in another, w = v + (t - u) is adjacent to both: if w
    lies below u, t and v are connected below u. (Where v is opposite to t, w is u itself.)
    """
    shape, low, high = box
    n = shape.size
    length = shape[n - 1]
    a0, b0 = low[n - 1], high[n - 1]
    most = rows_at_once(shape, low, high)
    at = np.zeros(n, np.int64)
    first_row(begin, low, high, at)
    step = np.empty(2 * n, np.int64)
    for d in range(n):
        step[2 * d] = -dist[d]
        step[2 * d + 1] = dist[d]
    lower = Lower(np.empty(most * length, np.uint32), np.empty(most * length, np.uint32))
    across, same = lower
    span = np.empty(4, np.int64)
    vertices = np.empty(GROW, np.int32)
    stops = np.empty(GROW, np.int32)
    labels = np.empty(4 * GROW, np.int32)
    found = 0
    used = 0
    row = begin
    while row < end and found < MOST_CANDIDATES:
        rows = min(most, end - row)
        if n > 1:
            rows = min(rows, high[n - 2] - at[n - 2])
        base = row_start(at, shape)
        a, b = a0, b0 + (rows - 1) * length
        across[a:b] = 0
        same[a:b] = 0
        for d in range(n):
            columns(at, shape, d, rows, a, b, span)
            _sort_lower(f, root, base, step[2 * d], np.uint32(1 << (2 * d)), span[0], span[1], lower)
            _sort_lower(f, root, base, step[2 * d + 1], np.uint32(2 << (2 * d)), span[2], span[3], lower)
        keep = ~np.uint32(1 << (2 * n - 2))  # what is before the first vertex of a row lies in the last row
        for j in range(length if a0 == 0 else b, b, length):
            across[j] &= keep
            same[j] &= keep
        keep = ~np.uint32(2 << (2 * n - 2))
        for j in range(length - 1 if b0 == length else b, b, length):
            across[j] &= keep
            same[j] &= keep
        if _within(f, base, band, a, b, across):
            vertices = room(vertices, found, b - a)
            stops = room(stops, found, b - a)
            labels = room(labels, used, (b - a) * (2 * n + 1))
            into = Candidates(vertices, stops, labels)
            found, used = _axis_row(f, root, Run(base, a, b), step, lower, into, found, used)
        row += rows
        if n > 1:
            at[n - 2] += rows - 1
        next_row(low, high, at)
    return Candidates(vertices[:found], stops[:found], labels[:used]), row
