from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.blocks.boxes import Boxes, choose_boxes, planned_bytes
from landscaper_hpc.topology.blocks.distributed import merge_tree_blocks
from landscaper_hpc.topology.readers import ArrayReader, NpyReader, Region, ZarrReader
from tests.topology.fields import connectivities, directions, fields, shapes
from tests.topology.test_merge_tree import adversaries, assert_same_tree


class Labels:
    """Collects labels and refuses overlaps."""

    def create(self, shape: tuple[int, ...], block: tuple[int, ...], dtype: Any) -> None:
        self.array = np.full(shape, -7, dtype)

    def write(self, region: Region, labels: NDArray[Any]) -> None:
        assert (self.array[region] == -7).all()
        self.array[region] = labels


@settings(deadline=None, max_examples=120)
@given(st.data())
@pytest.mark.thorough
def test_any_cut_gives_the_same_bytes(data: st.DataObject) -> None:
    values = data.draw(fields(max_size=1000))
    connectivity, direction = data.draw(connectivities), data.draw(directions)
    block = tuple(data.draw(st.integers(1, k)) for k in values.shape)
    whole = merge_tree(values, connectivity, direction, labels=True)
    labels = Labels()
    result = merge_tree_blocks(
        ArrayReader(values),
        connectivity,
        direction,
        labels,
        block_shape=block,
        threads=data.draw(st.sampled_from([1, 2])),
    )
    assert result.tree is not None
    assert_same_tree(result.tree, replace(whole, labels=None))
    assert whole.labels is not None
    np.testing.assert_array_equal(labels.array, whole.labels)


@pytest.mark.parametrize("name", adversaries())
@pytest.mark.parametrize("connectivity", ["axis", "freudenthal", "full"])
@pytest.mark.thorough
def test_adversaries_in_blocks(name: str, connectivity: Any) -> None:
    values = adversaries()[name]
    expected = merge_tree(values, connectivity)
    for divide in (2, 3, 5):
        block = tuple(-(-k // divide) for k in values.shape)
        result = merge_tree_blocks(ArrayReader(values), connectivity, block_shape=block, threads=1)
        assert result.tree is not None
        assert_same_tree(result.tree, expected)


@pytest.mark.parametrize("direction", ["sublevel", "superlevel"])
def test_an_array_too_large_for_one_block_is_cut(monkeypatch: pytest.MonkeyPatch, direction: Any) -> None:
    values = np.random.default_rng(3).integers(0, 9, (7, 11, 6)).astype(np.float32)
    whole = merge_tree(values, "full", direction, labels=True)
    monkeypatch.setattr("landscaper_hpc.topology.blocks.boxes.MAX_BLOCK", 200)
    assert choose_boxes(values.shape, 4).size > 2
    assert_same_tree(merge_tree(values, "full", direction, labels=True), whole)


@pytest.mark.thorough
@settings(deadline=None, max_examples=200)
@given(shapes(), st.integers(1, 9), st.data())
def test_boxes_cover_the_grid_once(shape: tuple[int, ...], ranks: int, data: st.DataObject) -> None:
    boxes = Boxes(shape, tuple(data.draw(st.integers(1, k)) for k in shape), ranks)
    seen = np.zeros(shape, int)
    ids = np.arange(seen.size).reshape(shape)
    ranks_seen = []
    for rank in range(ranks):
        for number in boxes.of_rank(rank):
            assert boxes.owner(number) == rank
            seen[boxes.core(number)] += 1
            assert (boxes.block_of(ids[boxes.core(number)].reshape(-1)) == number).all()
            ranks_seen.append(number)
    assert (seen == 1).all()
    assert ranks_seen == list(range(boxes.size))


def test_a_cut_for_memory_and_ranks() -> None:
    shape = (64,) * 5
    boxes = choose_boxes(shape, 4, max_memory=2_000_000_000)
    assert planned_bytes(boxes, 4) <= 2_000_000_000
    assert boxes.block[2:] == shape[2:]  # whole trailing axes
    assert choose_boxes((9, 8), 8, ranks=4).size >= 4
    assert choose_boxes((2, 2), 8, ranks=8).size == 4
    with pytest.raises(InputError, match="max-memory"):
        choose_boxes(shape, 4, max_memory=1_000_000)
    with pytest.raises(InputError, match="do not fit"):
        Boxes((3, 3), (4, 1))


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f8", "<i2"])
@pytest.mark.thorough
def test_readers_agree(dtype: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, (7, 8, 9)).astype(dtype)
    np.save(tmp_path / "f.npy", values)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(values))
    readers = [ArrayReader(values), NpyReader(tmp_path / "f.npy"), NpyReader(tmp_path / "fortran.npy")]
    for name, options in {
        "raw": {"compressors": None},
        "compressed": {},
        "sharded": {"chunks": (2, 2, 3), "shards": (4, 4, 3)},
    }.items():
        array = zarr.create_array(
            tmp_path / f"{name}.zarr",
            shape=values.shape,
            dtype=values.dtype,
            config={"write_empty_chunks": True},
            **{"chunks": (3, 4, 5), **options},  # type: ignore[arg-type]
        )
        array[...] = values
        readers.append(ZarrReader(tmp_path / f"{name}.zarr"))
    region = (slice(1, 6), slice(0, 8), slice(3, 9))
    for reader in readers:
        assert reader.shape == values.shape
        np.testing.assert_array_equal(reader.read(region), values[region])
        tree = merge_tree_blocks(reader, block_shape=(3, 3, 3)).tree
        assert tree is not None
        assert_same_tree(tree, merge_tree(values))


def test_missing_and_truncated_chunks_are_errors(tmp_path: Path) -> None:
    for compressors in (None, "auto"):
        path = tmp_path / f"{compressors}.zarr"
        array = zarr.create_array(path, shape=(6, 6), chunks=(3, 3), dtype="f8", compressors=compressors)  # type: ignore[arg-type]
        array[...] = np.arange(36.0).reshape(6, 6) + 1
        (path / "c" / "1" / "0").unlink()
        reader = ZarrReader(path)
        reader.read((slice(0, 3), slice(0, 6)))
        with pytest.raises(InputError, match=r"chunk \(1, 0\) is missing"):
            reader.read((slice(0, 4), slice(0, 1)))
    chunk = tmp_path / "None.zarr" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:10])
    with pytest.raises(InputError, match="truncated"):
        ZarrReader(tmp_path / "None.zarr").read((slice(0, 1), slice(0, 1)))


def test_what_is_no_array_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_text("hello")
    with pytest.raises(InputError, match="not a readable"):
        NpyReader(tmp_path / "x.npy")
    with pytest.raises(InputError, match="not a readable Zarr array"):
        ZarrReader(tmp_path)


def test_progress_and_stats() -> None:
    seen: list[tuple[int, int]] = []
    result = merge_tree_blocks(
        ArrayReader(np.random.default_rng(0).random((8, 5))),
        block_shape=(3, 5),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(15, 40), (30, 40), (40, 40)]
    (stats,) = result.stats
    assert stats.blocks == 3
    assert stats.vertices == 40
    assert stats.bytes_sent == 0
    assert all(p["peak_rss_mb"] > 0 for p in stats.phases.values())
