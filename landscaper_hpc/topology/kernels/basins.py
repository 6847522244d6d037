"""Compiled kernels that turn the pointers of steepest descent into labels of basins.

The array `root` holds, per vertex of a block, first a pointer (the flat position of its lowest neighbour) and after
compression a label: labels are stored as their complement, so that a negative entry is a resolved one. `UNSEEN`
marks a ghost vertex on which no descent of the core ends, `WANTED` one that is to be labelled.
Boxes may be `rows.joined`: nothing here looks at neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from landscaper_hpc.topology.kernels.compiled import jit
from landscaper_hpc.topology.kernels.rows import GROW, first_row, next_row, room, row_start

UNSEEN = np.int32(-(2**31))
WANTED = np.int32(-(2**31) + 1)
PIECE = 10
"""Vertices are relabelled in pieces of 2 to this power, where at all."""


@jit
def _rows(low: Any, high: Any) -> int:
    rows = 1
    for d in range(low.size - 1):
        rows *= high[d] - low[d]
    return rows


@jit
def mark_exits(root: Any, box: Any) -> None:
    """Mark the ghost vertices to which the box's vertices descend as `WANTED`. The box: a face of the core."""
    shape, low, high = box
    at = np.zeros(shape.size, np.int64)
    first_row(0, low, high, at)
    for _ in range(_rows(low, high)):
        start = np.uint64(row_start(at, shape))
        for j in range(start + np.uint64(low[-1]), start + np.uint64(high[-1])):
            target = root[j]
            if target >= 0 and root[np.uint64(target)] == UNSEEN:
                root[np.uint64(target)] = WANTED
        next_row(low, high, at)


@jit
def _label_wanted(root: Any, begin: int, end: int, label: int, exits: Any, found: int) -> int:
    for j in range(np.uint64(begin), np.uint64(end)):
        if root[j] == WANTED:
            root[j] = ~np.int32(label + found)
            exits[found] = j
            found += 1
    return found


@jit
def collect_exits(root: Any, box: Any, first_label: int) -> Any:
    """Label what is `WANTED` in the box, in the order of positions, which are returned."""
    shape, low, high = box
    at = np.zeros(shape.size, np.int64)
    first_row(0, low, high, at)
    exits = np.empty(GROW, np.int32)
    found = 0
    for _ in range(_rows(low, high)):
        start = row_start(at, shape)
        for j in range(start + low[-1], start + high[-1], GROW):
            exits = room(exits, found, GROW)
            found = _label_wanted(root, j, min(j + GROW, start + high[-1]), first_label, exits, found)
        next_row(low, high, at)
    return exits[:found].copy()


@jit
def compress(root: Any, box: Any, begin: int, end: int, n_minima: int, n_labels: int, touched: Any) -> Any:
    """Replace the pointers of the rows `begin` to `end` of the box by labels; return the number of vertices per label.
    Set `touched` for each piece of 2^PIECE vertices where some label is not one of the first `n_minima`.

    Minima and exits are labelled already. Threads may follow and rewrite each other's paths: whatever they read is a
    pointer further down the same path.
    """
    shape, low, high = box
    at = np.zeros(shape.size, np.int64)
    first_row(begin, low, high, at)
    counts = np.zeros(n_labels, np.int32)
    beyond = ~np.int32(n_minima)
    last = np.int32(-1)
    run = 0
    for _ in range(begin, end):
        start = row_start(at, shape)
        first, stop = start + low[-1], start + high[-1]
        while first < stop:
            piece = first >> PIECE
            until = min(stop, (piece + 1) << PIECE)
            lowest = np.int32(-1)
            for i in range(np.uint64(first), np.uint64(until)):
                r = root[i]
                if r >= 0:
                    top = np.uint64(r)
                    r = root[top]
                    if r >= 0:
                        while r >= 0:
                            r = root[np.uint64(r)]
                        while True:
                            below = root[top]
                            if below < 0:
                                break
                            root[top] = r
                            top = np.uint64(below)
                    root[i] = r
                lowest = min(lowest, r)
                if r == last:
                    run += 1
                else:
                    counts[~last] += run
                    last = r
                    run = 1
            if lowest <= beyond:
                touched[piece] = 1
            first = until
        next_row(low, high, at)
    if run:
        counts[~last] += run
    return counts


@jit
def exit_labels(root: Any, exits: Any, n_minima: int, n_lowest: int) -> Any:
    """For each label (minima, exits, lowest ghost vertices) where it leads within the block: a minimum's number, or
    `n_minima` + that of a lowest ghost vertex. Labels of the exits are those that the block gives to their vertices."""
    n = n_minima + exits.size
    table = np.empty(n + n_lowest, np.int32)
    for i in range(n_minima):
        table[i] = i
    for i in range(exits.size):
        table[n_minima + i] = ~root[exits[i]]
    for i in range(n_lowest):
        table[n + i] = n + i
    for i in range(n_minima, n):
        end = table[i]
        while table[end] != end:
            end = table[end]
        at = np.int64(i)
        while table[at] != end:
            table[at], at = end, np.int64(table[at])
    for i in range(n_minima, n + n_lowest):
        if table[i] >= n:
            table[i] -= exits.size
    return table


@jit
def relabel(root: Any, table: Any, touched: Any, begin: int, end: int) -> None:
    """Replace labels by their entries in `table`, in those of the pieces `begin` to `end` that are touched."""
    for piece in range(begin, end):
        if touched[piece]:
            first = piece << PIECE
            for i in range(np.uint64(first), np.uint64(min(first + (1 << PIECE), root.size))):
                root[i] = ~table[np.uint64(~root[i])]
