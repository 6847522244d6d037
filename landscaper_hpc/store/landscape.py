"""The store: one Zarr v3 group per checkpoint, readable with `xarray.open_zarr(path, group=name)`.

    <study>/study.zarr/<name>/loss                    float64, one chunk per shard
                              alpha_0 … alpha_{n-1}   coordinates of the axes
                              done                    one SHA-256 per shard, written after the shard's data
                              directions/<parameter>  shape (n, *parameter shape)
                              hessian/eigenvalues, residuals, and trace and density where asked for
                              topology/<connectivity>/…    flat arrays of the merge tree, its numbers and its drawing

The promise: tasks run at least once, are deterministic and idempotent, and take effect exactly once. One shard is one
chunk with one writer, written whole and published atomically. A chunk that is missing is an error when it is read.
Metadata is written by the client only, before any shard. This module is the only place that makes a name in the store.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.chunk_key_encodings import ChunkKeyEncodingParams

from landscaper_hpc import strict_json
from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.errors import InputError
from landscaper_hpc.files import beside, full_disk_refused, publish, remove_partials, sync_folder
from landscaper_hpc.grid import Axis, Grid, Shard

if TYPE_CHECKING:
    from landscaper_hpc.topology import MergeTree

_DERIVED = "derived."  # before the names of what was made from a tree and is stored with it
_DIGEST_BYTES = hashlib.sha256().digest_size
# '.' keeps all chunks of an array in one folder: no folder per index, one listing tells what is there
_KEYS: ChunkKeyEncodingParams = {"name": "default", "separator": "."}


@dataclass(frozen=True)
class StoredDirections:
    """What the store holds about the directions: `vectors` by parameter name, each of shape (n, *parameter shape);
    `gram` (n, n); `hessian` by name, what is known of the Hessian: `eigenvalues` and `residuals` (n,) where the
    directions are eigenvectors; on demand `trace` (value, standard error) and `density_nodes`, `density_weights`
    (probes, steps)."""

    vectors: Mapping[str, NDArray[Any]]
    gram: NDArray[np.float64]
    hessian: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


class LandscapeStore:
    """One landscape: the losses of one checkpoint on its grid, and what was made from them."""

    def __init__(self, path: Path, name: str) -> None:
        """Open an existing landscape; `InputError` where there is none or it cannot be read."""
        self.path = path
        self.name = name
        self.folder = path / name
        try:
            # the two files that say it, and not zarr: campaigns open thousands of landscapes
            self.attributes: dict[str, Any] = json.loads((self.folder / "zarr.json").read_bytes())["attributes"]
            self.study_id: str = self.attributes["study_id"]
            self.grid = Grid(tuple(Axis(*axis) for axis in self.attributes["grid"]))
            loss = json.loads((self.folder / "loss" / "zarr.json").read_bytes())
            self.shard_shape: tuple[int, ...] = tuple(loss["chunk_grid"]["configuration"]["chunk_shape"])
        except FileNotFoundError:
            raise InputError(f"{self.folder}: there is no landscape; `landscaper-hpc run` makes it") from None
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.folder}: the metadata cannot be read ({error}); restore or remove this folder"
            ) from None
        self._shard_grid = tuple(-(-k // s) for k, s in zip(self.grid.shape, self.shard_shape, strict=True))

    # ---- create -------------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: Path,
        name: str,
        science: Mapping[str, Any],
        grid: Grid,
        shard_shape: Sequence[int],
        directions: StoredDirections,
        attributes: Mapping[str, Any],
    ) -> LandscapeStore:
        """Make a landscape without losses. It appears whole, directions included, or not at all.

        `science` is `Study.science(checkpoint)`; `attributes` are recorded beside it and must be free of dates.
        """
        _make_root(path)
        with _folder_aside(path / name) as aside:
            own: dict[str, Any] = {
                "study_id": canonical_sha256(science),
                "science": science,
                "grid": list(map(astuple, grid.axes)),
            }
            group = zarr.open_group(aside, mode="w", attributes={**own, **attributes})
            names = [f"alpha_{d}" for d in range(grid.ndim)]
            for label, coordinates in zip(names, grid.coordinates(), strict=True):
                _save(group, label, coordinates, dimension_names=[label])
            group.create_array(
                "loss",
                shape=grid.shape,
                chunks=tuple(shard_shape),
                dtype="float64",
                fill_value=math.nan,
                compressors=None,
                dimension_names=names,
                chunk_key_encoding=_KEYS,
            )
            counts = tuple(-(-k // s) for k, s in zip(grid.shape, shard_shape, strict=True))
            group.create_array(
                "done",
                shape=(*counts, _DIGEST_BYTES),
                chunks=(1,) * grid.ndim + (_DIGEST_BYTES,),
                dtype="uint8",
                fill_value=0,
                compressors=None,
                dimension_names=[*(f"shard_{d}" for d in range(grid.ndim)), "sha256"],
                chunk_key_encoding=_KEYS,
            )
            vectors = group.create_group("directions", attributes={"gram": directions.gram.tolist()})
            for parameter, vector in directions.vectors.items():
                _save(vectors, parameter, vector)
            if directions.hessian:
                hessian = group.create_group("hessian")
                for key, values in directions.hessian.items():
                    _save(hessian, key, values)
        made = cls(path, name)
        made.refuse_other(science)  # where another client was quicker
        return made

    def refuse_other(self, science: Mapping[str, Any]) -> None:
        """`InputError` unless this landscape is of exactly this science; names the keys that differ."""
        if self.study_id == canonical_sha256(science):
            return
        held = self.attributes["science"]
        differing = sorted(k for k in {*held, *science} if held.get(k) != science.get(k))
        raise InputError(
            f"{self.folder}: holds a landscape of another study ({', '.join(differing)} differ); "
            "choose another folder with --out, or remove this one"
        )

    # ---- shards -------------------------------------------------------------------------------------------------

    def shards(self) -> Iterator[Shard]:
        """All shards in C order."""
        return self.grid.shards(self.shard_shape)

    def write(self, shard: Shard, values: NDArray[np.float64]) -> None:
        """Publish a whole shard: its data first, then its entry in `done`. `values` has the shape or size of the shard.

        Safe to repeat and safe beside another writer of the same shard: the bytes are the same.
        """
        if values.size != shard.size:
            raise ValueError(f"shard {shard.index} has {shard.size} points, but {values.size} values came")
        chunk = np.full(self.shard_shape, math.nan, dtype="<f8")
        chunk[tuple(slice(n) for n in shard.shape)] = values.reshape(shard.shape)
        content = chunk.tobytes()
        # a power cut may cost shards of the last seconds: `verify` finds what is gone, and what is not whole
        publish(self._chunk("loss", shard.index), content, sync="content")
        publish(self._chunk("done", (*shard.index, 0)), hashlib.sha256(content).digest(), sync="nothing")

    def is_done(self, shard: Shard) -> bool:
        return self._chunk("done", (*shard.index, 0)).exists()

    def pending(self) -> list[Shard]:
        """The shards that are not done, in C order. One listing; reads no data."""
        done = self._done()
        return [shard for shard in self.shards() if shard.index not in done]

    def n_shards(self) -> int:
        return math.prod(self._shard_grid)

    def n_done(self) -> int:
        return sum(name.startswith("c.") for name in os.listdir(self.folder / "done"))  # noqa: PTH208

    def verify(self) -> list[Shard]:
        """Hash every done shard; those that are missing, torn or altered become pending again and are returned.

        Only the client calls this, while no shard is being written.
        """
        damaged = []
        for shard in self.shards():
            entry = self._chunk("done", (*shard.index, 0))
            try:
                digest = entry.read_bytes()
            except FileNotFoundError:
                continue
            try:
                with self._chunk("loss", shard.index).open("rb") as stream:
                    found = hashlib.file_digest(stream, "sha256").digest()
            except FileNotFoundError:
                found = b""
            if found != digest:
                entry.unlink(missing_ok=True)
                damaged.append(shard)
        return damaged

    def tidy(self) -> None:
        """Remove what killed writers left aside. Only the client calls this, when nothing is pending."""
        for folder in (self.path, self.folder, *(self.folder / name for name in ("loss", "done", "topology"))):
            remove_partials(folder)

    def read(self, region: tuple[slice, ...]) -> NDArray[np.float64]:
        """Losses of a box of points; `InputError` where a shard of it is not done."""
        bounds = [s.indices(k)[:2] for s, k in zip(region, self.grid.shape, strict=True)]
        needed = [range(a // s, -(-b // s)) for (a, b), s in zip(bounds, self.shard_shape, strict=True)]
        done = self._done()
        missing = sum(index not in done for index in np.ndindex(*map(len, needed)) for index in [_shift(index, needed)])
        if missing:
            raise InputError(f"{self.folder}: {missing} shards of the region are not evaluated; run the study again")
        return np.asarray(self._array("loss")[region])

    def loss(self) -> NDArray[np.float64]:
        """All losses, shape `grid.shape`."""
        return self.read(tuple(slice(0, k) for k in self.grid.shape))

    def loss_at_checkpoint(self) -> float | None:
        """The loss of the checkpoint itself, or None where it is not on the grid."""
        index = self.grid.checkpoint_index()
        return None if index is None else float(self.read(tuple(slice(i, i + 1) for i in index)).item())

    # ---- directions and topology ----------------------------------------------------------------------------------

    def directions(self) -> StoredDirections:
        """What `create` was given; `InputError` where it is damaged."""
        group = self._group["directions"]
        assert isinstance(group, zarr.Group)
        hessian = self._group.get("hessian")
        return StoredDirections(
            vectors=_load(group, remove=self.folder),
            gram=np.array(group.attrs["gram"], dtype=np.float64),
            hessian=_load(hessian, remove=self.folder) if isinstance(hessian, zarr.Group) else {},
        )

    def write_tree(
        self,
        tree: MergeTree,
        numbers: Mapping[str, Any] | None = None,
        drawing: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Store a merge tree as flat arrays, and with it, all at once, the `numbers` that were made of it (plain values
        by key) and the arrays of its `drawing`; replaces the one of the same connectivity."""
        derived = dict(drawing or {})
        if numbers is not None:
            derived["numbers"] = np.frombuffer(strict_json.dumps(numbers).encode(), np.uint8)
        parent = self.folder / "topology"
        if not parent.exists():
            with _folder_aside(parent) as aside:
                zarr.open_group(aside, mode="w")
        with _folder_aside(parent / tree.connectivity, replace=True) as aside:
            group = zarr.open_group(aside, mode="w")
            for name, array in tree.to_arrays().items():
                _save(group, name, array)
            for name, array in derived.items():
                _save(group, _DERIVED + name, array)

    @property
    def connectivity(self) -> str:
        """The study's connectivity."""
        return str(self.attributes["science"]["connectivity"])

    def has_tree(self) -> bool:
        return (self.folder / "topology" / self.connectivity / "zarr.json").exists()

    def tree(self) -> MergeTree:
        """The merge tree of the study's connectivity, without labels; `InputError` where it is damaged."""
        from landscaper_hpc.topology import MergeTree

        return MergeTree.from_arrays(self._topology())

    def numbers(self) -> dict[str, Any]:
        """The numbers that were stored with the study's merge tree, by key; none where it was stored without."""
        found = self._topology().get(f"{_DERIVED}numbers")
        return {} if found is None else dict(strict_json.loads(found.tobytes()))

    def drawing(self) -> dict[str, NDArray[Any]]:
        """The arrays that were stored with the study's merge tree as its drawing."""
        arrays = self._topology().items()
        return {name.removeprefix(_DERIVED): array for name, array in arrays if name.startswith(_DERIVED)}

    def _topology(self) -> dict[str, NDArray[Any]]:
        connectivity = self.connectivity
        try:
            group = zarr.open_group(self.folder / "topology" / connectivity, mode="r")
        except FileNotFoundError:
            raise InputError(
                f"{self.folder}: there is no merge tree of connectivity {connectivity}; `landscaper-hpc run` makes it"
            ) from None
        return _load(group, remove=self.folder / "topology")

    # ---- names --------------------------------------------------------------------------------------------------

    @cached_property
    def _group(self) -> zarr.Group:
        return zarr.open_group(self.folder, mode="r")

    def _array(self, name: str) -> zarr.Array[Any]:
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        return array

    def _chunk(self, array: str, index: tuple[int, ...]) -> Path:
        return self.folder / array / ".".join(["c", *map(str, index)])

    def _done(self) -> set[tuple[int, ...]]:
        with os.scandir(self.folder / "done") as entries:
            return {tuple(map(int, e.name.split(".")[1:-1])) for e in entries if e.name.startswith("c.")}


