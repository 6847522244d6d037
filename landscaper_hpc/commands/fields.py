"""From a path to a field: study folders, Landscaper's .npz, Zarr arrays and .npy files."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import numpy as np

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology.readers import ArrayReader, NpyReader, Reader, ZarrReader, check_shape, working_type

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {f"{unit}i": 1024**i for i, unit in enumerate("kmgt", start=1)}


def parse_size(text: str, name: str) -> int:
    """Bytes from "2GB", "1.5 GiB", "800M" or a plain number."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]i?)?b?\s*", text.lower())
    try:
        size = int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
    except ValueError:
        size = 0
    if size <= 0:
        raise InputError(f"{name} is {text!r}; give a size like 2GB, 1.5GiB or 800MB")
    return size


def open_field(path: Path, landscape: str | None = None) -> tuple[Reader, str]:
    """The field at `path` and its default connectivity; InputError if there is none, with what to give instead."""
    if not path.exists():
        raise InputError(f"{path}: does not exist; give a study's folder, a Landscaper .npz, a Zarr array or a .npy")
    is_study = path.is_dir() and not _is_zarr_array(path)
    if landscape is not None and not is_study:
        raise InputError(f"--landscape is {landscape!r}, but {path} is no study; leave the option out")
    connectivity = "axis"
    reader: Reader
    if is_study:
        reader, connectivity = _open_study(path, landscape)
    elif path.is_dir():
        reader = ZarrReader(path)
    elif path.suffix == ".npz":
        reader = _open_npz(path)
    else:
        reader = NpyReader(path)
    working_type(np.dtype(reader.dtype), str(path))
    check_shape(tuple(reader.shape), str(path))
    return reader, connectivity


def _is_zarr_array(path: Path) -> bool:
    try:
        if (path / "zarr.json").exists():
            return bool(json.loads((path / "zarr.json").read_text())["node_type"] == "array")
    except (OSError, ValueError, KeyError):
        raise InputError(f"{path / 'zarr.json'}: is not readable Zarr metadata; restore it") from None
    return (path / ".zarray").exists()


def _open_study(path: Path, landscape: str | None) -> tuple[Reader, str]:
    from landscaper_hpc.store.landscape import open_landscape

    store = open_landscape(path, landscape)
    pending = store.n_shards() - store.n_done()
    if pending:
        raise InputError(
            f"{store.folder}: {pending} shards are not evaluated; run the study again, it goes on from there"
        )
    # the store's own array: chunk by chunk, with nothing held that is not asked for
    return ZarrReader(store.folder / "loss"), store.connectivity


def _open_npz(path: Path) -> Reader:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            name = "loss" if "loss" in names else names[0] if len(names) == 1 else None
            if name is None:
                raise InputError(f"{path}: has the arrays {', '.join(names)} but no 'loss'; save it under that name")
            return ArrayReader(archive[name])
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable .npz file ({error})") from None
