"""What the topology stage makes of a merge tree beside it: every number of the report, and what its figures show.

Both are stored with the tree, so that results, pages and figures need neither the grid nor the tree. What makes trees
is loaded where one is made: a study that has its own waits for no compiler.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from landscaper_hpc.files import beside
from landscaper_hpc.grid import nested_steps
from landscaper_hpc.parallel.comm import Comm, SerialComm, agree
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import ANSWERS
from landscaper_hpc.topology.blocks.labels import ArrayLabels, LabelWriter, ZarrLabels
from landscaper_hpc.topology.tree import MergeTree

CONTOUR_POINTS = 5_000_000
"""The largest grid whose contour tree is made with every study: it takes seconds there, and less than the outlines."""


class Labels:
    """Every point's basin, while a tree is made: in memory, or of several ranks on disk, where the first reads them.

    Of a grid that is too large for outlines there are none.
    """

    def __init__(self, store: LandscapeStore, comm: Comm | None) -> None:
        from landscaper_hpc.topology.drawing import PROFILE_POINTS

        comm = comm or SerialComm()
        self._folder: Path | None = None
        self._first = comm.rank == 0
        self.writer: LabelWriter | None = None
        if store.grid.size > PROFILE_POINTS:
            return
        if comm.size == 1:
            self.writer = ArrayLabels()
        else:
            # a name of its own: an orphan of a job that was started again may be at the same
            self._folder = comm.gather(beside(store.folder / "labels") if self._first else None)[0]
            assert self._folder is not None
            self.writer = ZarrLabels(self._folder)

    def read(self) -> NDArray[Any] | None:
        """The basins, when the tree is there; on the first rank."""
        if isinstance(self.writer, ArrayLabels):
            return self.writer.values
        if self._folder is None:
            return None
        import zarr

        return zarr.open_array(self._folder, mode="r")[...]  # type: ignore[return-value]

    def __enter__(self) -> Labels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._first and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def measured(
    store: LandscapeStore, tree: MergeTree, labels: NDArray[Any] | None
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The numbers of a landscape by their keys, and the arrays of its drawing."""
    from landscaper_hpc.report.quantities import measure
    from landscaper_hpc.report.quantity import Measured
    from landscaper_hpc.topology.contour import contour_tree
    from landscaper_hpc.topology.drawing import Drawing

    values = None if labels is None else store.loss()
    field = None if values is None or labels is None else (values, labels)
    small = None if values is None or values.size > CONTOUR_POINTS else values
    contour = None if small is None else contour_tree(small, tree.connectivity, tree=replace(tree, labels=labels))
    nested = _nested(store, tree.connectivity)
    subject = Measured(tree, store.precision, store, field, nested, contour)
    numbers = measure(subject, ("tree", "tree of a study", "contour", "landscape"))
    return numbers, Drawing.of(replace(tree, labels=labels), values).to_arrays()


def _nested(store: LandscapeStore, connectivity: str) -> list[tuple[MergeTree, NDArray[Any]]] | None:
    """Trees and values of the nested grids, in memory; None where the largest is too large for that."""
    from landscaper_hpc.topology.drawing import PROFILE_POINTS
    from landscaper_hpc.topology.merge import merge_tree

    steps = nested_steps(store.grid.shape)[:-1]
    if steps and math.prod(-(-k // steps[-1]) for k in store.grid.shape) > PROFILE_POINTS:
        return None
    fields = [store.every(step) for step in steps]
    return [(merge_tree(values, connectivity, labels=True), values) for values in fields]


def is_measured(store: LandscapeStore, comm: Comm | None = None) -> bool:
    """Whether the tree is there with all numbers that this version tells; the same on all ranks."""
    from landscaper_hpc.report import quantities

    comm = comm or SerialComm()
    found, error = False, None
    if comm.rank == 0:
        try:
            found = store.has_sound_tree() and store.numbers().keys() >= {
                row.key for row in quantities.ROWS if row.origin not in ANSWERS
            }
        except Exception as caught:
            error = caught
    agree(comm, error)
    return bool(comm.gather(found)[0])
