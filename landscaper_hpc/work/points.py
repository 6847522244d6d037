"""Losses, and metrics, at single points of a landscape: sparse shards, each a list of vertices, and what is known.

A sparse shard is a task like a shard: picklable, idempotent, and published whole, with a SHA-256 that covers it. Its
name is a hash of its vertices, so that it is the same for all who ask for it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.digests import with_digest, without_digest
from landscaper_hpc.files import publish, remove_partials
from landscaper_hpc.grid import Grid
from landscaper_hpc.progress import Progress
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.tasks import losses_of

log = logging.getLogger(__name__)

Ids = NDArray[np.int64]
Values = NDArray[np.float64]
"""Of points, (points, outputs): the loss of each, and the task's metrics."""

_WHOLE, _OTHERS = "known.losses", "others.losses"
_A_WORKER = 4
"""Sparse shards that a worker gets of a round: the last ones end about together."""
_WORTH_A_SYNC = 1.0
"""Seconds of evaluation: to sync what took less may take longer than to evaluate it again."""


@dataclass(frozen=True, eq=False)
class Points:
    """A sparse shard: some vertices of a landscape's grid, by flat ids that grow; where the landscape is of few data,
    perhaps with their losses on all of them."""

    landscape: Landscape
    ids: Ids
    all_data: bool = False

    @cached_property
    def name(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.ids, "<i8").tobytes()).hexdigest()[:24]

    @property
    def key(self) -> str:
        """Its name among leases and failures."""
        return f"{self.landscape.name}{'@all' if self.all_data else ''}.{self.name}"

    @property
    def file(self) -> Path:
        """The file that gets its losses."""
        return self.landscape.inside.points(self.landscape.name, self.all_data) / f"{self.name}.losses"

    @property
    def question(self) -> Path:
        """The file that asks others for them."""
        return self.file.with_suffix(".ids")

    def is_open(self) -> bool:
        """Whether it is neither done nor given up."""
        return not self.file.exists() and not self.landscape.failures.is_quarantined(self.key)

    def ask(self) -> None:
        """Let others evaluate it, too."""
        publish(self.question, np.ascontiguousarray(self.ids, "<i8").tobytes(), sync="nothing")

    def read(self, outputs: int) -> Values | None:
        """Its values, where they are there."""
        found = read(self.file, outputs)
        return None if found is None or not np.array_equal(found[0], self.ids) else found[1]

    def __str__(self) -> str:
        said = f"{self.landscape}, {len(self.ids)} points from {self.ids[0]} to {self.ids[-1]}"
        return f"{said}, on all data" if self.all_data else said


def asked(landscape: Landscape) -> list[Points]:
    """The sparse shards of a landscape that are asked for and open."""
    found = []
    for all_data in (False, True):
        for file in sorted(landscape.inside.points(landscape.name, all_data).glob("[!.]*.ids")):
            try:
                one = Points(landscape, np.frombuffer(file.read_bytes(), "<i8").astype(np.int64), all_data)
            except (OSError, ValueError):  # it was answered in between, or torn by a power cut
                continue
            if one.name == file.stem and one.is_open():
                found.append(one)
    return found


def evaluate_points(task: Points, progress: Progress) -> None:
    """Evaluate a sparse shard and publish it; failures are kept as `losses_of` keeps them."""
    if not task.is_open():
        return

    def alphas(grid: Grid) -> NDArray[np.float64]:
        index = np.unravel_index(task.ids, grid.shape)
        return np.stack([axis[i] for axis, i in zip(grid.coordinates(), index, strict=True)], axis=1)

    began = time.monotonic()
    found = losses_of(task, len(task.ids), alphas, progress, task.all_data, with_metrics=not task.all_data)
    if found is not None:
        write(task.file, task.ids, found, sync=time.monotonic() - began > _WORTH_A_SYNC)
        task.landscape.heartbeat.shard_done(len(task.ids))


def write(file: Path, ids: Ids, values: NDArray[Any], sync: bool = True) -> None:
    """Publish ids and their losses (size,), or losses and metrics (size, outputs), with the SHA-256 of all of it. What
    is not synced may be torn by a power cut, and is then evaluated again."""
    columns = np.ascontiguousarray(values.reshape(len(ids), -1).T, "<f8")
    content = _head(len(columns)) + np.ascontiguousarray(ids, "<i8").tobytes() + columns.tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    publish(file, with_digest(content), sync="content" if sync else "nothing")


