"""Zarr v3 on disk, by hand: groups, and arrays that are neither compressed nor split but by shards.

The documents are those that zarr-python writes, so that any reader of Zarr reads them; written here, they are the same
bytes with every version of it, appear whole, and can be read without importing it a thousand times.
Format: https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html; of consolidated metadata, zarr-python's own.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.files import publish
from landscaper_hpc.strict_json import parsed

NODE = "zarr.json"

Document = dict[str, Any]
"""What a `zarr.json` holds."""

_TYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_REAL = ("float16", "float32", "float64")
_COMPLEX = ("complex64", "complex128")
_LONGEST = 200


class Damaged(Exception):
    """What is on disk is not what was written; the message says what."""


_OF_THE_MACHINE = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}
)


def refuse_denied(error: OSError) -> None:
    """`InputError` for what cannot be read for a reason that is not in it, so that nobody takes it for damaged: this
    user may not, or the machine has reached a limit."""
    if isinstance(error, PermissionError):
        raise InputError(
            f"{error.filename}: may not be read ({error.strerror}); ask its owner, or choose another folder with --out"
        ) from None
    if error.errno in _OF_THE_MACHINE:
        raise InputError(
            f"{error.filename}: cannot be read here and now ({error.strerror}), and is left as it is; look at the "
            "machine's limits (ulimit -a) and its file system, and give the same command again"
        ) from None


# ---- names ----------------------------------------------------------------------------------------------------------


def node_name(name: str) -> str:
    """A name that can be a node's: any text, one name for each; letters, digits, '.', '-', '_' stay as they are."""
    quoted = quote(name, safe="")
    if quoted.startswith((".", "__")) or quoted in (NODE, "direction"):  # reserved by Zarr, and a dimension's
        quoted = f"%{ord(quoted[0]):02X}{quoted[1:]}"
    if len(quoted) > _LONGEST:
        quoted = f"{quoted[: _LONGEST - 17]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return quoted


def chunk_name(index: Sequence[int]) -> str:
    """'.' keeps all chunks of an array in one folder: no folder per index, one listing tells what is there."""
    return ".".join(["c", *map(str, index)])


# ---- documents ------------------------------------------------------------------------------------------------------


