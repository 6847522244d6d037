"""The losses of a landscape: one chunk for each shard, and in `done` the SHA-256 that it was written with.

Written whole, the data first, and by whoever comes: the bytes are the same. A shard is there where `done` has it.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.files import publish
from landscaper_hpc.grid import Grid, Shard
from landscaper_hpc.store import layout, zarr_files


class ShardedLosses:
    """The losses on a grid, or another number of each point (`variable`), in shards, in the folder of a landscape."""

    def __init__(self, folder: Path, grid: Grid, shard_shape: Sequence[int], variable: str = layout.LOSS) -> None:
        self.variable = variable
        self.folder = folder
        self.grid = grid
        self.shard_shape: tuple[int, ...] = tuple(shard_shape)
        self._proven: set[tuple[int, ...]] = set()
        self._shard_grid = tuple(-(-k // s) for k, s in zip(grid.shape, self.shard_shape, strict=True))

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
        publish(self._chunk(shard.index), content, sync="content")
        publish(self._done_entry(shard.index), hashlib.sha256(content).digest(), sync="nothing")

    def is_done(self, shard: Shard) -> bool:
        return self._done_entry(shard.index).exists()

    def shard_sha256(self, index: tuple[int, ...]) -> bytes:
        """The hash that a shard's chunk was written with; `InputError` where it is not done."""
        try:
            return self._done_entry(index).read_bytes()
        except FileNotFoundError:
            raise InputError(f"{self.folder}: shard {index} is not evaluated; run the study again") from None
        except OSError as error:
            raise self._unreadable(error) from None

    def pending(self) -> list[Shard]:
        """The shards that are not done. One listing; reads no data.

        Returns
        -------
        list of Shard
            In C order.
        """
        done = self.done()
        return [shard for shard in self.shards() if shard.index not in done]

    def n_shards(self) -> int:
        return math.prod(self._shard_grid)

    def n_done(self) -> int:
        try:
            return sum(name.startswith("c.") for name in os.listdir(self._dones))  # noqa: PTH208
        except OSError as error:
            raise self._unreadable(error) from None

    def drop_damaged(self) -> list[Shard]:
        """Hash every done shard; those that are missing, torn or altered become pending again and are returned."""
        damaged: list[Shard] = []
        if not self.n_done():  # of scattered points the grid may be too large to go through
            return damaged
        for shard in self.shards():
            entry = self._done_entry(shard.index)
            try:
                digest = self.shard_sha256(shard.index)
            except InputError:
                if entry.exists():
                    raise
                continue
            try:
                with self._chunk(shard.index).open("rb") as stream:
                    found = hashlib.file_digest(stream, "sha256").digest()
            except FileNotFoundError:
                found = b""
            if found != digest:
                self.undo(shard)
                damaged.append(shard)
        return damaged

    def read(self, region: tuple[slice, ...]) -> NDArray[np.float64]:
        """Losses of a box of points.

        Parameters
        ----------
        region
            A slice for each axis, of indices, without steps.

        Returns
        -------
        Float64, in the shape of the box.

        Raises
        ------
        InputError
            Where a shard of it is not done, or not as it was written.
        """
        bounds = [s.indices(k)[:2] for s, k in zip(region, self.grid.shape, strict=True)]
        needed = [range(a // s, -(-b // s)) for (a, b), s in zip(bounds, self.shard_shape, strict=True)]
        done = self.done()
        missing = sum(index not in done for index in np.ndindex(*map(len, needed)) for index in [_shift(index, needed)])
        if missing:
            raise InputError(f"{self.folder}: {missing} shards of the region are not evaluated; run the study again")
        out = np.empty([b - a for a, b in bounds])
        for index in np.ndindex(*map(len, needed)):
            place = _shift(index, needed)
            lows = [i * s for i, s in zip(place, self.shard_shape, strict=True)]
            box = [(max(a, o), min(b, o + s)) for (a, b), o, s in zip(bounds, lows, self.shard_shape, strict=True)]
            here = tuple(slice(p - a, q - a) for (p, q), (a, _) in zip(box, bounds, strict=True))
            there = tuple(slice(p - o, q - o) for (p, q), o in zip(box, lows, strict=True))
            out[here] = self._mapped(place)[there]
        return out

    def every(self, step: int) -> NDArray[np.float64]:
        """Losses at every `step`-th point along each axis, from the first: the values of a nested grid."""
        out = np.empty([-(-k // step) for k in self.grid.shape])
        for shard in self.shards():
            first = [-(-a // step) for a in shard.start]
            here = tuple(slice(f, -(-b // step)) for f, b in zip(first, shard.stop, strict=True))
            if all(s.start < s.stop for s in here):
                there = tuple(
                    slice(f * step - a, b - a, step) for f, a, b in zip(first, shard.start, shard.stop, strict=True)
                )
                out[here] = self._mapped(shard.index)[there]
        return out

    def at(self, points: NDArray[np.int64]) -> NDArray[np.float64]:
        """Losses at points, given by their flat ids, (p,)."""
        index = np.stack(np.unravel_index(points, self.grid.shape))
        place, within = np.divmod(index, np.reshape(self.shard_shape, (-1, 1)))
        shard = np.ravel_multi_index(tuple(place), self._shard_grid)
        values = np.empty(len(points))
        for number in np.unique(shard):
            here = shard == number
            mapped = self._mapped(tuple(map(int, place[:, here.argmax()])))
            values[here] = mapped[tuple(within[:, here])]
        return values

    def _mapped(self, index: tuple[int, ...]) -> NDArray[np.float64]:
        chunk = self._chunk(index)
        try:
            values = np.memmap(chunk, "<f8", "r", shape=self.shard_shape)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError):
                zarr_files.refuse_denied(error)
            raise InputError(f"{chunk}: the chunk is missing or torn; run the study again") from None
        if index not in self._proven:
            if bytes.fromhex(zarr_files.sha256(values)) != self.shard_sha256(index):
                raise InputError(
                    f"{chunk}: the chunk is altered, its SHA-256 is another; run the study again, it mends it"
                )
            self._proven.add(index)
        return values

    @property
    def losses(self) -> Path:
        """The Zarr array of losses, or of the other number."""
        return self.folder / self.variable

    def loss(self) -> NDArray[np.float64]:
        """All losses.

        Returns
        -------
        Float64, in the shape of the grid, in the loss's own unit.
        """
        return self.read(tuple(slice(0, k) for k in self.grid.shape))

    def loss_at_checkpoint(self) -> float | None:
        """The loss of the checkpoint itself, or None where it is not on the grid."""
        index = self.grid.checkpoint_index()
        return None if index is None else float(self.read(tuple(slice(i, i + 1) for i in index)).item())

    def losses_sha256(self) -> str:
        """SHA-256 of the hashes of all shards; `InputError` where one is not evaluated."""
        digest = hashlib.sha256()
        for shard in self.shards():
            digest.update(self.shard_sha256(shard.index))
        return digest.hexdigest()

    def _chunk(self, index: tuple[int, ...]) -> Path:
        return self.losses / zarr_files.chunk_name(index)

    def _done_entry(self, index: tuple[int, ...]) -> Path:
        return self._dones / zarr_files.chunk_name((*index, 0))

    @property
    def _dones(self) -> Path:
        return self.folder.joinpath(*layout.done(self.variable))

    def undo(self, shard: Shard) -> None:
        """Let a shard be pending again."""
        self._done_entry(shard.index).unlink(missing_ok=True)

    def done(self) -> set[tuple[int, ...]]:
        """The indices of the shards that are done. One listing."""
        try:
            with os.scandir(self._dones) as entries:
                return {tuple(map(int, e.name.split(".")[1:-1])) for e in entries if e.name.startswith("c.")}
        except OSError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError) -> InputError:
        zarr_files.refuse_denied(error)
        what = "is gone" if isinstance(error, FileNotFoundError) else "cannot be read"
        return InputError(f"{error.filename}: {what}; restore it, or remove {self.folder} and run the study again")


def _shift(index: tuple[int, ...], ranges: list[range]) -> tuple[int, ...]:
    return tuple(r[i] for i, r in zip(index, ranges, strict=True))
