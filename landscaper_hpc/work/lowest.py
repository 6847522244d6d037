"""The lowest part of a study's landscape from some of its points, dealt out by a mapper; what is known is kept."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc import strict_json
from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.files import publish
from landscaper_hpc.progress import Bars
from landscaper_hpc.work.answering import Arrays, Batch, do_batch
from landscaper_hpc.work.executor import Mapper, until_done
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.tasks import worker_for

if TYPE_CHECKING:
    from landscaper_hpc.sampling.lowest import Lowest

log = logging.getLogger(__name__)

_WHOLE = "known.npz"


def lowest_of(item: Landscape, mapper: Mapper, bars: Bars, starts: int | None, **scope: Any) -> dict[str, Any]:
    """`sampling.lowest` of a prepared landscape, and of the whole of it its mean climb by so many `starts`, to disk.
    Returns the numbers.

    Points that an earlier call evaluated are not evaluated again, whatever it asked for.
    """
    from landscaper_hpc.sampling.lowest import lowest

    grid = item.open().grid
    known = Known(item, partial(_deal, mapper=mapper))
    centre = grid.checkpoint_index()
    found = lowest(
        known,
        grid.shape,
        connectivity=item.study.connectivity,
        start=() if centre is None else [np.ravel_multi_index(centre, grid.shape)],
        seed=item.study.directions.seed,
        on_round=lambda evaluated, level: bars.update(f"points of {item.name}", evaluated, grid.size),
        **scope,
    )
    known.merge()
    told = numbers(found)
    if starts is not None:
        from landscaper_hpc.sampling.climb import climb

        known = Known(item, partial(_deal, mapper=mapper))
        bars.update(f"mean climb of {item.name}", 0, starts)
        whole = climb(
            known, grid.shape, starts=starts, connectivity=item.study.connectivity, seed=item.study.directions.seed
        )
        bars.update(f"mean climb of {item.name}", starts, starts)
        known.merge()
        told["whole_grid"] = asdict(whole)
    content = io.BytesIO()
    arrays: Arrays = {"ids": found.ids, "losses": found.values, **found.tree.to_arrays()}
    np.savez(content, **arrays)  # type: ignore[arg-type]
    publish(item.inside.lowest_tree(item.name), content.getvalue())
    publish(item.inside.lowest_numbers(item.name), (strict_json.dumps(told, indent=2) + "\n").encode())
    return told


def numbers(found: Lowest) -> dict[str, Any]:
    """What is told of the lowest part of a landscape."""
    from landscaper_hpc.topology.metrics import mean_climb, smad

    tree = found.tree
    points = math.prod(tree.shape)
    return {
        "grid_points": points,
        "evaluated": found.evaluated,
        "share_evaluated": sum(found.evaluated.values()) / points,
        "level": found.level,
        "points_below": tree.n_vertices,
        "lowest": tree.value_range[0],
        "minima": tree.n_minima,
        "pairs": int(np.count_nonzero(tree.parent >= 0)),
        "mean_climb": mean_climb(tree),
        "smad": smad(tree),
        "random_descents": found.descents,
        "ended_elsewhere": found.missed,
        "unmet_at_most": found.unmet,
    }


def _deal(batches: Sequence[Batch], mapper: Mapper) -> list[Arrays]:
    until_done(
        mapper, do_batch, lambda: [one for one in batches if not one.file.exists()] or None, None, lambda one: None
    )
    return [one.read() for one in batches]


class Known:
    """The losses at points of a landscape, by their flat ids: what is on disk is not evaluated again.

    Files hold ids and losses, and appear whole; the name of their folder is a hash of all that decides a loss.
    """

    def __init__(self, item: Landscape, deal: Callable[[Sequence[Batch]], list[Arrays]]) -> None:
        store = item.open()
        self._item, self._deal = item, deal
        self._most = item.site.points_per_shard(store.grid)
        self._coordinates = store.grid.coordinates()
        self.folder = item.inside.lowest(item.name) / canonical_sha256(_decides(item))[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._ids, self._losses = self._read()

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        place = np.minimum(np.searchsorted(self._ids, ids), max(0, len(self._ids) - 1))
        there = self._ids[place] == ids if len(self._ids) else np.zeros(len(ids), bool)
        left = ids[~there]
        pieces = [left[i : i + self._most] for i in range(0, len(left), self._most)]
        found = [one["losses"] for one in self._deal([self._points(piece) for piece in pieces])]
        values = np.empty(len(ids))
        values[there] = self._losses[place[there]]
        if found:
            values[~there] = np.concatenate(found)
        return values

    def merge(self) -> None:
        """Make one file of all."""
        files = list(self.folder.glob("*.npz"))
        ids, losses = self._read()
        content = io.BytesIO()
        np.savez(content, ids=ids, losses=losses)
        publish(self.folder / _WHOLE, content.getvalue())
        for file in files:
            if file.name != _WHOLE:
                file.unlink()

    def _points(self, ids: NDArray[np.int64]) -> Points:
        index = np.unravel_index(ids, tuple(map(len, self._coordinates)))
        alphas = np.stack([c[i] for c, i in zip(self._coordinates, index, strict=True)], axis=1)
        return Points(self._item, "losses of the lowest part", alphas, (), ids, self.folder)

    def _read(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Everything that is known, by ids that grow. A file that is damaged is none."""
        ids, losses = [np.empty(0, np.int64)], [np.empty(0)]
        for file in sorted(self.folder.glob("*.npz")):
            try:
                with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as found:
                    one = found["ids"], found["losses"]
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                log.warning("%s: is damaged; what it held is evaluated again", file)
                file.unlink()
                continue
            ids.append(one[0])
            losses.append(one[1])
        found_ids, first = np.unique(np.concatenate(ids), return_index=True)
        return found_ids, np.concatenate(losses)[first]


@dataclass(frozen=True, eq=False)
class Points(Batch):
    """The losses at some points of the grid, `ids`."""

    ids: NDArray[np.int64]
    folder: Path

    @cached_property
    def file(self) -> Path:
        return self.folder / f"{hashlib.sha256(self.ids.tobytes()).hexdigest()[:24]}.npz"

    def find(self) -> Arrays:
        from landscaper_hpc.losses.evaluate import losses

        worker = worker_for(self.landscape)
        with self.in_time(len(self.ids)):
            found = losses(worker.objective, worker.directions, self.starts, worker.batch)
        return {"ids": self.ids, "losses": found}


def _decides(item: Landscape) -> tuple[Any, ...]:
    store = item.open()
    return store.study_id, store.attributes["provenance"]
