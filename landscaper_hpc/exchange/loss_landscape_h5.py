"""The .h5 surfaces of Li et al.'s loss-landscape: `xcoordinates`, `ycoordinates`, `train_loss`.

There a row is a y: its loops go through numpy.meshgrid(x, y), whose first axis is y. -1 is a point that was not
evaluated.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from landscaper_hpc.errors import InputError
from landscaper_hpc.exchange.formats import Field, needed
from landscaper_hpc.exchange.subject import Subject

_X, _Y, _LOSS = "xcoordinates", "ycoordinates", "train_loss"
_NOT_EVALUATED = -1.0


def write(subject: Subject) -> dict[str, bytes]:
    """One file; of more than two axes one for each pair, through the checkpoint."""
    h5py = needed("h5py", "h5py", "--to h5")
    files = {}
    for part in subject.slices(2):
        held = io.BytesIO()
        with h5py.File(held, "w") as file:
            for key, axis in zip((_X, _Y), part.coordinates, strict=False):
                file[key] = axis
            file[_LOSS] = part.values.T
        files[f"{part.suffix}.h5"] = held.getvalue()
    return files


def read(path: Path) -> Field:
    """The losses over one or two axes. `InputError` where points were not evaluated."""
    h5py = needed("h5py", "h5py", f"{path}")
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in (_X, _LOSS) if key not in file]
            if missing:
                raise InputError(
                    f"{path}: holds {', '.join(file) or 'nothing'}, no {missing[0]}; give a surface of loss-landscape"
                )
            axes = [np.asarray(file[key][()]) for key in (_X, _Y) if key in file]
            values = np.asarray(file[_LOSS][()])
    except OSError as error:
        raise InputError(f"{path}: is no readable .h5 file ({error}); restore it") from None
    lengths = [axis.size for axis in axes]
    if values.size != np.prod(lengths) or any(axis.ndim != 1 for axis in axes):
        raise InputError(f"{path}: has {values.size} losses for {' × '.join(map(str, lengths))} points; restore it")
    if missed := int(np.count_nonzero(values == _NOT_EVALUATED)):
        raise InputError(
            f"{path}: {missed} of its {values.size} points are not evaluated (-1 stands for that); let loss-landscape "
            "finish it"
        )
    # whichever way round its shape is written, x runs fastest in it
    return Field(np.ascontiguousarray(values.reshape(lengths[::-1]).T), axes)