def read(file: Path, outputs: int) -> tuple[Ids, Values] | None:
    """What `write` wrote, with so many values of each point; None where it is not there. What is damaged, or has not so
    many, is removed, and so evaluated again."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    head, body = _head(outputs), without_digest(content)
    size, torn = divmod(len(body or b"") - len(head), 8 * (1 + outputs))
    if body is not None and body.startswith(head) and size > 0 and not torn:
        ids = np.frombuffer(body, "<i8", size, len(head)).astype(np.int64)
        columns = np.frombuffer(body, "<f8", offset=len(head) + 8 * size).astype(np.float64)
        if outputs > 1 or not (ids < 0).any():
            return ids, columns.reshape(outputs, size).T
    log.warning("%s: is damaged; what it held is evaluated again", file)
    file.unlink(missing_ok=True)
    return None


def _head(outputs: int) -> bytes:
    """With what a file of several values of each point begins, as no flat id is negative: how many, negated."""
    return b"" if outputs == 1 else np.array(-outputs, "<i8").tobytes()


Deal = Callable[[Sequence[Points]], None]
"""Has sparse shards evaluated until none of them is open."""


class Known:
    """The losses at points of a landscape, by flat ids, and with them the task's metrics: what is in the store or in
    files is not evaluated again.

    What is asked of it is kept in mind: the record of what a scope consists of.
    """

    def __init__(self, landscape: Landscape, deal: Deal, workers: int, all_data: bool = False) -> None:
        """`all_data`: of a landscape of few data, the losses on all of them, without metrics."""
        store = landscape.open()
        self._outputs = 1 if all_data else store.outputs
        self._landscape, self._deal, self._workers, self._all_data = landscape, deal, workers, all_data
        self._most = landscape.site.points_per_shard(store.grid)
        self._batch: int = store.attributes["batch"]
        self._folder = landscape.inside.points(landscape.name, all_data)
        self._asked: list[Ids] = []
        self._found: list[Values] = []
        self._folder.mkdir(parents=True, exist_ok=True)
        for question in self._folder.glob("*.ids"):
            question.unlink(missing_ok=True)
        self._ids, self._values = _together(
            [*_files(self._folder, self._outputs), store.lowest_values(all_data)], self._outputs
        )
        self._merge()

    def __call__(self, ids: Ids) -> NDArray[np.float64]:
        place = np.minimum(np.searchsorted(self._ids, ids), max(0, len(self._ids) - 1))
        there = self._ids[place] == ids if len(self._ids) else np.zeros(len(ids), bool)
        values = np.empty((len(ids), self._outputs))
        values[there] = self._values[place[there]]
        values[~there] = self._evaluated(ids[~there])
        self._asked.append(ids)
        self._found.append(values)
        losses: NDArray[np.float64] = values[:, 0]
        return losses

    def asked(self) -> tuple[Ids, Values]:
        """All that was asked of it, by ids that grow."""
        return _together(list(zip(self._asked, self._found, strict=True)), self._outputs)

    def again(self) -> Known:
        """Itself, for another search, which may ask for the same points."""
        there = [(self._ids, self._values), *zip(self._asked, self._found, strict=True)]
        self._ids, self._values = _together(there, self._outputs)
        return self

    def keep_others(self) -> None:
        """Keep in a file what was not asked: it may be in the store's record alone, which is about to be replaced."""
        ids, _ = self.asked()
        others = ~np.isin(self._ids, ids)
        if others.any():
            write(self._folder / _OTHERS, self._ids[others], self._values[others])

    def _evaluated(self, ids: Ids) -> Values:
        batches = -(-len(ids) // (self._batch * _A_WORKER * self._workers))
        size = min(self._most, self._batch * max(1, batches))
        pieces = [Points(self._landscape, ids[i : i + size], self._all_data) for i in range(0, len(ids), size)]
        found: dict[Points, Values] = {}
        while left := [piece for piece in pieces if piece not in found]:
            self._deal(left)
            found |= {piece: values for piece in left if (values := piece.read(self._outputs)) is not None}
        for piece in pieces:
            piece.question.unlink(missing_ok=True)
        return np.concatenate([found[piece] for piece in pieces]) if pieces else np.empty((0, self._outputs))

    def _merge(self) -> None:
        """One file of all that is known, in place of many."""
        before = [file for file in self._folder.glob("*.losses") if file.name != _WHOLE]
        if before:
            write(self._folder / _WHOLE, self._ids, self._values)
        for file in before:
            file.unlink(missing_ok=True)


def known_of(landscape: Landscape) -> Callable[[Ids], NDArray[np.float64]]:
    """Gives the losses at points of a prepared landscape; `LookupError` where one is not known."""
    store = landscape.open()
    files = _files(landscape.inside.points(landscape.name), store.outputs)
    found, values = _together([*files, store.lowest_values()], store.outputs)

    def known(ids: Ids) -> NDArray[np.float64]:
        if not np.isin(ids, found).all():
            raise LookupError
        losses: NDArray[np.float64] = values[np.searchsorted(found, ids), 0]
        return losses

    return known


def tidy(landscape: Landscape) -> None:
    """Keep of a landscape's points in files what its store does not hold, and no folder for nothing."""
    for all_data in (True, False):
        _tidy(landscape, landscape.inside.points(landscape.name, all_data), all_data)


def _tidy(landscape: Landscape, folder: Path, all_data: bool) -> None:
    if not folder.is_dir():
        return
    store = landscape.open()
    outputs = 1 if all_data else store.outputs
    ids, values = _together(_files(folder, outputs), outputs)
    more = ~np.isin(ids, store.lowest_values(all_data)[0])
    kept = {_WHOLE} if more.any() else set()
    if kept:
        write(folder / _WHOLE, ids[more], values[more])
    remove_partials(folder)
    for file in folder.glob("[!.]*"):
        if file.name not in kept:
            file.unlink(missing_ok=True)
    with suppress(OSError):  # it holds something, or somebody has come
        folder.rmdir()
        folder.parent.rmdir()


def _files(folder: Path, outputs: int) -> list[tuple[Ids, Values]]:
    return [found for file in sorted(folder.glob("[!.]*.losses")) if (found := read(file, outputs)) is not None]


def _together(parts: Sequence[tuple[Ids, Values]], outputs: int) -> tuple[Ids, Values]:
    ids = np.concatenate([np.empty(0, np.int64), *(part[0] for part in parts)])
    values = np.concatenate([np.empty((0, outputs)), *(part[1] for part in parts)])
    found, first = np.unique(ids, return_index=True)
    return found, values[first]
