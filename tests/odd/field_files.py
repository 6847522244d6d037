"""One field in every format that is read, each as a folder or a file, for tests that damage them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from numpy.typing import NDArray

FIELD: NDArray[np.float64] = np.random.default_rng(5).random((5, 6, 7)) + 1.0


def _zarr(**options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        options.setdefault("chunks", (3, 3, 4))
        array = zarr.create_array(path, shape=FIELD.shape, dtype="f8", config={"write_empty_chunks": True}, **options)
        array[...] = FIELD

    return write


def _study(path: Path) -> None:
    from landscaper_hpc.grid import Axis, Grid
    from landscaper_hpc.store.landscape import LandscapeStore
    from landscaper_hpc.store.layout import StoredDirections

    grid = Grid(tuple(Axis(-1.0, 1.0, k) for k in FIELD.shape))
    directions = StoredDirections(vectors={}, gram=np.eye(3), hessian={})
    science = {"connectivity": "axis", "name": "odd"}
    store = LandscapeStore.create(path / "study.zarr", "main", science, grid, (3, 6, 7), directions, {})
    for shard in store.shards():
        store.write(shard, FIELD[shard.region])


FORMATS: dict[str, Callable[[Path], None]] = {
    "f.npy": lambda path: np.save(path, FIELD),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(FIELD)),
    "f.npz": lambda path: np.savez(path, loss=FIELD, alpha=np.arange(5.0)),
    "packed.npz": lambda path: np.savez_compressed(path, loss=FIELD),
    "raw.zarr": _zarr(compressors=None),
    "zstd.zarr": _zarr(),
    "gzip.zarr": _zarr(compressors=zarr.codecs.GzipCodec()),
    "blosc.zarr": _zarr(compressors=zarr.codecs.BloscCodec()),
    "crc.zarr": _zarr(compressors=zarr.codecs.Crc32cCodec()),
    "sharded.zarr": _zarr(chunks=(1, 3, 2), shards=(3, 3, 4)),
    "blosc_sharded.zarr": _zarr(chunks=(1, 3, 2), shards=(3, 3, 4), compressors=zarr.codecs.BloscCodec()),
    "two_blosc.zarr": _zarr(zarr_format=2, compressors=numcodecs.Blosc()),
    "two.zarr": _zarr(zarr_format=2),
    "two_raw.zarr": _zarr(zarr_format=2, compressors=None),
    "study": _study,
}
CHECKED = ("f.npz", "packed.npz", "gzip.zarr", "crc.zarr", "study")
"""Formats with a checksum over the values."""


def read(path: Path) -> NDArray[Any]:
    from landscaper_hpc.commands.fields import open_field

    reader, _ = open_field(path)
    return reader.read(tuple(slice(0, k) for k in reader.shape))