def open_landscape(path: str | Path, name: str | None = None) -> LandscapeStore:
    """Open a landscape of a study folder (or of its `study.zarr`, or of one group in it).

    `name` may be left out where there is only one.
    """
    path = Path(path)
    if (path / "study.zarr").is_dir():
        path = path / "study.zarr"
    if (path / "loss").is_dir():
        return LandscapeStore(path.parent, path.name)
    names = landscape_names(path)
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        raise InputError(
            f"{path}: holds {'the landscapes ' + ', '.join(names) if names else 'no landscape'}; "
            + (f"there is no {name!r}" if name else "name one of them")
        )
    return LandscapeStore(path, name)


def landscape_names(path: Path) -> list[str]:
    """Names of the landscapes in a `study.zarr`, sorted."""
    return sorted(p.parent.name for p in path.glob("[!.]*/loss") if p.is_dir())


def _shift(index: tuple[int, ...], ranges: list[range]) -> tuple[int, ...]:
    return tuple(r[i] for i, r in zip(index, ranges, strict=True))


def _save(group: zarr.Group, name: str, values: NDArray[Any], dimension_names: list[str] | None = None) -> None:
    """A whole array, with its hash: shards have theirs in `done`."""
    values = np.asarray(values)
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=tuple(max(1, k) for k in values.shape) or (),
        dtype=values.dtype,
        compressors=None,
        dimension_names=dimension_names,
        attributes={"sha256": _sha256(values)},
        config={"write_empty_chunks": True},
    )
    array[...] = values


