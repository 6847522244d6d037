"""What a field is to the merge tree: anything with a shape, a type and `read(region)`."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscaper_hpc.errors import InputError

Region = tuple[slice, ...]


class Reader(Protocol):
    """A field on a grid. `read` returns the values of a box, which the caller may overwrite."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, region: Region) -> NDArray[Any]: ...


def held_by(reader: Reader) -> int:
    """Bytes that a reader needs for itself while it reads a box, however small."""
    return int(getattr(reader, "held", 0))


def array_of(values: ArrayLike, what: str = "values") -> NDArray[Any]:
    """The values as an array; InputError where they are none, or some are masked."""
    if isinstance(values, np.ma.MaskedArray) and (masked := np.count_nonzero(np.ma.getmaskarray(values))):
        raise InputError(f"{what}: {masked:,} are masked, which says not what they are; give values.filled(np.nan)")
    try:
        return np.asarray(values)
    except (
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:  # rows of many lengths, tensors that are no array as they are
        raise InputError(f"{what}: are no array of numbers ({str(error).splitlines()[0]})") from None


def working_type(dtype: np.dtype[Any], what: str = "values") -> np.dtype[Any]:
    """The type the kernels work in: float32 and float64 as they are, other real types as float64."""
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise InputError(f"{what}: type {dtype} is no real number of at most 64 bits; convert it to float64")
    return np.dtype(np.float32) if dtype.kind == "f" and dtype.itemsize == 4 else np.dtype(np.float64)


def in_working_type(values: NDArray[Any], what: str = "values") -> NDArray[Any]:
    """The values as a C-ordered array of their `working_type`; InputError where that would make different integers
    equal."""
    working = working_type(values.dtype, what)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and values.size:
        for extreme in (int(values.min()), int(values.max())):
            if abs(extreme) > 2**53:
                raise InputError(
                    f"{what}: the integer {extreme} has no float64 of its own; subtract an offset, or divide, first"
                )
    return np.ascontiguousarray(values, working)


def check_shape(shape: tuple[int, ...], what: str = "values") -> None:
    """Raise InputError unless a grid of this shape has a vertex, and no more than there are 64-bit numbers for."""
    if 0 in shape:
        raise InputError(f"{what}: shape {shape} holds no vertex; give at least one value")
    if math.prod(shape) >= 2**62:
        raise InputError(f"{what}: shape {shape} has more vertices than can be numbered; restore what says so")


class ArrayReader:
    """A field in memory."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values
        self.shape: tuple[int, ...] = values.shape
        self.dtype = values.dtype

    def read(self, region: Region) -> NDArray[Any]:
        return np.array(self._values[region])


def read_block(reader: Reader, region: Region, negate: bool) -> NDArray[Any]:
    """The values of a box, C-ordered, in the working type, negated on demand."""
    working = in_working_type(reader.read(region))
    return np.negative(working, out=working) if negate else working
