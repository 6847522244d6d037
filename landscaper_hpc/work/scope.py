"""The lowest part of a landscape, into its store: one process conducts the search, whoever can evaluates its points."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc import strict_json
from landscaper_hpc.digests import with_seal
from landscaper_hpc.errors import InputError
from landscaper_hpc.files import publish
from landscaper_hpc.grid import Grid
from landscaper_hpc.progress import Bars
from landscaper_hpc.store.answers import Answer
from landscaper_hpc.store.layout import SCOPE, at_points
from landscaper_hpc.work.identity import refuse_metrics_of_few
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.points import Deal, Known, tidy

if TYPE_CHECKING:
    from landscaper_hpc.sampling.all_data import OfAllData
    from landscaper_hpc.sampling.climb import Climb
    from landscaper_hpc.sampling.lowest import Lowest
    from landscaper_hpc.sampling.sample import Sample

_PER_VERTEX = 10
"""Bytes of memory for each vertex of the grid, whether it is evaluated or not."""
TELL_SECONDS, TELL_SHARE = 2.0, 0.05
"""How often it is written down how far the search is: not more often, and for this share of the time at most."""


def is_found(item: Landscape) -> bool:
    """Whether the store has what the study asks for. Looks, and does not read."""
    return item.prepared() and item.open().has_answer(SCOPE, item.study.asked()[SCOPE])


def is_sound(item: Landscape) -> bool:
    """Whether what the store has is whole. Reads it."""
    return item.open().answer(SCOPE, item.study.asked()[SCOPE]) is not None


def seek(item: Landscape, deal: Deal, workers: int, bars: Bars | None) -> None:
    """Find the lowest part of a prepared landscape, as far up as its study asks, into its store. Points that are known
    are not evaluated again, whatever they were evaluated for; what is stored depends on what is asked alone.

    To be called by one process at a time; more do no harm.
    """
    from landscaper_hpc.sampling.all_data import lowest_of_all_data
    from landscaper_hpc.sampling.climb import climb
    from landscaper_hpc.sampling.lowest import search
    from landscaper_hpc.sampling.sample import Sample

    scope, store = item.study.scope, item.open()
    assert scope is not None
    grid, connectivity, seed = store.grid, item.study.connectivity, item.study.directions.seed
    _refuse_too_large(item, grid.size)
    refuse_metrics_of_few(item.study, store.metrics, str(item))
    known = Known(item, deal, workers)
    started = _checkpoint(grid)
    tell = Teller(item, bars)
    tell.begin()
    whole, of_all = None, None
    if item.study.data is None:
        sample = Sample(known, grid.shape, connectivity)
        bounds = scope.share, scope.below, scope.points
        found = search(sample, *bounds, started, scope.descents, seed, tell.of(sample))
        if scope.climb is not None:
            whole = climb(known.again(), grid.shape, starts=scope.climb, connectivity=connectivity, seed=seed)
    else:
        on_all = Known(item, deal, workers, all_data=True)
        of_all = lowest_of_all_data(
            known,
            on_all,
            grid.shape,
            share=scope.share,
            below=scope.below,
            connectivity=connectivity,
            start=started,
            descents=scope.descents,
            seed=seed,
            watch=tell.of,
        )
        found = of_all.lowest
        on_all.keep_others()
    known.keep_others()
    store.write_answer(SCOPE, item.study.asked()[SCOPE], _answer(item, found, whole, known, of_all))
    tidy(item)


def _answer(item: Landscape, found: Lowest, whole: Climb | None, known: Known, of_all: OfAllData | None) -> Answer:
    from landscaper_hpc.report.quantities import measure
    from landscaper_hpc.report.quantity import Measured, MetricsAt
    from landscaper_hpc.topology.drawing import Drawing

    store = item.open()
    points, values = known.asked()
    metrics = dict(zip(store.metrics, values.T[1:], strict=True))
    below, here = np.searchsorted(points, found.ids), np.searchsorted(points, _checkpoint(store.grid))
    at = MetricsAt(
        {name: column[below] for name, column in metrics.items()},
        found.labels,
        {name: float(value) for name, column in metrics.items() for value in column[here]},
    )
    subject = Measured(
        found.tree,
        store.precision,
        store,
        lowest=found,
        climb=whole,
        of_all_data=of_all,
        metrics=at if metrics else None,
    )
    stored = {"losses": values[:, 0], **{at_points(name): column for name, column in metrics.items()}}
    arrays = {"points": points, **stored, **found.tree.to_arrays()}
    if of_all is not None:
        arrays |= {"all_data_points": of_all.ids, "all_data_losses": of_all.losses}
    return Answer(
        arrays,
        measure(subject, ("landscape", "scope")),
        Drawing.of(found.tree, None).to_arrays(),
    )


def _checkpoint(grid: Grid) -> NDArray[np.int64]:
    """The flat id of the checkpoint; none where it is no point of the grid."""
    centre = grid.checkpoint_index()
    return np.array([] if centre is None else [np.ravel_multi_index(centre, grid.shape)], np.int64)


def _refuse_too_large(item: Landscape, vertices: int) -> None:
    import psutil

    there = psutil.virtual_memory().available
    if _PER_VERTEX * vertices > there:
        raise InputError(
            f"scope: the search through {vertices:,} points needs {_PER_VERTEX * vertices / 1e9:,.3g} GB of memory in "
            f"one process, {there / 1e9:,.3g} GB are free where {item} is searched; give a smaller grid.count, or a "
            "machine with more"
        )


class Teller:
    """Shows how far a search is, and writes it down for `status`: the level, and what is exact below it."""

    def __init__(self, item: Landscape, bars: Bars | None) -> None:
        self._item, self._bars = item, bars
        self._next = 0.0

    def of(self, sample: Sample) -> Teller:
        """Itself, of a search that is about to begin."""
        self._sample = sample
        return self

    def begin(self) -> None:
        known = self._item.inside.points_known(self._item.name, self._item.open().outputs)
        self.write({"evaluated": known})

    def __call__(self, evaluated: int, level: float) -> None:
        if self._bars is not None:
            scope = self._item.study.scope
            assert scope is not None
            whole, of = (scope.points, "those asked for") if scope.points else (self._sample.size, "the grid's")
            self._bars.update(f"points of {self._item.name}, of {of}", evaluated, whole)
        began = time.monotonic()
        if began < self._next:
            return
        self.write(so_far(self._sample, level))
        now = time.monotonic()
        self._next = now + max(TELL_SECONDS, (now - began) / TELL_SHARE)

    def write(self, told: dict[str, Any]) -> None:
        content = (strict_json.dumps(with_seal(told), indent=1) + "\n").encode()
        publish(self._item.inside.so_far(self._item.name), content, sync="nothing")


def so_far(sample: Sample, level: float) -> dict[str, Any]:
    """What is known of the landscape below the level that a search has come to: all that was met there is exact."""
    from landscaper_hpc.sampling.restricted import restricted_tree

    low, level = sample.low(), min(level, sample.ceiling)
    ids = np.sort(low[sample.values[low] < level])
    tree, _ = restricted_tree(sample, ids, level)
    pairs = int(np.count_nonzero(tree.parent >= 0))
    return {
        "evaluated": sample.evaluated,
        "level": level,
        "points_below": len(ids),
        "n_minima": tree.n_minima,
        "pairs": pairs,
        "components": tree.n_minima - pairs,
        "next_tenth": sample.next_tenth(ids),
    }
