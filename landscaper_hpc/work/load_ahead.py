"""What the client of a run needs after its workers is loaded while they work: the compiled kernels of merge trees, and
what draws pages. Otherwise it would wait for both when the last loss is there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from landscaper_hpc.work.campaign import Campaign


@contextmanager
def loaded_ahead(campaign: Campaign) -> Iterator[None]:
    """Load it in a thread, and leave it where nothing has been compiled yet; leaving waits for what is being loaded."""
    if campaign.scoped or campaign.sampled or all(plan.finished() for plan in campaign.plans):
        yield
        return
    left = threading.Event()
    loading = threading.Thread(target=_load, args=(campaign, left))
    loading.start()
    try:
        yield
    finally:
        left.set()
        loading.join()


def _load(campaign: Campaign, left: threading.Event) -> None:
    import numpy as np
    import zarr  # noqa: F401

    from landscaper_hpc.report import page
    from landscaper_hpc.topology.kernels.compiled import cache_folder

    if left.is_set() or not any(cache_folder().rglob("*.nbc")):
        return
    page.warm_up()
    from landscaper_hpc.topology.blocks.warm_up import prepare

    for connectivity in {plan.study.connectivity for plan in campaign.plans}:
        if not left.is_set():
            prepare(connectivity, np.dtype(np.float64))
