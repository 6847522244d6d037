"""Odd files of fields by kind: what is given, and the sentence or the values that answer it."""

from __future__ import annotations

import json
import os
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from landscaper_hpc.commands.fields import open_field
from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import stencil
from landscaper_hpc.topology import merge_tree, merge_tree_graph
from landscaper_hpc.topology.blocks.boxes import Boxes, choose_boxes
from landscaper_hpc.topology.blocks.distributed import merge_tree_blocks
from landscaper_hpc.topology.blocks.labels import ZarrLabels
from landscaper_hpc.topology.readers import ArrayReader, NpyReader, open_npz
from tests.odd.field_files import CHECKED, FIELD, FORMATS, read

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def _file(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _damaged(name: str, inner: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        FORMATS[name](folder / name)
        file = folder / name / inner if inner else folder / name
        file.write_bytes(change(file.read_bytes()))
        return folder / name

    return make


def _pipe(name: str, inner: str = "") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        if inner:
            FORMATS[name](folder / name)
            (folder / name / inner).unlink(missing_ok=True)
        os.mkfifo(folder / name / inner if inner else folder / name)
        return folder / name

    return make


def _npz(**arrays: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.savez(folder / "a.npz", **arrays)
        return folder / "a.npz"

    return make


def _xarray(zarr_format: Any, values: Any, inner: str = "loss", **encoding: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        dataset = xr.Dataset({"loss": (("a", "b"), values), "time": ("a", np.arange(3.0))})
        dataset.to_zarr(
            folder / "g.zarr", zarr_format=zarr_format, encoding={"loss": encoding}, consolidated=zarr_format == 2
        )
        return folder / "g.zarr" / inner

    return make


def _attributes(zarr_format: Any, dtype: str = "f8", **attributes: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        array = zarr.create_array(
            folder / "a.zarr", shape=(3, 4), dtype=dtype, chunks=(3, 4), zarr_format=zarr_format, attributes=attributes
        )
        array[...] = SMALL
        return folder / "a.zarr"

    return make


def _unwritten(folder: Path) -> Path:
    array = zarr.create_array(folder / "s.zarr", shape=(8, 8), dtype="f8", chunks=(2, 2), shards=(4, 4))
    array[...] = np.arange(1.0, 65.0).reshape(8, 8)
    array = zarr.create_array(folder / "t.zarr", shape=(8, 8), dtype="f8", chunks=(2, 2), shards=(8, 8))
    array[:4, :4] = 1.0
    return folder / "t.zarr"


def _bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("loss.npy", np.lib.format.magic(1, 0) + bytes(50_000_000))
    return folder / "b.npz"


def _packed(kind: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "b.npz", "w", kind) as archive, archive.open("loss.npy", "w") as file:
            np.save(file, SMALL)
        return folder / "b.npz"

    return make


def _looped(folder: Path) -> Path:
    (folder / "f.npy").symlink_to(folder / "f.npy")
    return folder / "f.npy"


def _study_of_other_shape(folder: Path) -> Path:
    FORMATS["study"](folder / "study")
    file = folder / "study" / "study.zarr" / "main" / "loss" / "zarr.json"
    found = json.loads(file.read_text())
    found["shape"][2] -= 1
    file.write_text(json.dumps(found))
    return folder / "study"


def _copied(zarr_format: Any) -> Callable[[Path], Path]:
    """The metadata of an array altered, and not their copy in the group."""

    def make(folder: Path) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that format 3 does not know of such copies
            xr.Dataset({"loss": (("a", "b"), SMALL)}).to_zarr(
                folder / "g.zarr", zarr_format=zarr_format, consolidated=True
            )
        file = folder / "g.zarr/loss" / ("zarr.json" if zarr_format == 3 else ".zarray")
        file.write_text(json.dumps({**json.loads(file.read_text()), "shape": [2, 4]}))
        return folder / "g.zarr/loss"

    return make


SMALL = np.arange(12.0).reshape(3, 4)
HOLES = np.where(SMALL > 5, SMALL, np.nan)
REFUSED: list[tuple[str, Callable[[Path], Path], str]] = [
    ("nothing at all", _file("f.npy", b""), "is empty, not a readable .npy"),
    ("an empty archive", _file("f.npz", b""), "not a readable .npz file"),
    ("text", _file("f.npy", b"hello"), "not a readable .npy"),
    ("a pipe", _pipe("f.npy"), "is a pipe"),
    ("a pipe as archive", _pipe("f.npz"), "is a pipe"),
    ("a pipe as metadata", _pipe("zstd.zarr", "zarr.json"), "is a pipe"),
    ("a pipe as a chunk", _pipe("zstd.zarr", "c/0/0/0"), "is a pipe"),
    ("a pipe as attributes", _pipe("two.zarr", ".zattrs"), "is a pipe"),
    ("a name that leads to itself", _looped, "f.npy: (does not exist|cannot be opened)"),
    ("a path through a file", lambda f: _file("f.npy", b"")(f) / "x", "does not exist"),
    ("a git-lfs pointer", _file("f.npy", POINTER), "git-lfs pointer.*git lfs pull"),
    ("a git-lfs pointer as archive", _file("f.npz", POINTER), "git-lfs pointer.*git lfs pull"),
    ("a git-lfs pointer as metadata", _damaged("zstd.zarr", "zarr.json", lambda b: POINTER), "git-lfs pointer"),
    ("a git-lfs pointer as a chunk", _damaged("zstd.zarr", "c/0/0/0", lambda b: POINTER), "git-lfs pointer"),
    ("HDF5", _file("f.npy", b"\x89HDF\r\n\x1a\n" + bytes(99)), "HDF5 or netCDF file; save the field as .npy"),
    ("a cut file", _damaged("f.npy", "", lambda b: b[:-8]), "has 1,800 bytes, but .* takes 1,808"),
    ("a longer file", _damaged("f.npy", "", lambda b: b + bytes(8)), "has 1,816 bytes, but .* takes 1,808"),
    ("a cut header", _damaged("f.npy", "", lambda b: b[:50]), "not a readable .npy"),
    ("objects", lambda f: (np.save(f / "o.npy", np.array([{}]), allow_pickle=True), f / "o.npy")[1], "no real number"),
    ("a cut archive", _damaged("packed.npz", "", lambda b: b[:-30]), "not a readable .npz"),
    ("an altered value", _damaged("f.npz", "", lambda b: b[:300] + b"\0\0\0\0" + b[304:]), "CRC-32"),
    ("no array of that name", _npz(a=SMALL, b=SMALL), "has the arrays a, b but no 'loss'"),
    ("nothing in the archive", _npz(), "not a readable|holds no .npy but nothing"),
    ("an archive larger than its array", _bomb, "not a readable .npy"),
    ("a torn zarr.json", _damaged("zstd.zarr", "zarr.json", lambda b: b[: len(b) // 2]), "torn Zarr metadata"),
    (
        "a shape twice",
        _damaged("zstd.zarr", "zarr.json", lambda b: b[:-2] + b', "shape": [3, 6, 7]}'),
        "the key shape is given twice",
    ),
    ("a group's copy says otherwise", _copied(3), "metadata and the copy of them in .*g.zarr differ in shape; restore"),
    ("a copy of format 2", _copied(2), "metadata and the copy of them in .*g.zarr differ in shape"),
    ("a zarr.json of another kind", _damaged("zstd.zarr", "zarr.json", lambda b: b"[[]]"), "torn Zarr metadata"),
    ("deep metadata", _damaged("zstd.zarr", "zarr.json", lambda b: b"[" * 10**6), "torn Zarr metadata"),
    ("a torn .zarray", _damaged("two.zarr", ".zarray", lambda b: b[:40]), "torn Zarr metadata"),
    ("a torn .zattrs", _damaged("two.zarr", ".zattrs", lambda b: b"{"), "torn Zarr metadata"),
    ("unknown codec", _damaged("zstd.zarr", "zarr.json", lambda b: b.replace(b"zstd", b"zzzz")), "readable Zarr array"),
    ("a larger shape", _damaged("raw.zarr", "zarr.json", lambda b: b.replace(b"5,", b"5000000000000,", 1)), "missing"),
    ("a cut chunk", _damaged("zstd.zarr", "c/0/0/0", lambda b: b[:-9]), "c/0/0/0: the chunk is damaged"),
    ("an empty chunk", _damaged("gzip.zarr", "c/0/1/0", lambda b: b""), "c/0/1/0: the chunk is damaged"),
    ("a cut raw chunk", _damaged("raw.zarr", "c/0/0/0", lambda b: b[:-8]), "the chunk is truncated, or of another"),
    ("a long raw chunk", _damaged("raw.zarr", "c/0/0/0", lambda b: b + b[:8]), "the chunk is truncated, or of another"),
    ("a cut Blosc frame", _damaged("blosc.zarr", "c/0/0/0", lambda b: b[:-9]), "Blosc's header says another length"),
    ("an altered chunk", _damaged("crc.zarr", "c/0/0/0", lambda b: b"\1" + b[1:]), "chunk is damaged .*checksum"),
    ("a cut shard", _damaged("sharded.zarr", "c/0/0/0", lambda b: b[9:]), "truncated|torn|damaged"),
    ("a torn index", _damaged("sharded.zarr", "c/0/0/0", lambda b: b[:-9] + b"\7" + b[-8:]), "index is torn"),
    ("inner chunks never written", _unwritten, "12 inner chunks of the shard are missing"),
    ("a group", _xarray(3, SMALL, ""), r"loss \(3 × 4, float64\).*name one of them: .*g.zarr/loss$"),
    ("a group of format 2", _xarray(2, SMALL, ""), r"loss \(3 × 4, <f8\).*name one of them"),
    ("a folder", lambda f: f, "a folder with neither a study nor a Zarr array"),
    ("a negative scale", _xarray(3, SMALL, scale_factor=-0.1), "scale_factor = -0.1.*decode it first"),
    ("an offset", _xarray(2, SMALL, add_offset=4.0), "add_offset = 4.0.*decode it first"),
    ("a mark", _xarray(3, HOLES, _FillValue=-9999.0), "holds _FillValue = -9999.0.*decode it first"),
    ("a mark of format 2", _xarray(2, HOLES, _FillValue=-9999.0), "holds _FillValue = -9999.0"),
    ("a mark of integers", _xarray(3, HOLES, dtype="i4", _FillValue=-1), "holds _FillValue = -1"),
    ("another mark", _attributes(2, missing_value=[3.0, 99.0]), "holds missing_value = 3.0"),
    ("out of range", _attributes(3, valid_range=[0.0, 10.5]), "outside of its valid range, 0.0 to 10.5"),
    ("below the range", _attributes(3, valid_min=0.5), "outside of its valid range, 0.5 to None"),
    ("an archive that is unpacked as a whole", _packed(zipfile.ZIP_BZIP2), "is compressed by bzip2; save the field"),
    ("another one", _packed(zipfile.ZIP_LZMA), "is compressed by lzma; save the field"),
    ("above the range", _attributes(2, valid_max=10), "outside of its valid range, None to 10"),
    ("unsigned", _attributes(2, "i1", _Unsigned="true"), "_Unsigned = true"),
    ("a mark in words", _attributes(3, missing_value="none"), "is no number"),
    ("integers beyond float64", lambda f: (np.save(f / "i.npy", [2**53 + 1, 2**53]), f / "i.npy")[1], "float64 of its"),
    (
        "a study with an altered value",
        _damaged("study", "study.zarr/main/loss/c.0.0.0", lambda b: b"\1" + b[1:]),
        "SHA",
    ),
    ("a study of another shape", _study_of_other_shape, "metadata were altered"),
    ("a torn study", _damaged("study", "study.zarr/main/zarr.json", lambda b: b[:99]), "cannot be read"),
    ("a study without losses", _damaged("study", "study.zarr/main/loss/zarr.json", lambda b: b"{}"), "were altered"),
]


@pytest.mark.parametrize(("make", "says"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_is_refused_is_refused_in_one_sentence(make: Any, says: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(InputError, match=says) as caught:
        reader, _ = open_field(path)
        from landscaper_hpc.topology.readers import read_block

        read_block(reader, tuple(slice(0, k) for k in reader.shape), False)
    said = str(caught.value)
    assert "\n" not in said
    assert str(tmp_path) in said or "integer" in said
    assert "remove" not in said or "study" in path.name


READ: list[tuple[str, Callable[[Path], Path], Any]] = [
    ("xarray's own", _xarray(3, SMALL), SMALL),
    ("xarray's own, format 2", _xarray(2, SMALL), SMALL),
    ("NaN, which stands for itself", _xarray(3, HOLES), HOLES),
    ("NaN, format 2", _xarray(2, HOLES), HOLES),
    ("a mark that nothing has", _xarray(2, SMALL, _FillValue=-9999.0), SMALL),
    ("a neutral scale", _attributes(3, scale_factor=1.0, add_offset=0), SMALL),
    ("a range that holds", _attributes(3, valid_range=[0, 11]), SMALL),
    ("a fill value of zarr's own", _attributes(2), SMALL),
    ("an archive under another name", lambda f: _npz(x=SMALL)(f).rename(f / "f.npy"), SMALL),
    *((name, lambda f, n=name: (FORMATS[n](f / n), f / n)[1], FIELD) for name in FORMATS),  # type: ignore[misc]
]


@pytest.mark.parametrize(("make", "values"), [case[1:] for case in READ], ids=[case[0] for case in READ])
def test_what_is_read_is_what_was_written(make: Any, values: Any, tmp_path: Path) -> None:
    path = make(tmp_path)
    np.testing.assert_array_equal(read(path), values)
    reader, _ = open_field(path)
    box = tuple(slice(1, k - 1) for k in values.shape)
    np.testing.assert_array_equal(reader.read(box), values[box])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.thorough
def test_damage_is_a_sentence_or_values_and_never_wrong_ones_under_a_checksum(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    FORMATS[name](path)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    rng = np.random.default_rng(3)
    refused = 0
    for file in files[:: max(1, len(files) // 6)]:
        whole = file.read_bytes()
        for place in rng.integers(0, max(1, len(whole)), 5).tolist():
            flipped = bytearray(whole or b"\0")
            flipped[place] ^= 1 << (place % 8)
            for content in (whole[:place], bytes(flipped)):
                file.write_bytes(content)
                try:
                    found = read(path)
                except InputError as error:
                    refused += 1
                    assert "\n" not in str(error)
                else:
                    checked = name in CHECKED and file.suffix != ".json"
                    assert not checked or np.array_equal(found, FIELD), (file, place)
        file.write_bytes(whole)
    assert refused >= 5  # what is cut, at least
    np.testing.assert_array_equal(read(path), FIELD)


def test_a_file_that_shrinks_or_changes_while_it_is_read_is_a_sentence(tmp_path: Path) -> None:
    FORMATS["f.npy"](tmp_path / "f.npy")
    for change in (lambda f: os.truncate(f, 500), lambda f: np.save(f, FIELD + 1)):
        FORMATS["f.npy"](tmp_path / "f.npy")
        reader = NpyReader(tmp_path / "f.npy")
        reader.read((slice(0, 2), slice(0, 6), slice(0, 7)))
        os.utime(tmp_path / "f.npy", ns=(0, 0))
        change(tmp_path / "f.npy")
        with pytest.raises(InputError, match="changed while it was read"):
            reader.read((slice(0, 5), slice(0, 6), slice(0, 7)))


@pytest.mark.thorough
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_is_not_unpacked_into_memory(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "zeros.npz", loss=np.zeros((80, 300, 300)))
    tracemalloc.start()
    try:
        reader = open_npz(tmp_path / "zeros.npz")
        assert not reader.read((slice(40, 41), slice(0, 300), slice(0, 300))).any()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000  # of 57.6 MB


@pytest.mark.thorough
def test_chunks_that_are_decoded_whole_are_counted(tmp_path: Path) -> None:
    """Before they are read: they take more than the values of any block."""
    _one_chunk(tmp_path / "whole.zarr", chunks=(80, 300, 300))
    _one_chunk(tmp_path / "cut.zarr", chunks=(8, 300, 300))
    _one_chunk(tmp_path / "inner.zarr", chunks=(8, 300, 300), shards=(80, 300, 300))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="115200000 of them for chunks, which are decoded whole"):
            merge_tree_blocks(open_field(tmp_path / "whole.zarr")[0], max_memory=300_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000  # of 57.6 MB
    for name in ("cut.zarr", "inner.zarr"):
        found = merge_tree_blocks(open_field(tmp_path / name)[0], max_memory=300_000_000)
        assert found.planned_bytes <= 300_000_000
        assert found.tree is not None
        assert found.tree.n_minima == 1


def _one_chunk(path: Path, **options: Any) -> None:
    array = zarr.create_array(path, shape=(80, 300, 300), dtype="f8", config={"write_empty_chunks": True}, **options)
    array[...] = 0.0


def test_an_archive_for_which_the_disk_is_too_small_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FORMATS["packed.npz"](tmp_path / "f.npz")
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match=r"takes 1,808 bytes unpacked, more than .* set TMPDIR"):
        open_npz(tmp_path / "f.npz")


def test_many_axes_have_two_neighbours_each() -> None:
    assert stencil("axis", 3).tolist() == [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert stencil("axis", 60).shape == (120, 60)
    field = np.random.default_rng(0).random((2,) * 16)
    tree = merge_tree(field, labels=True)
    bits = 1 << np.arange(16)
    around = field.reshape(-1)[np.arange(2**16)[:, None] ^ bits]
    assert sorted(tree.minima) == np.flatnonzero((around > field.reshape(-1, 1)).all(axis=1)).tolist()
    assert len(Boxes((2,) * 30, (1, *(2,) * 29)).neighbours(0)) == 1
    with pytest.raises(InputError, match="max-memory"):
        choose_boxes((2,) * 30, 8, max_memory=1)


@pytest.mark.parametrize(("connectivity", "most"), [("full", 8), ("freudenthal", 11)])
def test_too_many_neighbours_are_refused_before_memory_is_spent(connectivity: Any, most: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"of 17 axes .* neighbours.*choose axis, which gives it 34"):
            merge_tree(np.zeros((2,) * 17), connectivity)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000
    with pytest.raises(InputError, match="choose axis"):
        merge_tree(np.zeros((2,) * (most + 1)), connectivity)
    assert merge_tree(np.zeros((2,) * 3 + (1,) * 20), connectivity).n_minima == 1


def test_labels_of_more_axes_than_can_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="labels of 33 axes cannot be written"):
        merge_tree_blocks(ArrayReader(np.zeros((1,) * 30 + (2,) * 3)), labels=ZarrLabels(tmp_path / "l.zarr"))


def test_integers_that_float64_cannot_tell_apart_are_refused() -> None:
    for values in ([2**53 + 1, 2**53], np.array([2**63, 2**63 + 1], np.uint64)):
        with pytest.raises(InputError, match="subtract an offset"):
            merge_tree(values)
        with pytest.raises(InputError, match="subtract an offset"):
            merge_tree_graph(values, [0, 1, 2], [1, 0])
    assert merge_tree([2**53, -(2**53)]).n_minima == 1
