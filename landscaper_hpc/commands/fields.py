"""From a path to a field: study folders, Landscaper's .npz, Zarr arrays and .npy files."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology.readers import NpyReader, Reader, ZarrReader, check_shape, open_npz, working_type
from landscaper_hpc.topology.readers.raw import beginning
from landscaper_hpc.topology.readers.zarrs import metadata

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {f"{unit}i": 1024**i for i, unit in enumerate("kmgt", start=1)}
_GIVE = "give a study's folder, a Landscaper .npz, a Zarr array or a .npy"


def parse_size(text: str, name: str) -> int:
    """Bytes from "2GB", "1.5 GiB", "800M" or a plain number."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]i?)?b?\s*", text.lower())
    try:
        size = int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise InputError(f"{name} is {text!r}; give a size like 2GB, 1.5GiB or 800MB")
    return size


def open_field(path: Path, landscape: str | None = None, metric: str | None = None) -> tuple[Reader, str]:
    """The field at `path` and its default connectivity; InputError if there is none, with what to give instead. Of a
    study that is the loss, or a metric of the task."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: does not exist; {_GIVE}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be opened ({error}); {_GIVE}") from None
    is_study = stat.S_ISDIR(mode) and _is_study(path)
    for option, given in (("--landscape", landscape), ("--metric", metric)):
        if given is not None and not is_study:
            raise InputError(f"{option} is {given!r}, but {path} is no study; leave the option out")
    connectivity = "axis"
    reader: Reader
    if is_study:
        reader, connectivity = _open_study(path, landscape, metric)
    elif stat.S_ISDIR(mode):
        reader = _open_folder(path)
    else:
        reader = _open_file(path)
    working_type(np.dtype(reader.dtype), str(path))
    check_shape(tuple(reader.shape), str(path))
    return reader, connectivity


def _is_study(path: Path) -> bool:
    """Whether a folder is a study, its `study.zarr`, or a landscape in it."""
    from landscaper_hpc.store import layout
    from landscaper_hpc.store.folder import StudyFolder

    try:
        if StudyFolder(path).store.is_dir():
            return True
        around = [path, *(path / entry.name for entry in os.scandir(path) if entry.is_dir())]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return any((p / layout.LOSS).is_dir() and (p / layout.DONE[0]).is_dir() for p in around)


def _open_study(path: Path, landscape: str | None, metric: str | None) -> tuple[Reader, str]:
    from landscaper_hpc.store.landscape import open_landscape
    from landscaper_hpc.store.layout import LOSS

    store = open_landscape(path, landscape)
    store.refuse_lowest()
    pending = store.n_shards() - store.n_done()
    if pending:
        raise InputError(
            f"{store.folder}: {pending} shards are not evaluated; run the study again, it goes on from there"
        )
    # the store's own array: chunk by chunk, with nothing held that is not asked for
    values = store.variable_named(metric or LOSS)
    return ZarrReader(values.losses, values.shard_sha256), store.connectivity


def _open_file(path: Path) -> Reader:
    head = beginning(path)
    if path.suffix == ".npz" or head.startswith(b"PK"):
        return open_npz(path)
    for magic, kind in ((b"\x89HDF", "an HDF5 or netCDF file"), (b"CDF", "a netCDF file"), (b"\x1f\x8b", "gzipped")):
        if head.startswith(magic):
            raise InputError(f"{path}: is {kind}; save the field as .npy")
    return NpyReader(path)


def _open_folder(path: Path) -> Reader:
    found = metadata(path)
    if found is not None and found["node_type"] == "array":
        return ZarrReader(path)
    held = list(_arrays(path, path, depth=4)) if found is not None else []
    if held:
        more = f" and {len(held) - 10} more" if len(held) > 10 else ""
        raise InputError(
            f"{path}: is a Zarr group, of another program than this one, with the arrays {', '.join(held[:10])}{more}; "
            f"name one of them: {path / held[0].split(' ')[0]}"
        )
    what = (
        "is a Zarr group without arrays" if found is not None else "is a folder with neither a study nor a Zarr array"
    )
    raise InputError(f"{path}: {what}; {_GIVE}")


def _arrays(group: Path, root: Path, depth: int) -> Iterator[str]:
    """The arrays within a group, with what they are; those that cannot be read are left out."""
    for child in sorted(p for p in group.iterdir() if p.is_dir()):
        try:
            found = metadata(child)
        except InputError:
            continue
        if found is not None and found["node_type"] == "array":
            shape = " × ".join(map(str, found.get("shape") or [])) or "one number"
            yield f"{child.relative_to(root)} ({shape}, {found.get('data_type', found.get('dtype'))})"
        elif found is not None and depth > 1:
            yield from _arrays(child, root, depth - 1)
