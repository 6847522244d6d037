"""Where a field comes from: anything with a shape, a type and `read(region)`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError

Region = tuple[slice, ...]


class Reader(Protocol):
    """A field on a grid. `read` returns the values of a box, which the caller may overwrite."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, region: Region) -> NDArray[Any]: ...


def working_type(dtype: np.dtype[Any], what: str = "values") -> np.dtype[Any]:
    """The type the kernels work in: float32 and float64 as they are, other real types as float64."""
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise InputError(f"{what}: type {dtype} is no real number of at most 64 bits; convert it to float64")
    return np.dtype(np.float32) if dtype.kind == "f" and dtype.itemsize == 4 else np.dtype(np.float64)


def check_shape(shape: tuple[int, ...], what: str = "values") -> None:
    """Raise InputError unless a grid of this shape has a vertex."""
    if 0 in shape:
        raise InputError(f"{what}: shape {shape} holds no vertex; give at least one value")


class ArrayReader:
    """A field in memory."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values
        self.shape: tuple[int, ...] = values.shape
        self.dtype = values.dtype

    def read(self, region: Region) -> NDArray[Any]:
        return np.array(self._values[region])


class NpyReader:
    """A field in a .npy file. A region that is contiguous in it is mapped, privately, and not copied."""

    def __init__(self, path: Path) -> None:
        self.path = path
        mapped = self._map()
        self.shape: tuple[int, ...] = mapped.shape
        self.dtype = mapped.dtype

    def _map(self) -> NDArray[Any]:
        try:
            mapped = np.load(self.path, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: not a readable .npy file ({error})") from None
        if not isinstance(mapped, np.ndarray):
            raise InputError(f"{self.path}: not a .npy file but an archive; rename it to .npz")
        return mapped

    def read(self, region: Region) -> NDArray[Any]:
        values = np.asarray(self._map()[region])
        return values if values.flags.c_contiguous else values.copy()


class ZarrReader:
    """A field in a Zarr array on disk. A chunk that is missing is an error, never the fill value."""

    def __init__(self, path: Path) -> None:
        import zarr

        self.path = path
        try:
            array = zarr.open_array(path, mode="r")
        except Exception as error:
            raise InputError(f"{path}: not a readable Zarr array ({type(error).__name__}: {error})") from None
        self._array = array
        self.shape: tuple[int, ...] = array.shape
        self.dtype = np.dtype(array.dtype)
        # what the store writes: a chunk file is the chunk's bytes, and can be mapped
        metadata = array.metadata.to_dict()
        codecs = metadata.get("codecs")
        self._raw = (
            isinstance(codecs, (list, tuple))
            and [c.get("name") for c in codecs if isinstance(c, dict)] == ["bytes"]
            and self.dtype.isnative
            and "big" not in str(codecs)
        )
        self._stored = array.shards or array.chunks

    def read(self, region: Region) -> NDArray[Any]:
        boxes = [range(s.start // c, -(-s.stop // c)) for s, c in zip(region, self._stored, strict=True)]
        files = {index: self._file(index) for index in itertools.product(*boxes)}
        if not self._raw:
            return np.asarray(self._array[region])
        out = np.empty([s.stop - s.start for s in region], self.dtype)
        for index, file in files.items():
            lows = [i * c for i, c in zip(index, self._stored, strict=True)]
            box = [(max(s.start, a), min(s.stop, a + c)) for s, a, c in zip(region, lows, self._stored, strict=True)]
            here = tuple(slice(p - s.start, q - s.start) for (p, q), s in zip(box, region, strict=True))
            there = tuple(slice(p - a, q - a) for (p, q), a in zip(box, lows, strict=True))
            try:
                out[here] = np.memmap(file, self.dtype, "r", shape=self._stored)[there]
            except ValueError:
                raise InputError(f"{file}: the chunk is truncated; restore it or evaluate its shard again") from None
        return out

    def _file(self, index: tuple[int, ...]) -> Path:
        file = self.path / self._array.metadata.encode_chunk_key(index)
        if not file.exists():
            raise InputError(
                f"{self.path}: chunk {index} is missing; evaluate it, or if all of it is the fill value "
                "write the array with write_empty_chunks=True"
            )
        return file


def read_block(reader: Reader, region: Region, negate: bool) -> NDArray[Any]:
    """The values of a box, C-ordered, in the working type, negated on demand."""
    values = reader.read(region)
    working = np.ascontiguousarray(values, working_type(values.dtype))
    return np.negative(working, out=working) if negate else working
