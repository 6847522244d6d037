"""Landscaper's .npz: `loss` and `coordinates`, as `LossLandscape.save` of its version 1.3.1 writes them.

It holds at least two axes, all of one length.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from landscaper_hpc.errors import InputError
from landscaper_hpc.exchange.formats import Field
from landscaper_hpc.exchange.subject import Subject
from landscaper_hpc.topology.readers import open_npz


def write(subject: Subject) -> dict[str, bytes]:
    """One file: all losses, and the coordinates at which they were evaluated."""
    shape = subject.store.grid.shape
    if len(shape) < 2 or len(set(shape)) > 1:
        raise InputError(
            f"a Landscaper .npz holds two axes or more, all of one length, and this grid is {_said(shape)}; "
            "use --to parquet"
        )
    held = io.BytesIO()
    np.savez(held, loss=subject.values, coordinates=np.stack(subject.coordinates))
    return {".npz": held.getvalue()}


_LABELS = (
    "the coordinates are those of the file; Landscaper 1.3.1 evaluates at (k - 1) / k of those that it writes, for an "
    "odd number k of steps"
)


def read(path: Path) -> Field:
    """The losses with their coordinates; of an archive that has none, the indices of the points."""
    reader = open_npz(path)  # which says what is wrong with it
    values = reader.read(tuple(slice(0, k) for k in reader.shape))
    with np.load(path, allow_pickle=False) as archive:
        if "coordinates" not in archive.files:
            return Field(values, [np.arange(k, dtype=np.float64) for k in values.shape], ("coordinates are indices",))
        try:
            coordinates = np.asarray(archive["coordinates"])
        except ValueError as error:
            raise InputError(f"{path}: its coordinates cannot be read ({error}); save one row for each axis") from None
    if coordinates.shape != (values.ndim, *set(values.shape)):
        raise InputError(
            f"{path}: has losses of shape {values.shape} and coordinates of shape {coordinates.shape}; save one row of "
            "coordinates for each axis, all of the axes' length"
        )
    return Field(values, list(coordinates), (_LABELS,))


def _said(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
