"""How far the landscapes of a study or sweep are from each other, by their persistence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from landscaper_hpc.files import publish
from landscaper_hpc.store.landscape import LandscapeStore

MOST = 50
"""Landscapes between which there are distances: more have more than two thousand pairs."""


def distances_of(stores: Sequence[LandscapeStore]) -> dict[str, Any] | None:
    """Bottleneck and Wasserstein distances as `results.json` holds them; None for a single landscape, and for more than
    MOST."""
    if not 2 <= len(stores) <= MOST:
        return None
    from landscaper_hpc.topology.distances import distances

    found = distances([store.tree() for store in stores])
    return found._asdict() | {"bottleneck": found.bottleneck.tolist(), "wasserstein": found.wasserstein.tolist()}


def write_table(file: Path, places: Mapping[str, tuple[Path, str]]) -> None:
    """The same of a sweep's landscapes, by name the store and the group of each: a line for each two of them; nothing
    where there are none."""
    names = list(places) if len(places) <= MOST else []  # more need not be opened
    found = distances_of([LandscapeStore(*places[name]) for name in names])
    file.unlink(missing_ok=True)
    if found is None:
        return
    lines = ["landscape,other,bottleneck,wasserstein,pairs,left_out"]
    for i, one in enumerate(names):
        for j, other in enumerate(names[:i]):
            own = found["bottleneck"][i][j], found["wasserstein"][i][j], found["pairs"], found["left_out"]
            lines.append(",".join([other, one, *map(repr, own)]))
    publish(file, ("\n".join(lines) + "\n").encode())
