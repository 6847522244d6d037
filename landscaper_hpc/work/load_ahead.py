"""What the client of a run needs after its workers is loaded while they work: the compiled kernels of merge trees, and
what draws pages. Otherwise it would wait for both when the last loss is there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from landscaper_hpc.progress import Bars
from landscaper_hpc.work.campaign import Campaign


@contextmanager
def loaded_ahead(campaign: Campaign, bars: Bars, alone: bool) -> Iterator[None]:
    """Load it in a thread, unless the client is `alone`, with all the work; where nothing has been compiled yet, a
    process beside compiles it. Leaving waits for what is being loaded."""
    if all(plan.finished() for plan in campaign.plans):
        yield
        return
    left = threading.Event()
    loading = threading.Thread(target=_load, args=(campaign, bars, alone, left))
    loading.start()
    try:
        yield
    finally:
        left.set()
        loading.join()


def _load(campaign: Campaign, bars: Bars, alone: bool, left: threading.Event) -> None:
    import numpy as np
    import zarr  # noqa: F401

    from landscaper_hpc.topology.compiling import compiled_beside, is_compiled

    if left.is_set():
        return
    if not is_compiled():
        with compiled_beside(bars.tell):
            left.wait()
        return
    if alone or campaign.scoped or campaign.sampled:
        return
    from landscaper_hpc.report import page
    from landscaper_hpc.topology.blocks.warm_up import prepare

    page.warm_up()
    for connectivity in {plan.study.connectivity for plan in campaign.plans}:
        if not left.is_set():
            prepare(connectivity, np.dtype(np.float64))