def array_document(
    shape: Sequence[int],
    chunks: Sequence[int],
    dtype: np.dtype[Any],
    dimensions: Sequence[str],
    attributes: Mapping[str, Any],
    fill: Any = None,
) -> Document:
    """The metadata of an uncompressed array; `fill` is 0 where nothing else is said."""
    name = dtype.name
    if name not in (*_TYPES, *_REAL, *_COMPLEX):
        raise ValueError(f"an array of type {name} cannot be stored")
    if fill is None:
        fill = [0.0, 0.0] if name in _COMPLEX else 0.0 if name in _REAL else False if name == "bool" else 0
    codec: Document = {"name": "bytes"}
    if dtype.itemsize > 1:
        codec["configuration"] = {"endian": "little"}
    return {
        "shape": list(shape),
        "data_type": name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": fill,
        "codecs": [codec],
        "attributes": dict(attributes),
        **({"dimension_names": list(dimensions)} if shape else {}),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def group_document(attributes: Mapping[str, Any], nodes: Mapping[str, Document] | None = None) -> Document:
    """The metadata of a group; `nodes` are the metadata of everything in it, by path: they are consolidated."""
    consolidated = {"kind": "inline", "must_understand": False, "metadata": dict(nodes or {})}
    return {
        "attributes": dict(attributes),
        "zarr_format": 3,
        **({} if nodes is None else {"consolidated_metadata": consolidated}),
        "node_type": "group",
    }


def nodes_in(folder: Path, leave_out: Container[str] = ()) -> dict[str, Document]:
    """The metadata of everything in a group's folder, by path, sorted, but for the paths `leave_out`.

    `Damaged` where one cannot be read.
    """
    return dict(_nodes(folder, "", leave_out))


def _nodes(folder: Path, prefix: str, leave_out: Container[str]) -> Iterator[tuple[str, Document]]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    for name in names:
        if prefix + name in leave_out or not (folder / name / NODE).exists():
            continue
        try:
            document = read_document(folder / name)
            group = document["node_type"] == "group"
            yield prefix + name, group_document(document["attributes"], {}) if group else document
        except (ValueError, KeyError, TypeError):
            raise Damaged(f"{folder / name / NODE} is torn or altered") from None
        if group:
            yield from _nodes(folder / name, f"{prefix}{name}/", leave_out)


def consolidated(document: Document) -> dict[str, Document] | None:
    """The consolidated metadata of a group's document; None where there are none."""
    found = document.get("consolidated_metadata")
    return None if found is None else found["metadata"]


def read_document(folder: Path) -> Document:
    try:
        found: Document = parsed((folder / NODE).read_bytes())
    except OSError as error:
        refuse_denied(error)
        raise
    return found


def write_document(folder: Path, document: Document) -> None:
    """Publish the metadata of a node, unless they are there already."""
    content = json.dumps(document, indent=1).encode()
    if not (folder / NODE).exists() or (folder / NODE).read_bytes() != content:
        publish(folder / NODE, content)


# ---- attributes -----------------------------------------------------------------------------------------------------


def flat_attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that netCDF has as well, texts and numbers: everything else, and a text that looks like it, as JSON.

    `nested_attributes` is the way back, exactly.
    """
    return {key: value if _is_flat(value) else json.dumps(value) for key, value in values.items()}


def nested_attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: parsed(value) if isinstance(value, str) and _is_json(value) else value for key, value in values.items()
    }


def _is_flat(value: Any) -> bool:
    if isinstance(value, str):
        return not _is_json(value)
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _is_json(text: str) -> bool:
    return text.startswith(("{", "[", '"')) or text in ("null", "true", "false", "NaN", "Infinity", "-Infinity")


# ---- whole arrays ---------------------------------------------------------------------------------------------------


def save(folder: Path, values: NDArray[Any], dimensions: Sequence[str], attributes: Mapping[str, Any]) -> None:
    """A whole array as one chunk, with its SHA-256. Not atomic: its folder is to be published."""
    values = np.asarray(values)
    shape: tuple[int, ...] = values.shape
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(shape)
    chunks = [max(1, k) for k in shape]
    folder.mkdir()
    own = {**attributes, "sha256": sha256(values)}
    with (folder / NODE).open("w") as stream:
        json.dump(array_document(shape, chunks, values.dtype, dimensions, own), stream, indent=1)
    if values.size:
        with (folder / chunk_name([0] * len(shape))).open("wb") as chunk:
            chunk.write(_bytes(values))


def load(folder: Path, document: Document) -> NDArray[Any]:
    """An array that was saved with this document; `Damaged` where it is not what was saved."""
    try:
        same = read_document(folder) == document
        shape, dtype = tuple(document["shape"]), np.dtype(document["data_type"]).newbyteorder("<")
        values = np.fromfile(folder / chunk_name([0] * len(shape)), dtype) if math.prod(shape) else np.empty(0, dtype)
        if same and sha256(values) == document["attributes"]["sha256"]:
            return values.reshape(shape)
    except OSError as error:
        refuse_denied(error)
    except (ValueError, KeyError, TypeError):
        pass
    raise Damaged(f"the array {folder.parent.name}/{folder.name} is torn or altered")


def sha256(values: NDArray[Any]) -> str:
    """Of the bytes in C order."""
    return hashlib.sha256(_bytes(values)).hexdigest()


def _bytes(values: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


# ---- in a folder that is to be published -----------------------------------------------------------------------------


def is_same(folder: Path, document: Document) -> bool:
    """Whether a node on disk has these metadata; of groups, but for what they list."""
    try:
        found = read_document(folder)
        if found["node_type"] == "group":
            found = group_document(found["attributes"], {})
        return found == document
    except (OSError, ValueError, KeyError, TypeError):
        return False


def make_node(folder: Path, document: Document) -> None:
    folder.mkdir(parents=True)
    (folder / NODE).write_text(json.dumps(document, indent=1))


def save_group(
    folder: Path,
    attributes: Mapping[str, Any],
    arrays: Mapping[str, tuple[NDArray[Any], Sequence[str], Mapping[str, Any]]],
) -> None:
    folder.mkdir()
    for name, (values, dimensions, about) in arrays.items():
        save(folder / name, values, dimensions, about)
    nodes = nodes_in(folder)
    write_document(folder, group_document(flat_attributes(attributes), nodes))
