"""Fields in .npy files."""

from __future__ import annotations

import io
import math
import os
import warnings
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology.readers.base import Region, working_type
from landscaper_hpc.topology.readers.raw import open_regular, read_box, refuse_pointer

HEAD = 20_000
"""Bytes that hold every header that numpy accepts."""


class NpyHeader(NamedTuple):
    """What a .npy says of itself; `size` in bytes, header included."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    data: int
    size: int


def npy_header(head: bytes, path: Path) -> NpyHeader:
    """The header of a .npy that begins with the bytes `head`; InputError if it is none."""
    stream = io.BytesIO(head)
    refuse_pointer(head, path)
    if not head:
        raise InputError(f"{path}: is empty, not a readable .npy file; write it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
        if version not in ((1, 0), (2, 0), (3, 0)) or any(k < 0 for k in shape):
            raise ValueError(f"version {version}, shape {shape}")
    except Exception as error:  # a torn header: numpy's parser raises whatever it stumbles on
        reason = str(error).split("\n")[0][:200]
        raise InputError(f"{path}: not a readable .npy file ({reason}); restore it") from None
    data = stream.tell()
    return NpyHeader(shape, fortran, dtype, data, data + math.prod(shape) * dtype.itemsize)


class NpyReader:
    """A field in a .npy file: boxes are read from the disk as they are asked for, straight to where they are used.

    `descriptor`, `start` and `size` say where the .npy is if it is not the file at `path`; the descriptor is closed
    with the reader.
    """

    def __init__(self, path: Path, descriptor: int | None = None, start: int = 0, size: int | None = None) -> None:
        self.path = path
        self._file = open_regular(path) if descriptor is None else descriptor
        weakref.finalize(self, os.close, self._file)
        self._stamp = self._now()
        self._start = start
        size = self._stamp[0] if size is None else size
        try:
            head = os.pread(self._file, min(HEAD, size), start)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        self._header = npy_header(head, path)
        working_type(self._header.dtype, str(path))
        if self._header.size != size:
            raise InputError(
                f"{path}: has {size:,} bytes, but an array of shape {self._header.shape} and type "
                f"{self._header.dtype} takes {self._header.size:,}; restore it"
            )
        self.shape = self._header.shape
        self.dtype = self._header.dtype

    def _now(self) -> tuple[int, int]:
        found = os.fstat(self._file)
        return found.st_size, found.st_mtime_ns

    def read(self, region: Region) -> NDArray[Any]:
        order = slice(None, None, -1 if self._header.fortran else 1)
        box, shape = region[order], self.shape[order]
        values = np.empty([s.stop - s.start for s in box], self.dtype)
        try:
            read_box(self._file, self._start + self._header.data, self.dtype, shape, box, values)
            whole = self._now() == self._stamp
        except EOFError:
            whole = False
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror})") from None
        if not whole:
            raise InputError(f"{self.path}: was changed while it was read; run the command again when it is complete")
        return values.T if self._header.fortran else values
