"""Plain bytes on disk as arrays: read where they are asked for, never mapped. A mapping of a file that shrinks ends the
process without a word; a read that comes short is an error like any other."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology.readers.base import Region

_SPAN = 1 << 22
"""Up to so many bytes are read at once where only some of them are wanted."""
_POINTER = b"version https://git-lfs.github.com/spec/"


def open_regular(path: Path) -> int:
    """A descriptor of the file at `path`, which the caller closes; InputError for what is none: a pipe would be waited
    for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); give a file that can be read") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path}: is a pipe, a device or a folder; give a file")
    return descriptor


def beginning(path: Path, size: int = 64) -> bytes:
    """The first bytes of a file; InputError if it is none, or only names what git-lfs has."""
    descriptor = open_regular(path)
    try:
        head = os.pread(descriptor, max(size, len(_POINTER)), 0)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    finally:
        os.close(descriptor)
    refuse_pointer(head, path)
    return head[:size]


def refuse_pointer(head: bytes, path: Path) -> None:
    if head.startswith(_POINTER):
        raise InputError(f"{path}: is a git-lfs pointer, not the data; fetch them with `git lfs pull`")


def read_box(
    descriptor: int, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...], box: Region, out: NDArray[Any]
) -> None:
    """Fill `out` with a box of the C-ordered array of this type and shape whose first byte is at `offset`. EOFError
    where the file ends early."""
    if not shape:
        _read_into(descriptor, offset, out)
        return
    inner = math.prod(shape[1:]) * dtype.itemsize
    start, rows = offset + box[0].start * inner, box[0].stop - box[0].start
    whole = all((s.start, s.stop) == (0, k) for s, k in zip(box[1:], shape[1:], strict=True))
    if whole and out.flags.c_contiguous:
        _read_into(descriptor, start, out)
    elif rows * inner <= _SPAN:
        buffer = np.empty((rows, *shape[1:]), dtype)
        _read_into(descriptor, start, buffer)
        out[...] = buffer[(slice(None), *box[1:])]
    else:
        for i in range(rows):
            read_box(descriptor, start + i * inner, dtype, shape[1:], box[1:], out[i])


def _read_into(descriptor: int, offset: int, out: NDArray[Any]) -> None:
    view = memoryview(out.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    while len(view):
        count = os.preadv(descriptor, [view], offset)
        if count == 0:
            raise EOFError
        view, offset = view[count:], offset + count
