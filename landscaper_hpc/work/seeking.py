"""Lowest parts of landscapes by workers that share nothing but files: one of them conducts, all evaluate what it asks.

Who conducts is a lease, as who evaluates a sparse shard is. The conductor asks by files that list vertices, and works
on them with the others; where it dies, another replays what is known and goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from landscaper_hpc.errors import Stopped, WorkerLost
from landscaper_hpc.progress import Bars
from landscaper_hpc.store.leases import CONDUCTOR
from landscaper_hpc.work import points, stages
from landscaper_hpc.work.executor import Losses
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.points import Points
from landscaper_hpc.work.scope import is_found, seek
from landscaper_hpc.work.worker import Stop, wait

log = logging.getLogger(__name__)

_SHORTEST_WAIT, _LONGEST_WAIT = 0.02, 1.0


def seek_together(landscapes: Sequence[Landscape], place: int, places: int, stop: Stop, bars: Bars | None) -> bool:
    """Find the lowest parts of landscapes until all are there (True) or it is time to stop (False).

    `place` of `places` says where a worker begins. A landscape that nobody conducts is conducted; of others what is
    asked for is evaluated.
    """
    first = place * len(landscapes) // places
    pause, take = _SHORTEST_WAIT, _Taking(stop)
    try:
        while True:
            left = [item for item in (*landscapes[first:], *landscapes[:first]) if not is_found(item)]
            if not left:
                return True
            of_each = helpers(places, len(left))
            if any(_conduct(item, of_each, take, bars) or _help(item, place, places, take) for item in left):
                pause = _SHORTEST_WAIT
                continue
            if stop.requested:
                return False
            stages.refuse_quarantined(left)  # who conducts has ended with it, or will
            wait(stop, pause)
            pause = min(1.5 * pause, _LONGEST_WAIT)
    except Stopped:
        return False


def helpers(places: int, landscapes: int) -> int:
    """How many of so many workers will evaluate what one conductor asks, where there are so many landscapes: what is
    asked is cut for so many, and every piece is files."""
    return -(-places // max(landscapes, 1))


class _Taking:
    """Evaluates sparse shards that nobody else does."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self._losses, self._advanced = Losses(), False

    def __call__(self, piece: Points) -> bool:
        """Whether it was there to be evaluated, and was."""
        if self.stop.requested:
            raise Stopped
        with piece.landscape.leases.hold(piece.key) as mine:
            if not mine or not piece.is_open():
                return False
            try:
                points.evaluate_points(piece, self.stop.check)
            except WorkerLost as lost:  # of those that hold the model with this one
                self._losses.another(lost, self._advanced)
                self._advanced = False
                return False
        self._advanced = True
        return True


def _conduct(item: Landscape, workers: int, take: _Taking, bars: Bars | None) -> bool:
    """Conduct the search, where nobody does and it is not over, with so many workers."""
    with item.leases.hold(f"{item.name}{CONDUCTOR}") as mine:
        if not mine or is_found(item):
            return False

        def deal(pieces: Sequence[Points]) -> None:
            for piece in pieces:
                piece.ask()
            pause = _SHORTEST_WAIT
            while left := [piece for piece in pieces if piece.is_open()]:
                if sum(map(take, left)):
                    pause = _SHORTEST_WAIT
                else:
                    wait(take.stop, pause)
                    pause = min(1.5 * pause, _LONGEST_WAIT)
                if take.stop.requested:
                    raise Stopped
            stages.refuse_quarantined([item])

        log.info("%s: conducting the search", item)
        seek(item, deal, workers, bars)
    return True


def _help(item: Landscape, place: int, places: int, take: _Taking) -> bool:
    """Evaluate what is asked for and nobody else does; whether there was something."""
    pieces = points.asked(item)
    first = place * len(pieces) // places
    return sum(map(take, pieces[first:] + pieces[:first])) > 0
