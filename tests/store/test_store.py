"""The store's promises: whole shards, exactly once, torn data found, other studies refused, readable by xarray."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from studies import on_a_small_disk

from landscaper_hpc import Axis, Grid, InputError, LandscapeStore, open_landscape
from landscaper_hpc.exchange import export
from landscaper_hpc.store.landscape import landscape_names
from landscaper_hpc.store.layout import StoredDirections, consolidate_root
from landscaper_hpc.topology import merge_tree


def science(*counts: int, **more: Any) -> dict[str, Any]:
    return {"grid": [[-0.5, 0.5, k] for k in counts], "connectivity": "axis", **more}


def directions(n: int) -> StoredDirections:
    generator = np.random.default_rng(0)
    vectors = {"net.0.weight": generator.normal(size=(n, 4, 3)), "scale": generator.normal(size=(n,))}
    return StoredDirections(vectors, np.eye(n), {"eigenvalues": np.arange(n, 0.0, -1), "residuals": np.full(n, 1e-4)})


def make(path: Path, *counts: int, shard: tuple[int, ...], name: str = "a", **attributes: Any) -> LandscapeStore:
    grid = Grid(tuple(Axis(-0.5, 0.5, k) for k in counts))
    more = {"batch": 4, **attributes}
    return LandscapeStore.create(path, name, science(*counts), grid, shard, directions(len(counts)), more)


def field(*counts: int) -> np.ndarray:
    values = np.random.default_rng(1).normal(size=counts)
    values.flat[:3] = [np.nan, np.inf, -np.inf]
    return values


def fill(store: LandscapeStore, values: np.ndarray) -> None:
    for shard in store.pending():
        store.write(shard, values[shard.region])


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder with the hash of its bytes."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.mark.parametrize(
    ("counts", "shard"),
    [((5,), (2,)), ((5, 3), (2, 3)), ((3, 7, 5), (1, 3, 5)), ((3, 3, 5, 3), (2, 2, 2, 2)), ((3,) * 5, (1, 1, 3, 3, 3))],
)
def test_what_is_written_is_read_to_the_bit(tmp_path: Path, counts: tuple[int, ...], shard: tuple[int, ...]) -> None:
    store, values = make(tmp_path / "study.zarr", *counts, shard=shard), field(*counts)
    assert len(store.pending()) == store.n_shards() == len(list(store.shards()))
    fill(store, values)
    assert store.pending() == []
    assert store.n_done() == store.n_shards()
    again = open_landscape(tmp_path)
    assert again.loss().tobytes() == values.tobytes()
    assert again.verify() == []
    consolidate_root(tmp_path / "study.zarr")
    dataset = xr.open_zarr(tmp_path / "study.zarr", group="a")
    assert list(dataset.data_vars) == ["loss"]
    assert dataset["loss"].values.tobytes() == values.tobytes()
    assert dataset["loss"].dims == tuple(f"alpha_{d}" for d in range(len(counts)))
    for d, coordinates in enumerate(store.grid.coordinates()):
        assert np.array_equal(dataset.coords[f"alpha_{d}"].values, coordinates)


@pytest.mark.parametrize(
    ("counts", "shard"), [((9,), (2,)), ((9, 5), (4, 3)), ((5, 9, 7), (1, 5, 7)), ((5, 5, 9), (5, 2, 4))]
)
@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_nested_grid_is_read_to_the_bit(
    tmp_path: Path, counts: tuple[int, ...], shard: tuple[int, ...], step: int
) -> None:
    store, values = make(tmp_path / "study.zarr", *counts, shard=shard), field(*counts)
    fill(store, values)
    np.testing.assert_array_equal(store.every(step), values[(slice(None, None, step),) * len(counts)])


def test_directions_come_back(tmp_path: Path) -> None:
    found = make(tmp_path / "s.zarr", 3, 3, shard=(3, 3)).directions()
    expected = directions(2)
    assert {k: v.tobytes() for k, v in found.vectors.items()} == {k: v.tobytes() for k, v in expected.vectors.items()}
    assert np.array_equal(found.gram, expected.gram)
    assert {name: values.tolist() for name, values in found.hessian.items()} == {
        "eigenvalues": [2, 1],
        "residuals": [1e-4, 1e-4],
    }


def test_order_and_repetition_do_not_matter(tmp_path: Path) -> None:
    values = field(5, 7)
    for name, order in (("forward", 1), ("backward", -1)):
        store = make(tmp_path / name, 5, 7, shard=(2, 3))
        for shard in list(store.shards())[::order]:
            store.write(shard, values[shard.region])
            store.write(shard, values[shard.region])
    assert contents(tmp_path / "forward") == contents(tmp_path / "backward")


def test_a_missing_shard_is_an_error_not_nan(tmp_path: Path) -> None:
    store, values = make(tmp_path / "s.zarr", 5, 5, shard=(2, 5)), field(5, 5)
    first, *_ = store.shards()
    store.write(first, values[first.region])
    assert store.read(first.region).tobytes() == values[first.region].tobytes()
    with pytest.raises(InputError, match="2 shards of the region are not evaluated"):
        store.loss()
    with pytest.raises(InputError, match="1 shards of the region"):
        store.read((slice(1, 3), slice(0, 2)))


def test_wrong_size_is_refused(tmp_path: Path) -> None:
    store = make(tmp_path / "s.zarr", 5, 5, shard=(2, 5))
    with pytest.raises(ValueError, match="10 points, but 3 values"):
        store.write(next(store.shards()), np.zeros(3))
    assert store.n_done() == 0


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "empty"])
def test_damage_is_found_by_its_hash(tmp_path: Path, damage: str) -> None:
    store, values = make(tmp_path / "s.zarr", 5, 5, shard=(2, 5)), field(5, 5)
    fill(store, values)
    before = contents(tmp_path)
    chunk = tmp_path / "s.zarr/a/loss/c.1.0"
    content = bytearray(chunk.read_bytes())
    content[7] ^= 1
    if damage == "flip":
        chunk.write_bytes(content)
    elif damage == "truncate":
        chunk.write_bytes(content[:9])
    elif damage == "empty":
        chunk.write_bytes(b"")
    else:
        chunk.unlink()
    with pytest.raises(InputError, match=r"c\.1\.0: the chunk is (altered|missing or torn)"):
        LandscapeStore(store.path, store.name).loss()
    assert [shard.index for shard in store.verify()] == [(1, 0)]
    assert [shard.index for shard in store.pending()] == [(1, 0)]
    fill(store, values)
    assert store.verify() == []
    assert contents(tmp_path) == before


@pytest.mark.parametrize("what", ["directions/scale", "hessian/eigenvalues", "topology/axis.sublevel/minima"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damage_to_what_is_no_shard_is_refused(tmp_path: Path, what: str, damage: str) -> None:
    store, values = make(tmp_path / "s.zarr", 5, 5, shard=(2, 5)), field(5, 5)
    fill(store, values)
    store.write_tree(merge_tree(values))
    (chunk,) = (store.folder / what).glob("c*")
    content = bytearray(chunk.read_bytes())
    content[3] ^= 16
    if damage == "remove":
        chunk.unlink()
    else:
        chunk.write_bytes(content if damage == "flip" else content[:-1])
    with pytest.raises(InputError, match=r"torn or altered; remove this folder"):
        store.tree() if what.startswith("topology") else store.directions()


def test_another_study_is_refused(tmp_path: Path) -> None:
    store = make(tmp_path / "s.zarr", 3, 3, shard=(3, 3))
    store.refuse_other(science(3, 3))
    with pytest.raises(InputError, match=r"another study \(grid differ\).*--out"):
        store.refuse_other(science(3, 5))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no landscape"):
        LandscapeStore(tmp_path / "s.zarr", "a")
    with pytest.raises(InputError, match="holds no landscape; `landscaper-hpc run` makes some"):
        open_landscape(tmp_path)
    (tmp_path / "study.zarr").mkdir()  # as a run has it that finds directions
    with pytest.raises(InputError, match="holds no landscape; `landscaper-hpc run` makes some"):
        export(tmp_path, ["npz"])
    make(tmp_path / "study.zarr", 3, shard=(3,), name="a")
    make(tmp_path / "study.zarr", 3, shard=(3,), name="b")
    assert landscape_names(tmp_path / "study.zarr") == ["a", "b"]
    with pytest.raises(InputError, match="holds the landscapes a, b; name one"):
        open_landscape(tmp_path)
    assert open_landscape(tmp_path, "b").name == "b"
    assert open_landscape(tmp_path / "study.zarr" / "b").name == "b"


@pytest.mark.parametrize("text", ["", "{", '{"zarr_format": 3, "node_type": "group", "attributes": {}}'])
def test_corrupt_metadata(tmp_path: Path, text: str) -> None:
    make(tmp_path / "s.zarr", 3, shard=(3,))
    (tmp_path / "s.zarr/a/zarr.json").write_text(text)
    with pytest.raises(InputError, match="metadata cannot be read"):
        LandscapeStore(tmp_path / "s.zarr", "a")


def test_tree_is_stored_and_replaced_whole(tmp_path: Path) -> None:
    store, values = make(tmp_path / "s.zarr", 5, 7, shard=(2, 7)), field(5, 7)
    assert not store.has_tree()
    with pytest.raises(InputError, match="is not evaluated"):
        store.tree()
    fill(store, values)
    (store.folder / "topology/axis.sublevel").mkdir(parents=True)  # is no tree yet
    assert not store.has_tree()
    with pytest.raises(InputError, match=r"no merge tree axis\.sublevel"):
        store.tree()
    tree = merge_tree(values)
    for _ in range(2):
        store.write_tree(tree)
        found = store.tree().to_arrays()
        assert {k: v.tobytes() for k, v in found.items()} == {k: v.tobytes() for k, v in tree.to_arrays().items()}
    assert [p.name for p in (tmp_path / "s.zarr/a/topology").iterdir() if p.name.startswith(".")] == []


@pytest.mark.processes
def test_leftovers_of_killed_writers_are_removed(tmp_path: Path) -> None:
    store, values = make(tmp_path / "s.zarr", 3, 3, shard=(1, 3)), field(3, 3)
    fill(store, values)
    before = contents(tmp_path)
    neighbour = subprocess.Popen(["sleep", "1000"])
    here = f".c.0.0.{socket.gethostname()}.{neighbour.pid}.0a1b2c3d.partial"
    for name in (".c.0.0.elsewhere.17.0a1b2c3d.partial", here):
        (store.folder / "loss" / name).write_bytes(b"torn")
    assert store.pending() == []
    store.tidy()
    assert set(contents(tmp_path)) - set(before) == {f"s.zarr/a/loss/{here}"}  # it may still be writing
    neighbour.kill()
    os.waitid(os.P_PID, neighbour.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    store.tidy()
    assert contents(tmp_path) == before
    neighbour.wait()


@pytest.mark.processes
def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parents[1])!r}, {str(Path(__file__).parents[2])!r}]
from pathlib import Path
import numpy as np
from landscaper_hpc import InputError
from tests.store.test_store import make
store = make(Path({str(tmp_path)!r}) / "mount" / "s.zarr", 21, 99, 99, shard=(1, 99, 99))
done = 0
try:
    for shard in store.pending():
        store.write(shard, np.zeros(shard.shape))
        done += 1
except InputError as error:
    assert "no space left" in str(error) and "same command" in str(error), error
    assert 0 < done == store.n_done() < store.n_shards()
    assert store.verify() == []
    assert not list(store.folder.glob("*/.*.partial"))
    print("refused after", done)
"""
    done = on_a_small_disk(tmp_path / "mount", 1024, sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr
    assert "refused after" in done.stdout
