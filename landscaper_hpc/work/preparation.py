"""How landscapes are prepared: checkpoints trained, directions found and shared, stores made, others refused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from landscaper_hpc.comparison.weight_spectra import refuse_without_package
from landscaper_hpc.errors import InputError
from landscaper_hpc.progress import Bars
from landscaper_hpc.work import identity, unchanged
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.executor import Function, Mapper, until_done
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.shared_directions import SharedDirections
from landscaper_hpc.work.tasks import prepare, prepare_or_quarantine, train_checkpoint

log = logging.getLogger(__name__)


def prepare_all(landscapes: Sequence[Landscape], mapper: Mapper, bars: Bars, apart: bool = False) -> None:
    """Train missing checkpoints, and make every store that is not there. Refuses before anything is spent.

    With `apart` a landscape that cannot be prepared is quarantined with its error, and the others go on.
    """
    _check_files(landscapes, apart)
    trained = {item.file: item for item in landscapes if item.study.train is not None}
    _train(list(trained.values()), mapper, bars)
    for item in landscapes:
        if item.prepared():
            _refuse_other(item, sparing=apart)
    function = prepare_or_quarantine if apart else prepare
    _per_landscape(mapper, "directions", function, landscapes, Landscape.prepared, bars, together=apart)


def share_directions(shared: SharedDirections, mapper: Mapper, bars: Bars) -> None:
    """Make a file of directions that is not there, and the checkpoint they come from."""
    item = shared.landscape
    item.study.check_files()
    if item.study.train is not None:
        _train([item], mapper, bars)
    shared.refuse_other()
    _per_landscape(mapper, "shared directions of", shared.make, [item], lambda item: shared.file.exists(), bars)


def _check_files(landscapes: Sequence[Landscape], apart: bool) -> None:
    studies = list({id(item.study): item.study for item in landscapes}.values())
    for study in studies[:1] if apart else studies:  # the studies of a sweep have all but their checkpoints in common
        study.check_files()
        if study.power_law:
            refuse_without_package()


def _train(landscapes: Sequence[Landscape], mapper: Mapper, bars: Bars) -> None:
    _per_landscape(mapper, "training", train_checkpoint, landscapes, lambda item: item.file.exists(), bars)


def refuse_impossible(campaign: Campaign) -> None:
    """`InputError` for files that cannot be read and for stores of another study, before jobs are submitted."""
    _check_files(campaign.landscapes, campaign.apart)
    for item in campaign.landscapes:
        if item.prepared() and item.file.exists():
            _refuse_other(item, sparing=campaign.apart)


def _refuse_other(item: Landscape, sparing: bool) -> None:
    """`InputError` where the landscape is of other science. Thousands of checkpoints are not read again where they are
    in the state in which they were read."""
    store = item.open()
    if not item.study.whole and store.n_done():
        key = "sampling" if item.study.scope is None else "scope"
        raise InputError(
            f"{key}: {store.folder} holds losses of the whole grid already; leave {key} out, or choose another folder "
            "with --out"
        )
    (unchanged if sparing else identity).refuse_other(item, store)


def _per_landscape(
    mapper: Mapper,
    verb: str,
    function: Function[Landscape],
    landscapes: Sequence[Landscape],
    finished: Callable[[Landscape], bool],
    bars: Bars,
    together: bool = False,
) -> None:
    """Map over landscapes that have not finished this stage, each with a bar of its own or all `together`."""
    done = 0

    def missing() -> list[Landscape] | None:
        nonlocal done
        left = [item for item in landscapes if not finished(item)]
        done = len(landscapes) - len(left)
        return [item for item in left if item.key not in item.failures.quarantined()] or None

    def on_done(item: Landscape) -> None:
        nonlocal done
        done += 1
        if together:
            bars.update(verb, min(done, len(landscapes)), len(landscapes))
        else:
            bars.finish(f"{verb} {item.name}")
        log.info("%s %s: done", verb, item)

    def on_progress(item: Landscape, done: int, total: int) -> None:
        bars.update(f"{verb} {item.name}", done, total)

    until_done(mapper, function, missing, None if together else on_progress, on_done)