def _load(group: zarr.Group, remove: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a group, each with the hash that it was saved with."""
    found = {}
    for name, array in sorted(group.arrays()):
        try:
            found[name] = np.asarray(array[...])
            whole = _sha256(found[name]) == array.attrs["sha256"]
        except (KeyError, ValueError):
            whole = False
        if not whole:
            raise InputError(
                f"{remove}: the array {group.path}/{name} is torn or altered; remove this folder "
                "and run the study again"
            )
    return found


def _sha256(values: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def _make_root(path: Path) -> None:
    if not (path / "zarr.json").exists():
        path.mkdir(parents=True, exist_ok=True)
        root = {"zarr_format": 3, "node_type": "group", "attributes": {}}
        publish(path / "zarr.json", json.dumps(root, indent=2).encode())


@contextmanager
def _folder_aside(path: Path, replace: bool = False) -> Iterator[Path]:
    """A folder beside `path` to build in, which takes the name `path` when it is complete and on disk."""
    aside, old = beside(path), beside(path)
    try:
        with full_disk_refused(path):
            yield aside
            _sync_tree(aside)
        if replace:
            with suppress(FileNotFoundError):
                path.rename(old)
        try:
            aside.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            # someone else made it in the meantime; the bytes are the same
        sync_folder(path.parent)
    finally:
        for folder in (aside, old):
            shutil.rmtree(folder, ignore_errors=True)


def _sync_tree(root: Path) -> None:
    for folder, _, files in os.walk(root):
        for file in files:
            descriptor = os.open(Path(folder) / file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(folder))
