"""Fields in Zarr arrays, of format 2 or 3: every value as it was written, or an error. What was never written, or is
torn, or means something else than it says (`conventions`), is refused."""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError, refuse_lacking
from landscaper_hpc.strict_json import once, parsed
from landscaper_hpc.topology.readers.base import Region, check_shape
from landscaper_hpc.topology.readers.conventions import Missing, refuse_packed
from landscaper_hpc.topology.readers.raw import beginning, open_regular, read_box, refuse_pointer

Index = tuple[int, ...]
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
_NEVER = np.uint64(2**64 - 1)
_SMALL = 1024
_TOGETHER = 1 << 23
"""Bytes of chunks that are decoded at the same time, where more than one is."""


def metadata(folder: Path) -> dict[str, Any] | None:
    """What the Zarr metadata of a folder say, their attributes under "attributes"; None where there are none.
    InputError if they cannot be read."""
    for name in _METADATA:
        if (folder / name).exists():
            beginning(folder / name)  # a regular file, with something of its own
    try:
        if (folder / "zarr.json").exists():
            found = _json(folder / "zarr.json")
            found["node_type"]
            return found
        for name, node in ((".zarray", "array"), (".zgroup", "group")):
            if (folder / name).exists():
                attributes = _json(folder / ".zattrs") if (folder / ".zattrs").exists() else {}
                return {**_json(folder / name), "node_type": node, "attributes": attributes}
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise InputError(
            f"{folder}: holds torn Zarr metadata ({type(error).__name__}: {error}); restore them"
        ) from None
    return None


def _json(file: Path) -> dict[str, Any]:
    found = parsed(file.read_bytes(), object_pairs_hook=once)
    if not isinstance(found, dict):
        raise ValueError(f"{file.name} holds no object")
    return found


def _refuse_other_copy(path: Path, found: dict[str, Any]) -> None:
    """InputError where a group above has a copy of the array's metadata that says other values: neither has a checksum,
    so one of them is altered or out of date."""
    keys = ("shape", "data_type", "chunk_grid") if found.get("zarr_format") == 3 else ("shape", "dtype", "chunks")
    for group in itertools.islice(path.absolute().parents, 3):
        name = path.absolute().relative_to(group).as_posix()
        try:
            if found.get("zarr_format") == 3:
                copy = _json(group / "zarr.json")["consolidated_metadata"]["metadata"][name]
            else:
                copy = _json(group / ".zmetadata")["metadata"][f"{name}/.zarray"]
            differing = [key for key in keys if copy[key] != found.get(key)]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if differing:
            raise InputError(
                f"{path}: its metadata and the copy of them in {group} differ in {', '.join(differing)}; restore them, "
                f"or write the copy anew with zarr.consolidate_metadata('{group}')"
            )


