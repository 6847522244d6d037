"""Where basin labels go: to a chunked Zarr array, written by the ranks that found them, or to memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.files import full_disk_refused
from landscaper_hpc.topology.readers import Region


class LabelWriter(Protocol):
    """Takes basin labels block by block; blocks of one writer never overlap, and it may be called on every rank."""

    def create(self, shape: tuple[int, ...], block: tuple[int, ...], dtype: Any) -> None:
        """Called once, on rank 0, before any `write`."""
        ...

    def write(self, region: Region, labels: NDArray[Any]) -> None: ...


class ArrayLabels:
    """An array in memory, `values`, with the same entries as `ZarrLabels`."""

    def create(self, shape: tuple[int, ...], block: tuple[int, ...], dtype: Any) -> None:
        self.values = np.empty(shape, dtype)

    def write(self, region: Region, labels: NDArray[Any]) -> None:
        self.values[region] = labels


class ZarrLabels:
    """A new Zarr array at `path`, one chunk per block: no two ranks ever write to the same chunk.

    Entries are indices into the tree's minima, -1 for a vertex that belongs to none.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise InputError(f"{path}: exists already; choose another path for the labels")
        self.path = path

    def create(self, shape: tuple[int, ...], block: tuple[int, ...], dtype: Any) -> None:
        import zarr

        if len(shape) > 32:  # numpy broadcasts no more at once, as zarr does for every chunk
            raise InputError(
                f"{self.path}: labels of {len(shape)} axes cannot be written, only of 32; leave out --labels"
            )
        with full_disk_refused(self.path):
            zarr.create_array(
                self.path, shape=shape, chunks=block, dtype=dtype, fill_value=-1, compressors=None,
                config={"write_empty_chunks": True},
            )  # fmt: skip

    def write(self, region: Region, labels: NDArray[Any]) -> None:
        import zarr

        with full_disk_refused(self.path):
            zarr.open_array(self.path, mode="r+", config={"write_empty_chunks": True})[region] = labels
