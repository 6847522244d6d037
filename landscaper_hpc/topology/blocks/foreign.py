"""Where paths lead that leave the blocks of a rank: asked of the other ranks, by pointer doubling."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.parallel.comm import Comm
from landscaper_hpc.topology.blocks.boxes import Boxes
from landscaper_hpc.topology.blocks.exits import Exits, Ids
from landscaper_hpc.topology.blocks.shells import Shell
from landscaper_hpc.topology.kernels.ids import follow, present


@dataclass(frozen=True)
class Foreign:
    """Vertices of other ranks that a rank asks about, in order, and where they lead: to a minimum where `done`, else to
    another vertex that is to be asked for instead."""

    at: Ids
    to: Ids
    done: NDArray[np.bool_]


def follow_foreign(exits: Exits, boxes: Boxes, comm: Comm) -> tuple[Foreign, int]:
    """Ask the other ranks where the foreign vertices lead, all ranks together, until everybody knows; and how many
    rounds it took. All blocks are done."""
    foreign, rounds = Foreign(exits.foreign, exits.foreign, np.zeros(len(exits.foreign), bool)), 0
    while comm.size > 1 and comm.total(int(np.count_nonzero(~foreign.done))):
        foreign = _once_more(exits.shells, foreign, boxes, comm)
        rounds += 1
    return foreign, rounds


def _once_more(shells: Mapping[int, Shell], foreign: Foreign, boxes: Boxes, comm: Comm) -> Foreign:
    """Every rank asks once about all that it has open, and answers the others."""
    still = np.flatnonzero(~foreign.done)
    vertices = foreign.to[still]
    owners = boxes.owner(boxes.block_of(vertices))
    order = np.argsort(owners, kind="stable")
    bounds = np.searchsorted(owners[order], np.arange(comm.size + 1))
    asked = comm.exchange([vertices[order[a:b]] for a, b in itertools.pairwise(bounds)])
    replies = np.concatenate(comm.exchange([answer(shells, foreign, boxes, v) for v in asked]))
    done, to = foreign.done.copy(), foreign.to.copy()
    done[still[order]] = replies >= 0
    to[still[order]] = np.where(replies >= 0, replies, -1 - replies)
    return replace(foreign, to=to, done=done)


def answer(shells: Mapping[int, Shell], foreign: Foreign, boxes: Boxes, vertices: Ids) -> Ids:
    """What this rank knows of vertices on its own faces: a minimum, or -1 - v for a vertex v to ask for instead."""
    owners = boxes.block_of(vertices)
    to = np.empty(len(vertices), np.int64)
    for number in present(owners, boxes.size):
        here = owners == number
        to[here] = shells[number].lead_to(vertices[here], boxes.shape)
    if len(foreign.at):
        # on a foreign vertex: how far that one's own path has been followed (pointer doubling)
        place = np.minimum(np.searchsorted(foreign.at, to), len(foreign.at) - 1)
        hit = foreign.at[place] == to
        further = foreign.to[place[hit]]
        to[hit] = np.where(foreign.done[place[hit]], further, -1 - further)
    return to


def ends_of(nodes: Ids, exits: Exits, foreign: Foreign) -> Ids:
    """The minimum that each node (a minimum or an exit) leads to, once all is settled. Of exits into blocks of this
    rank only where their answers were kept."""
    found = nodes.copy()
    follow(exits.at, exits.to, found)
    follow(foreign.at, foreign.to, found)
    return found