class ZarrReader:
    """A field in a Zarr array on disk. A chunk that is missing is an error, never the fill value.

    sha256      for a chunk's index its SHA-256, where that is known: then a chunk that is altered is an error as well
    """

    def __init__(self, path: Path, sha256: Callable[[Index], bytes] | None = None) -> None:
        self.path = path
        found = metadata(path)
        if found is None or found["node_type"] != "array":
            raise InputError(f"{path}: not a readable Zarr array; give the folder that holds the array's metadata")
        _refuse_other_copy(path, found)
        try:
            self._open(found)
        except InputError:
            raise
        except Exception as error:  # torn metadata: zarr raises whatever it stumbles on
            refuse_lacking(error)
            reason = str(error).split("\n")[0][:200]
            raise InputError(f"{path}: not a readable Zarr array ({type(error).__name__}: {reason})") from None
        self._sha256, self._proven = sha256, set[Index]()

    def _open(self, found: dict[str, Any]) -> None:
        import zarr

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what zarr wonders at and can read
            self._array = array = zarr.open_array(self.path, mode="r", zarr_format=found["zarr_format"])
        self.shape: tuple[int, ...] = array.shape
        self.dtype = np.dtype(array.dtype)
        self._stored: tuple[int, ...] = array.shards or array.chunks
        if min(self._stored, default=1) < 1 or len(self._stored) != len(self.shape):
            raise ValueError(f"chunks of shape {self._stored}")
        check_shape(self.shape, str(self.path))
        refuse_packed(found.get("attributes") or {}, self.dtype, self.path)
        self._missing = Missing.of(found, self.dtype, self.path)
        codecs: list[Any] = found.get("codecs") or []
        names = [c["name"] for c in codecs]
        self._blosc = names[-1:] == ["blosc"] or (found.get("compressor") or {}).get("id") == "blosc"
        # what the store writes: a chunk file is the chunk's bytes, and can be read in place
        self._raw = names == ["bytes"] and self.dtype.isnative and "big" not in str(codecs)
        # … and a codec is given a whole chunk, or an inner one, and makes all of it, whatever is asked for
        chunk = math.prod(array.chunks) * self.dtype.itemsize
        self.held = 0 if self._raw else 2 * chunk
        self._index = _ShardIndex(codecs[0]["configuration"], self._stored) if "sharding_indexed" in names else None
        if self._index is not None and (len(names) > 1 or self._index.nested):
            raise InputError(f"{self.path}: shards within other codecs are not read; write the array with one sharding")
        # of an array that is not what its metadata say, most often the last chunk is not there
        for index in {
            (0,) * len(self.shape),
            tuple((k - 1) // c for k, c in zip(self.shape, self._stored, strict=True)),
        }:
            self._file(index)

    def read(self, region: Region) -> NDArray[Any]:
        boxes = [range(s.start // c, -(-s.stop // c)) for s, c in zip(region, self._stored, strict=True)]
        out = np.empty([s.stop - s.start for s in region], self.dtype) if self._raw else None
        for index in itertools.product(*boxes):
            file = self._file(index)
            lows = [i * c for i, c in zip(index, self._stored, strict=True)]
            box = [(max(s.start, a), min(s.stop, a + c)) for s, a, c in zip(region, lows, self._stored, strict=True)]
            there = tuple(slice(p - a, q - a) for (p, q), a in zip(box, lows, strict=True))
            if out is not None:
                here = tuple(slice(p - s.start, q - s.start) for (p, q), s in zip(box, region, strict=True))
                self._read_raw(file, index, there, out[here])
            elif self._index is not None:
                self._index.check(file, there)
            elif self._blosc:
                _check_blosc(file)
        values = self._decoded(region, boxes) if out is None else out
        self._missing.refuse(values)
        return values

    def _decoded(self, region: Region, boxes: list[range]) -> NDArray[Any]:
        import zarr

        try:
            # zarr decodes ten chunks at a time, which is for small ones
            with zarr.config.set({"async.concurrency": max(1, min(10, _TOGETHER // self.held))}):
                return np.asarray(self._array[region])
        except Exception as error:  # codecs raise whatever they stumble on
            refuse_lacking(error)
            reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        for index in itertools.product(*boxes):  # which one?
            box = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, self._stored, strict=True))
            try:
                self._array[box]
            except Exception:
                raise InputError(f"{self._name(index)}: the chunk is damaged ({reason}); restore it") from None
        raise InputError(f"{self.path}: cannot be read ({reason}); restore it")

    def _read_raw(self, file: Path, index: Index, box: Region, out: NDArray[Any]) -> None:
        expected = math.prod(self._stored) * self.dtype.itemsize
        descriptor = open_regular(file)
        try:
            size = os.fstat(descriptor).st_size
            if size != expected:
                raise EOFError
            self._prove(descriptor, index, file)
            read_box(descriptor, 0, self.dtype, self._stored, box, out)
        except EOFError:
            raise InputError(
                f"{file}: the chunk is truncated, or of another array (it has {size:,} bytes, not {expected:,}); "
                "restore it or evaluate its shard again"
            ) from None
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror}); restore it") from None
        finally:
            os.close(descriptor)

    def _prove(self, descriptor: int, index: Index, file: Path) -> None:
        if self._sha256 is None or index in self._proven:
            return
        import hashlib

        with os.fdopen(os.dup(descriptor), "rb") as stream:
            if hashlib.file_digest(stream, "sha256").digest() != self._sha256(index):
                raise InputError(
                    f"{file}: the chunk is altered, its SHA-256 is another; run the study again, it mends it"
                )
        self._proven.add(index)

    def _name(self, index: Index) -> Path:
        return self.path / str(self._array.metadata.encode_chunk_key(index))

    def _file(self, index: Index) -> Path:
        file = self._name(index)
        try:
            size = file.stat().st_size
        except OSError:
            raise InputError(
                f"{self.path}: chunk {index} is missing; evaluate it, or if all of it is the fill value "
                "write the array with write_empty_chunks=True"
            ) from None
        if size < _SMALL or not file.is_file():
            refuse_pointer(beginning(file), file)
        return file


def _check_blosc(file: Path, offset: int = 0, length: int | None = None) -> None:
    """InputError unless a frame of Blosc is as long as its header says: the library believes the header, and reads on
    beyond the end of what it was given."""
    descriptor = open_regular(file)
    try:
        length = os.fstat(descriptor).st_size if length is None else length
        head = os.pread(descriptor, min(16, length), offset)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); restore it") from None
    finally:
        os.close(descriptor)
    if len(head) < 16 or int.from_bytes(head[12:16], "little") != length:
        raise InputError(f"{file}: the chunk is damaged (Blosc's header says another length); restore it")


class _ShardIndex:
    """Where a shard file says that its inner chunks are, and that some of them were never written."""

    def __init__(self, configuration: dict[str, Any], shard: tuple[int, ...]) -> None:
        self._inner: tuple[int, ...] = tuple(configuration["chunk_shape"])
        self._counts = tuple(s // c for s, c in zip(shard, self._inner, strict=True))
        names = [c["name"] for c in configuration.get("index_codecs", [])]
        self._checksum = names == ["bytes", "crc32c"]
        if names not in (["bytes"], ["bytes", "crc32c"]) or "big" in str(configuration["index_codecs"]):
            raise ValueError(f"an index coded by {', '.join(names)}")
        self._at_end = configuration.get("index_location", "end") == "end"
        codecs = [c["name"] for c in configuration["codecs"]]
        self._blosc = codecs[-1:] == ["blosc"]
        self.nested = "sharding_indexed" in codecs

    def check(self, file: Path, box: Region) -> None:
        """InputError unless the shard holds all inner chunks that lie in this box of it."""
        table, size = self._read(file)
        inner = tuple(slice(s.start // c, -(-s.stop // c)) for s, c in zip(box, self._inner, strict=True))
        offsets, lengths = np.moveaxis(table[inner], -1, 0)
        never = (offsets == _NEVER) & (lengths == _NEVER)
        if never.any():
            raise InputError(
                f"{file}: {np.count_nonzero(never)} inner chunks of the shard are missing; evaluate them, or if all of "
                "them are the fill value write the array with write_empty_chunks=True"
            )
        if (offsets > size).any() or (lengths > size - np.minimum(offsets, np.uint64(size))).any():
            raise InputError(f"{file}: the shard is truncated, or its index torn; restore it")
        if self._blosc:
            for offset, length in table[inner].reshape(-1, 2).tolist():
                _check_blosc(file, offset, length)

    def _read(self, file: Path) -> tuple[NDArray[np.uint64], int]:
        import google_crc32c

        length = 16 * math.prod(self._counts)
        descriptor = open_regular(file)
        try:
            size = os.fstat(descriptor).st_size
            coded = os.pread(
                descriptor,
                length + 4 * self._checksum,
                max(0, size - length - 4 * self._checksum) if self._at_end else 0,
            )
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror}); restore it") from None
        finally:
            os.close(descriptor)
        data = coded[:length]
        torn = len(coded) < length + 4 * self._checksum
        if torn or (self._checksum and google_crc32c.value(data) != int.from_bytes(coded[length:], "little")):
            raise InputError(f"{file}: the shard's index is torn; restore it")
        return np.frombuffer(data, "<u8").reshape(*self._counts, 2), size
