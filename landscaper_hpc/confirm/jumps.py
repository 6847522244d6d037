"""Minima of a network, cheaply: descents that may leave the basin they begin in, and walks up valleys and over.

Where a grid's minimum leads is a question about the flow of the loss, which `descents` follows. A network asks only
which minima there are: a trust region that learns from gradients comes to one for a third as many. Minima often lie in
a row along a valley: from each its softest two directions are walked, both ways, to where the loss falls again, and
from there down to the next (Wales, *Energy Landscapes* (2003), chapter 6, of such searches from single minima).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.confirm import rows
from landscaper_hpc.confirm.descents import Searcher
from landscaper_hpc.confirm.ends import CONFIRMED, End, clustered
from landscaper_hpc.confirm.jumping import softest
from landscaper_hpc.confirm.newton import Here
from landscaper_hpc.confirm.surface import Array, Box

WALKED, _AT_ONCE, _WAYS = 64, 8, 2
"""Of so many ends, the lowest first, so many side by side, ways are walked along so many directions, both ways."""
_NEXT, _ALIGNED = 4.0, 0.9
"""In steps, and the cosine: no way is walked where another end lies so close in its direction."""
_NEAR = 0.1
"""In steps: descents that rest no further apart are finished as one."""


class Jumps:
    """Where starts lead by searches that jump: to one of `ends`, which are those of all calls."""

    def __init__(self, run: Searcher, box: Box, rounding: float) -> None:
        self._run, self._box, self._n, self._rounding = run, box, len(box.far), rounding
        self._walked: list[End] = []
        self.ends: list[End] = []

    def follow(self, starts: Array) -> NDArray[np.int64]:
        """To which of `ends` starts (k, n), in steps, lead, (k,). No start's way depends on the others, or on what is
        known."""
        n = self._n
        unknown = np.full(n, np.nan)
        begin = [Here(x, np.nan, unknown, np.full((n, n), np.nan), 1.0) for x in starts]
        found = self._run("jumps", np.array([rows.here_row(one) for one in begin]).reshape(len(begin), -1))
        return self._finished([rows.here_of(row, n) for row in found])

    def walk(self) -> None:
        """From the lowest ends up their valleys and over, on from what is found there, till nothing is new."""
        while ends := self._next():
            self._walked += ends
            ways = [(end, way, sign) for end in ends for way, sign in self._ways(end)]
            if not ways:
                continue
            starts = np.array([[*rows.end_row(end), way, sign] for end, way, sign in ways])
            heres = [rows.here_of(row, self._n) for row in self._run("walks", starts)]
            self._finished([one for one in heres if np.isfinite(one.value)])

    def _next(self) -> list[End]:
        walked = {id(end) for end in self._walked}
        ends = [end for end in self.ends if end.kind in CONFIRMED and end.kind != "kink" and id(end) not in walked]
        ends.sort(key=lambda end: (end.value, tuple(end.point)))
        return ends[: min(_AT_ONCE, WALKED - len(self._walked))]

    def _ways(self, end: End) -> list[tuple[int, float]]:
        """Along which eigenvectors, and with what sign, but for where an end that is known lies next."""
        beside = np.array([other.point - end.point for other in self.ends if other is not end]).reshape(-1, self._n)
        beside = beside[np.abs(beside).max(axis=1) < _NEXT]
        towards = beside / np.maximum(np.linalg.norm(beside, axis=1, keepdims=True), 1e-300)
        ways = enumerate(softest(end, self._box)[:_WAYS])
        return [
            (i, sign) for i, way in ways for sign in (1.0, -1.0) if (sign * towards @ way).max(initial=0.0) < _ALIGNED
        ]

    def _finished(self, heres: Sequence[Here]) -> NDArray[np.int64]:
        """The ends of descents that rest; of some that rest together the lowest is followed to its very end."""
        order = sorted(range(len(heres)), key=lambda i: (np.nan_to_num(heres[i].value, nan=np.inf), i))
        firsts: list[int] = []
        resting: list[int] = []  # of these, what others may rest beside
        known = [end.point for end in self.ends if end.kind in CONFIRMED]
        index = [i for i, end in enumerate(self.ends) if end.kind in CONFIRMED]
        to = np.full(len(heres), -1)
        like = np.full(len(heres), -1)
        for i in order:
            near = _nearest(heres[i], known)
            if near is not None:
                to[i] = index[near]
                continue
            same = _nearest(heres[i], [heres[j].point for j in resting])
            like[i] = i if same is None else resting[same]
            if same is None:
                firsts.append(i)
                resting += [i] if heres[i].close else []
        if firsts:
            found = self._run("minima", np.array([rows.here_row(heres[i]) for i in firsts]))
            clusters = clustered([rows.end_of(row, self._n) for row in found], self._rounding, self.ends)
            self.ends = clusters.ends
            place = dict(zip(firsts, clusters.of.tolist(), strict=True))
            for i in np.flatnonzero(like >= 0).tolist():
                to[i] = place[int(like[i])]
        return to.astype(np.int64)


def _nearest(here: Here, points: Sequence[Array]) -> int | None:
    """Which of some points a descent rests at."""
    if not here.close or not points:
        return None
    apart = np.abs(np.array(points) - here.point).max(axis=1)
    best = int(np.argmin(apart))
    return best if apart[best] <= _NEAR else None
