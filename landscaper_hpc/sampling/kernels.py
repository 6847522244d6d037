"""Compiled loops over the known vertices of a grid that is known in part. Ids are flat (C order)."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np

from landscaper_hpc.topology.kernels.compiled import jit
from landscaper_hpc.topology.kernels.ids import place

UNKNOWN, ASKED, KNOWN, FLOODED = 0, 1, 2, 3


@jit
def _lower(v: float, a: int, w: float, b: int) -> bool:
    """Whether vertex `a` of value `v` comes before `b` of value `w`: by (value, id), NaN last."""
    if v == w or (np.isnan(v) and np.isnan(w)):
        return a < b
    return v < w or np.isnan(w)


@jit
def _neighbour(at: Any, offset: Any, stride: int, shape: Any) -> int:
    """The vertex at `stride` times an offset from a place, -1 outside the grid."""
    vertex = 0
    for d in range(shape.size):
        x = at[d] + stride * offset[d]
        if x < 0 or x >= shape[d]:
            return -1
        vertex = vertex * shape[d] + x
    return vertex


@jit
def unknown_neighbours(ids: Any, stride: int, state: Any, shape: Any, offsets: Any) -> Any:
    """The neighbours of some vertices that nobody has asked for, each once; from now on they are asked for."""
    found = np.empty(1024, np.int64)
    count = 0
    at = np.empty(shape.size, np.int64)
    for vertex in ids:
        place(vertex, shape, at)
        for i in range(len(offsets)):
            other = _neighbour(at, offsets[i], stride, shape)
            if other >= 0 and state[other] == UNKNOWN:
                state[other] = ASKED
                if count == found.size:
                    found = np.append(found, np.empty_like(found))
                found[count] = other
                count += 1
    return found[:count]


@jit
def neighbours_within(ids: Any, error: float, values: Any, state: Any, shape: Any, offsets: Any) -> Any:
    """The known neighbours of known vertices whose values differ from theirs by an error at most, not each once."""
    found = np.empty(max(1, ids.size * len(offsets)), np.int64)
    count = 0
    at = np.empty(shape.size, np.int64)
    for vertex in ids:
        place(vertex, shape, at)
        for i in range(len(offsets)):
            other = _neighbour(at, offsets[i], 1, shape)
            if other >= 0 and state[other] != UNKNOWN and abs(values[other] - values[vertex]) <= error:
                found[count] = other
                count += 1
    return found[:count]


@jit
def lowest_of(ids: Any, stride: int, values: Any, shape: Any, offsets: Any) -> Any:
    """The lowest of each vertex and its neighbours, all of which are known, by (value, id)."""
    lowest = np.empty_like(ids)
    at = np.empty(shape.size, np.int64)
    for k, vertex in enumerate(ids):
        place(vertex, shape, at)
        best = vertex
        for i in range(len(offsets)):
            other = _neighbour(at, offsets[i], stride, shape)
            if other >= 0 and _lower(values[other], other, values[best], best):
                best = other
        lowest[k] = best
    return lowest


@jit
def graph_of(ids: Any, values: Any, shape: Any, offsets: Any) -> Any:
    """The edges among some vertices, all of whose neighbours are known, and the way out of each.

    `ids` grow. Returns the neighbours within as positions in `ids` (CSR), and for each vertex the lowest neighbour by
    (value, id) that is none of them, -1 where there is none.
    """
    indptr = np.zeros(ids.size + 1, np.int64)
    indices = np.empty(max(1, ids.size * len(offsets)), np.int64)
    way_out = np.full(ids.size, -1, np.int64)
    at = np.empty(shape.size, np.int64)
    reached = np.zeros(len(offsets), np.int64)  # as vertices grow, so do their neighbours at an offset
    used = 0
    for k, vertex in enumerate(ids):
        place(vertex, shape, at)
        for i in range(len(offsets)):
            other = _neighbour(at, offsets[i], stride=1, shape=shape)
            if other < 0:
                continue
            while reached[i] < ids.size and ids[reached[i]] < other:
                reached[i] += 1
            position = reached[i]
            if position < ids.size and ids[position] == other:
                indices[used] = position
                used += 1
            elif way_out[k] < 0 or _lower(values[other], other, values[way_out[k]], way_out[k]):
                way_out[k] = other
        indptr[k + 1] = used
    return indptr, indices[:used], way_out


@jit
def first_saddle(minimum: int, values: Any, state: Any, shape: Any, offsets: Any) -> Any:
    """Where the component of a minimum first meets another, by a flood that takes the lowest vertex of its front first.

    Returns the saddle and nothing; or -1 and vertices whose neighbours have to be known first, the lowest quarter of
    the front; or -1 and nothing where the component fills the grid.
    """
    front: Any = [(np.float64(values[minimum]), 0, minimum)]
    seen = {minimum}
    at = np.empty(shape.size, np.int64)
    near: Any = np.empty(len(offsets), np.int64)
    while len(front):
        _, _, vertex = heapq.heappop(front)
        place(vertex, shape, at)
        unknown = False
        for i in range(len(offsets)):
            near[i] = _neighbour(at, offsets[i], 1, shape)
            unknown = unknown or (near[i] >= 0 and state[near[i]] == UNKNOWN)
        if unknown:
            needed = np.empty(1 + len(front) // 4, np.int64)
            needed[0] = vertex
            for k in range(1, needed.size):
                needed[k] = heapq.heappop(front)[2]
            return -1, needed
        for other in near:
            if other >= 0 and other not in seen and _lower(values[other], other, values[vertex], vertex):
                return vertex, np.empty(0, np.int64)
        for other in near:
            if other >= 0 and other not in seen:
                seen.add(other)
                last = np.isnan(values[other])  # behind +inf
                heapq.heappush(front, (np.inf if last else np.float64(values[other]), int(last), other))
    return -1, np.empty(0, np.int64)
