"""Where paths lead that leave a block: asked of the shells of the blocks around it, within one rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.topology.blocks.boxes import Boxes
from landscaper_hpc.topology.blocks.shells import Shell
from landscaper_hpc.topology.kernels.ids import add_counts, follow, is_sorted, present, summed, union

NONE = np.empty(0, np.int64)
Ids = NDArray[np.int64]
Counts = tuple[tuple[Ids, Ids], ...]
"""Pairs of vertices and how many vertices lead there."""
Answers = tuple[Ids, Ids]
"""Vertices, and where they lead: to a minimum, or to a vertex that is asked for as well."""


@dataclass(frozen=True)
class Exits:
    """What a rank knows, between two of its blocks, of where the ghost vertices lead that its blocks ask about.

    Blocks are asked as soon as they have been worked on; `settled` then gives what has become known, and nobody needs
    these vertices again: only what leads on into blocks to come, or to other ranks (`foreign`), stays open.

    shells      of the blocks done, those that are still asked
    waiting     of these, those that no other rank asks, each with the blocks to come that do
    pending     for blocks to come, the vertices in them that were asked for, and how many vertices lead there
    foreign     the vertices of other ranks that were asked for, in order
    at, to      what is kept of the answers for a second walk over the blocks, in order
    """

    shells: Mapping[int, Shell] = field(default_factory=dict)
    waiting: Mapping[int, frozenset[int]] = field(default_factory=dict)
    pending: Mapping[int, Counts] = field(default_factory=dict)
    foreign: Ids = field(default_factory=lambda: NONE)
    at: Ids = field(default_factory=lambda: NONE)
    to: Ids = field(default_factory=lambda: NONE)


@dataclass(frozen=True)
class Question:
    """What a block that has been worked on asks the blocks around it: its `number` and `shell`, how many vertices lead
    to each of its labels (`n_minima` minima, then exits), and the other `ghosts` that it wants to know about."""

    number: int
    shell: Shell
    n_minima: int
    sizes: NDArray[np.int32]
    ghosts: Ids


@dataclass(frozen=True)
class _Sent:
    """What became of some exits: where their vertices are counted now, answers, and what is asked of others."""

    known: Counts
    answers: tuple[Answers, ...]
    pending: tuple[tuple[int, tuple[Ids, Ids]], ...]
    foreign: tuple[Ids, ...]


def asked(exits: Exits, boxes: Boxes, rank: int, question: Question) -> tuple[Exits, Counts, Answers]:
    """The exits with one more block; how many vertices lead to which minimum, or to which vertex of another rank, as
    far as is known now, what leads into a block to come being counted there; and the answers, in order."""
    number, shell, m = question.number, question.shell, question.n_minima
    nodes, sizes = shell.nodes, question.sizes.astype(np.int64)
    answers: list[Answers] = []
    for vertices, counts in exits.pending.get(number, ()):
        labels = shell.labels_of(vertices, boxes.shape)
        add_counts(sizes, labels, counts)
        answers.append((vertices, nodes[labels]))
        del vertices, counts, labels
    known: Counts = ((nodes[:m].copy(), sizes[:m]),)
    pending = {b: counts for b, counts in exits.pending.items() if b != number}
    foreign = exits.foreign
    for ghosts, counts in ((nodes[m:], sizes[m:]), (question.ghosts, np.zeros(len(question.ghosts), np.int64))):
        sent = _sent(exits.shells, boxes, rank, question, ghosts, counts)
        known += sent.known
        answers += sent.answers
        for other, pair in sent.pending:
            pending[other] = (*pending.get(other, ()), pair)
        foreign = union(foreign, np.concatenate([NONE, *sent.foreign])) if sent.foreign else foreign
    shells, waiting = _still_asked(exits, boxes, rank, number, shell)
    if len(answers) == 1:
        ((at, to),) = answers
    else:
        at, to = (np.concatenate([*(pair[i] for pair in answers), NONE]) for i in (0, 1))
    if not is_sorted(at):
        order = np.argsort(at, kind="stable")  # merges runs that are sorted, which is nearly all
        at, to = at[order], to[order]
    return replace(exits, shells=shells, waiting=waiting, pending=pending, foreign=foreign), known, (at, to)


def _sent(shells: Mapping[int, Shell], boxes: Boxes, rank: int, question: Question, ghosts: Ids, counts: Ids) -> _Sent:
    """Ask where ghost vertices of a block lead, and send along how many vertices lead to each of them.

    A path may leave the block for an earlier one and come back; then its next exit is asked in the same way.
    """
    number, m = question.number, question.n_minima
    known: list[tuple[Ids, Ids]] = []
    answers: list[tuple[Ids, Ids]] = []
    pending: list[tuple[int, tuple[Ids, Ids]]] = []
    foreign: list[Ids] = []
    exits: list[tuple[Ids, Ids]] = [(ghosts, counts)]
    # vertices of this block, of blocks to come or of other ranks; or minima of earlier blocks
    back: list[tuple[Ids, Ids]] = []
    first = True
    while exits or back:
        at_exits = bool(exits)
        vertices, counts = (exits or back).pop()
        owners = boxes.block_of(vertices)
        for other in present(owners, boxes.size):
            here = owners == other
            v, c = vertices[here], counts[here]
            if boxes.owner(other) != rank:
                if first:
                    foreign.append(v)
                known.append((v, c))
            elif other > number:
                pending.append((other, (v, c)))
            elif other < number and not at_exits:
                known.append((v, c))  # a minimum: whatever is open in blocks of this rank lies ahead
            else:
                there = question.shell if other == number else shells[other]
                labels = there.labels_of(v, boxes.shape)
                if first:
                    answers.append((v, there.nodes[labels]))
                along = np.zeros(len(there.nodes), np.int64)
                add_counts(along, labels, c)
                del labels
                some = np.flatnonzero(along)
                minima = np.searchsorted(some, m) if other == number else 0
                if minima:
                    known.append((there.nodes[some[:minima]], along[some[:minima]]))
                    some = some[minima:]
                if len(some):
                    (exits if other == number else back).append(summed(there.nodes[some], along[some]))
        first = False
    return _Sent(tuple(known), tuple(answers), tuple(pending), tuple(foreign))


def _still_asked(
    exits: Exits, boxes: Boxes, rank: int, number: int, shell: Shell
) -> tuple[dict[int, Shell], dict[int, frozenset[int]]]:
    """The shells that are still asked when block `number` is done, and which blocks they wait for."""
    around = boxes.neighbours(number)
    later = frozenset(b for b, _ in around if b > number and boxes.owner(b) == rank)
    askers = [offset for b, offset in around if b in later or boxes.owner(b) != rank]
    shells, waiting = dict(exits.shells), dict(exits.waiting)
    if askers:
        faces = {key: f for key, f in shell.faces.items() if any(o[key[0]] == key[1] for o in askers)}
        shells[number] = replace(shell, faces=faces)
        if all(boxes.owner(b) == rank for b, _ in around):
            waiting[number] = later
    waiting = {b: others - {number} for b, others in waiting.items()}
    done = [b for b, others in waiting.items() if not others]
    for b in done:
        del waiting[b], shells[b]
    return shells, waiting


def settled(exits: Exits, answers: Answers, keep: bool) -> tuple[Exits, Ids, Ids]:
    """What answers in order come to: vertices, and where they lead, to a minimum or to a vertex that is still open.
    Everything that names one of these vertices must now `follow` it, in place, as the shells here do. `keep` the
    answers for a second walk over the blocks."""
    at, to = answers
    while follow(at, to, to):
        pass
    for shell in exits.shells.values():
        follow(at, to, shell.nodes)
    if keep:
        follow(at, to, exits.to)
        order = np.argsort(together := np.concatenate([exits.at, at]), kind="stable")
        exits = replace(exits, at=together[order], to=np.concatenate([exits.to, to])[order])
    return exits, at, to
