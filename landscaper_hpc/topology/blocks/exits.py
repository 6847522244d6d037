"""Where paths lead that leave a block: asked of the shells of the blocks around it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.blocks.block import Block
from landscaper_hpc.topology.blocks.boxes import Boxes
from landscaper_hpc.topology.blocks.shells import Shell, shell_of
from landscaper_hpc.topology.kernels.compiled import jit

_NONE = np.empty(0, np.int64)
Counts = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Pairs of vertices and how many vertices lead there."""


class Exits:
    """Where the ghost vertices that a rank's blocks ask about lead, as far as is known.

    Blocks are asked as soon as they have been worked on; `settle` then gives what has become known, and nobody needs
    these vertices again: only what leads on into blocks to come, or to other ranks (`foreign`), stays open. With
    `keep`, all answers are kept for a second walk over the blocks.
    """

    def __init__(self, boxes: Boxes, rank: int, keep: bool = False) -> None:
        self.boxes, self.rank, self._keep = boxes, rank, keep
        self.shells: dict[int, Shell] = {}
        self.foreign = self.foreign_to = _NONE
        self.foreign_done = np.empty(0, bool)
        self._at = self._to = _NONE
        self._new: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self._pending: dict[int, list[tuple[NDArray[np.int64], NDArray[np.int64]]]] = {}
        self._waiting: dict[int, set[int]] = {}

    def shell(self, number: int, block: Block, nodes: NDArray[np.int64]) -> Shell:
        """Of block `number` with its labels' vertices, what the blocks around it may ask for."""
        return shell_of(block, nodes, self.boxes, number, [o for _, o in self.boxes.neighbours(number)])

    def add(self, number: int, shell: Shell, counted: NDArray[np.int32], m: int, ghosts: NDArray[np.int64]) -> Counts:
        """Note block `number`, how many vertices it `counted` per label (`m` minima, then exits), and more ghost
        vertices that it wants to know about. Returns how many vertices lead to which minimum, or to which vertex of
        another rank, as far as is known now: what leads into a block to come is counted there."""
        boxes, shape = self.boxes, self.boxes.shape
        around = boxes.neighbours(number)
        later = {b for b, _ in around if b > number and boxes.owner(b) == self.rank}
        askers = [o for b, o in around if b in later or boxes.owner(b) != self.rank]
        nodes = shell.nodes
        sizes = counted.astype(np.int64)
        for vertices, counts in self._pending.pop(number, []):
            labels = shell.labels_of(vertices, shape)
            _add_counts(sizes, labels, counts)
            self._new.append((vertices, nodes[labels]))
            del vertices, counts, labels
        known = [(nodes[:m].copy(), sizes[:m])]
        known += self._send(number, shell, m, nodes[m:], sizes[m:])
        known += self._send(number, shell, m, ghosts, np.zeros(len(ghosts), np.int64))
        del sizes
        if askers:
            faces = {key: f for key, f in shell.faces.items() if any(o[key[0]] == key[1] for o in askers)}
            self.shells[number] = Shell(shell.core, faces, nodes)
            if all(boxes.owner(b) == self.rank for b, _ in around):
                self._waiting[number] = set(later)
        for other in list(self._waiting):
            self._waiting[other].discard(number)
            if not self._waiting[other]:
                del self._waiting[other], self.shells[other]
        return known

    def _send(self, number: int, shell: Shell, m: int, ghosts: NDArray[np.int64], counts: NDArray[np.int64]) -> Counts:
        """Ask where ghost vertices of block `number` lead, and send along how many vertices lead to each of them.

        A path may leave the block for an earlier one and come back; then its next exit is asked in the same way.
        """
        boxes, shape = self.boxes, self.boxes.shape
        known: Counts = []
        exits: Counts = [(ghosts, counts)]
        back: Counts = []  # vertices of this block, of blocks to come or of other ranks; or minima of earlier blocks
        first = True
        while exits or back:
            at_exits = bool(exits)
            vertices, counts = (exits or back).pop()
            owners = boxes.block_of(vertices)
            for other in _present(owners, boxes.size):
                here = owners == other
                v, c = vertices[here], counts[here]
                if boxes.owner(other) != self.rank:
                    if first:
                        self.foreign = _union(self.foreign, v)
                    known.append((v, c))
                elif other > number:
                    self._pending.setdefault(other, []).append((v, c))
                elif other < number and not at_exits:
                    known.append((v, c))  # a minimum: whatever is open in blocks of this rank lies ahead
                else:
                    there = shell if other == number else self.shells[other]
                    labels = there.labels_of(v, shape)
                    if first:
                        self._new.append((v, there.nodes[labels]))
                    along = np.zeros(len(there.nodes), np.int64)
                    _add_counts(along, labels, c)
                    del labels
                    some = np.flatnonzero(along)
                    minima = np.searchsorted(some, m) if other == number else 0
                    if minima:
                        known.append((there.nodes[some[:minima]], along[some[:minima]]))
                        some = some[minima:]
                    if len(some):
                        (exits if other == number else back).append(summed(there.nodes[some], along[some]))
            first = False
        return known

    def settle(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What has become known since the last time: vertices (sorted) and where they lead, to a minimum or to a vertex
        that is still open. Everything that names one of these vertices must now `follow` it."""
        if len(self._new) == 1:
            ((at, to),) = self._new
        else:
            at, to = (np.concatenate([*(pair[i] for pair in self._new), _NONE]) for i in (0, 1))
        self._new.clear()
        if not _is_sorted(at):
            order = np.argsort(at, kind="stable")  # merges runs that are sorted, which is nearly all
            at, to = at[order], to[order]
        while follow(at, to, to):
            pass
        for shell in self.shells.values():
            follow(at, to, shell.nodes)
        if self._keep:
            follow(at, to, self._to)
            order = np.argsort(together := np.concatenate([self._at, at]), kind="stable")
            self._at, self._to = together[order], np.concatenate([self._to, to])[order]
        return at, to

    def start_asking(self) -> None:
        """All blocks are done: what is left open are vertices of other ranks."""
        self.foreign_to = self.foreign.copy()
        self.foreign_done = np.zeros(len(self.foreign), bool)

    def answer(self, vertices: NDArray[np.int64]) -> NDArray[np.int64]:
        """What this rank knows of vertices on its own faces: a minimum, or -1 - v for a vertex v to ask for instead."""
        owners = self.boxes.block_of(vertices)
        to = np.empty(len(vertices), np.int64)
        for number in _present(owners, self.boxes.size):
            here = owners == number
            to[here] = self.shells[number].lead_to(vertices[here], self.boxes.shape)
        # on a foreign vertex: how far that one's own path has been followed (pointer doubling)
        place = np.minimum(np.searchsorted(self.foreign, to), max(len(self.foreign) - 1, 0))
        if len(self.foreign):
            hit = self.foreign[place] == to
            to[hit] = np.where(
                self.foreign_done[place[hit]], self.foreign_to[place[hit]], -1 - self.foreign_to[place[hit]]
            )
        return to

    def roots(self, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The minimum that each node (a minimum or an exit) leads to, once all is settled. Of exits into blocks of this
        rank only with `keep`."""
        found = nodes.copy()
        follow(self._at, self._to, found)
        follow(self.foreign, self.foreign_to, found)
        return found


@jit
def follow(at: Any, to: Any, nodes: Any) -> bool:
    """Replace, in place, each node that is in the sorted array `at` by its entry in `to`; tell whether any changed.

    Compiled, because exits can be as many as vertices on a face, and numpy would make half a dozen copies."""
    changed = False
    at_last = 0
    for i in range(nodes.size):
        node = nodes[i]
        low = 0
        high = at.size
        if at_last < at.size and at[at_last] < node:  # nodes in order: not far from the last
            low = at_last + 1
            step = 1
            while low + step < at.size and at[low + step] < node:
                low += step
                step *= 2
            high = min(at.size, low + step)
        while low < high:
            middle = (low + high) // 2
            if at[middle] < node:
                low = middle + 1
            else:
                high = middle
        at_last = low
        if low < at.size and at[low] == node and to[low] != node:
            nodes[i] = to[low]
            changed = True
    return changed


@jit
def _add_counts(sizes: Any, labels: Any, counts: Any) -> None:
    for i in range(labels.size):
        sizes[labels[i]] += counts[i]


def _present(owners: NDArray[np.int32], size: int) -> list[int]:
    """The different block numbers, of which there are few, in order."""
    return [int(b) for b in np.flatnonzero(_seen(owners, size))]


@jit
def _seen(owners: Any, size: int) -> Any:
    seen = np.zeros(size, np.bool_)
    for b in owners:
        seen[b] = True
    return seen


def summed(ids: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different ids in order, and the sum of the sizes of each."""
    found: tuple[NDArray[np.int64], NDArray[np.int64]] = _add_up(ids, sizes, np.argsort(ids, kind="stable"))
    return found


@jit
def _add_up(ids: Any, sizes: Any, order: Any) -> Any:
    """The different ids, in the given order of theirs, and the sum of the sizes of each."""
    n = 0
    last = np.int64(-1)
    for i in order:
        n += ids[i] != last
        last = ids[i]
    kept = np.empty(n, np.int64)
    total = np.zeros(n, np.int64)
    n = -1
    last = np.int64(-1)
    for i in order:
        if ids[i] != last:
            last = ids[i]
            n += 1
            kept[n] = last
        total[n] += sizes[i]
    return kept, total


def _union(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """The different ids of both, in order. numpy's union1d hashes them, which takes many times as long as merging what
    is nearly sorted."""
    ids = np.sort(np.concatenate([one, other]), kind="stable")
    first = np.ones(len(ids), bool)
    np.not_equal(ids[1:], ids[:-1], out=first[1:])
    return ids[first]


@jit
def _is_sorted(ids: Any) -> bool:
    for i in range(1, ids.size):  # noqa: SIM110, compiled
        if ids[i] < ids[i - 1]:
            return False
    return True
