"""Where a field comes from: arrays in memory, .npy and .npz files, Zarr arrays."""

from landscaper_hpc.topology.readers.base import (
    ArrayReader,
    Reader,
    Region,
    array_of,
    check_shape,
    held_by,
    in_working_type,
    read_block,
    working_type,
)
from landscaper_hpc.topology.readers.npy import NpyReader
from landscaper_hpc.topology.readers.npz import open_npz
from landscaper_hpc.topology.readers.zarrs import ZarrReader

__all__ = [
    "ArrayReader",
    "NpyReader",
    "Reader",
    "Region",
    "ZarrReader",
    "array_of",
    "check_shape",
    "held_by",
    "in_working_type",
    "open_npz",
    "read_block",
    "working_type",
]
