"""The figures of a page that show what a task tells beside the loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from markupsafe import Markup

from landscaper_hpc.report import figures
from landscaper_hpc.report.figures.embed import draw
from landscaper_hpc.report.figures.slices import cut
from landscaper_hpc.store.landscape import LandscapeStore


def metric_figures(
    entry: Mapping[str, Any], store: LandscapeStore, slices: Sequence[tuple[int, ...]]
) -> Iterator[Markup]:
    """Each metric of a landscape's entry in the results, over the same axes as the loss."""
    for metric in entry.get("metrics", {}).get("values") or ():
        name, limits = metric["name"], (_or_nan(metric["lowest"]), _or_nan(metric["highest"]))
        for axes in slices:
            part = cut(store, axes, name)
            plot = figures.plot_line if len(axes) == 1 else figures.plot_slice
            yield draw(
                partial(plot, part, limits=limits),
                f"metric-{name}-{store.name}-{'-'.join(map(str, axes))}",
                f"{name} of {store.name} over {' and '.join(part.labels)}",
                width=3.8,
                height=3.1,
            )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
