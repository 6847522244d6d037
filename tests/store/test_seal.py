"""Everything that decides a number is under a hash: what was edited, removed or is foreign is refused in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from landscaper_hpc import InputError, LandscapeStore, open_landscape
from landscaper_hpc.store.landscape import landscape_names
from landscaper_hpc.topology import merge_tree
from tests.store.test_store import contents, field, fill, make

Edit = Callable[[dict[str, Any]], None]


def edited(file: Path, edit: Edit) -> None:
    document = json.loads(file.read_text())
    edit(document)
    file.write_text(json.dumps(document))


def attribute(name: str, old: str, new: str) -> Edit:
    def edit(document: dict[str, Any]) -> None:
        text = json.dumps(document["attributes"][name])
        assert old in text
        document["attributes"][name] = json.loads(text.replace(old, new))

    return edit


def removed(*path: str) -> Edit:
    def edit(document: dict[str, Any]) -> None:
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return edit


def gram_in_the_list(document: dict[str, Any]) -> None:
    document["consolidated_metadata"]["metadata"]["directions"]["attributes"]["gram"] = "[[2.0, 0.0], [0.0, 1.0]]"


@pytest.mark.parametrize(
    ("file", "edit"),
    [
        ("zarr.json", attribute("grid", "0.5", "0.7")),
        ("zarr.json", attribute("batch", "4", "8")),
        ("zarr.json", attribute("science", "axis", "full")),
        ("zarr.json", attribute("study_id", "a", "b")),
        ("zarr.json", gram_in_the_list),
        ("zarr.json", removed("consolidated_metadata", "metadata", "hessian")),
        ("zarr.json", removed("consolidated_metadata", "metadata", "directions/scale")),
        ("loss/zarr.json", lambda d: d["chunk_grid"]["configuration"].update(chunk_shape=[5, 5])),
        ("loss/zarr.json", lambda d: d.update(shape=[5, 4])),
    ],
)
def test_edited_metadata_are_refused_on_opening(tmp_path: Path, file: str, edit: Edit) -> None:
    store = make(tmp_path / "study.zarr", 5, 5, shard=(2, 5))
    edited(store.folder / file, edit)
    with pytest.raises(InputError, match="metadata were altered"):
        open_landscape(tmp_path)


@pytest.mark.parametrize(
    ("what", "edit"),
    [
        ("hessian/eigenvalues", lambda d: d.update(data_type="int64")),
        ("directions/scale", lambda d: d["attributes"].update(parameter="other")),
        ("directions/net.0.weight", lambda d: d["shape"].reverse()),
    ],
)
def test_edited_arrays_are_refused_when_they_are_read(tmp_path: Path, what: str, edit: Edit) -> None:
    store = make(tmp_path / "study.zarr", 5, 5, shard=(2, 5))
    edited(store.folder / what / "zarr.json", edit)
    with pytest.raises(InputError, match=f"the array {what} is torn or altered"):
        open_landscape(tmp_path).directions()
    with pytest.raises(InputError, match="metadata were altered"):
        open_landscape(tmp_path).verify()


@pytest.mark.parametrize("what", ["hessian", "directions", "done", "done/sha256", "loss"])
def test_removed_metadata_are_refused(tmp_path: Path, what: str) -> None:
    store = make(tmp_path / "study.zarr", 5, 5, shard=(2, 5))
    fill(store, field(5, 5))
    (store.folder / what / "zarr.json").unlink()
    with pytest.raises(InputError, match="metadata were altered"):
        LandscapeStore(store.path, store.name).verify()


@pytest.mark.parametrize("what", ["alpha_1", "directions/scale", "hessian/eigenvalues"])
@pytest.mark.parametrize("done", [lambda file: file.write_bytes(np.linspace(0, 1, 5).tobytes()), Path.unlink])
def test_coordinates_directions_and_eigenvalues_that_were_altered_are_refused(
    tmp_path: Path, what: str, done: Callable[[Path], object]
) -> None:
    store = make(tmp_path / "study.zarr", 5, 5, shard=(2, 5))
    (file,) = (store.folder / what).glob("c*")
    done(file)
    with pytest.raises(InputError, match=f"{what} is torn or altered"):
        store.verify()


@pytest.mark.parametrize("found", [1, 3, "new"])
def test_another_format_is_refused_by_its_number(tmp_path: Path, found: Any) -> None:
    store = make(tmp_path / "study.zarr", 5, 5, shard=(2, 5))
    science = store.attributes["science"]
    for folder in store.path, store.folder:
        before = (folder / "zarr.json").read_text()
        edited(folder / "zarr.json", lambda document: document["attributes"].update(format=found))
        with pytest.raises(InputError, match=rf"format {found}, this version reads 2; .* in another folder \(--out\)"):
            open_landscape(tmp_path).refuse_other(science)
        (folder / "zarr.json").write_text(before)
    edited(store.folder / "zarr.json", removed("attributes", "format"))  # as the first one was
    with pytest.raises(InputError, match="format 1, this version reads 2"):
        open_landscape(tmp_path)


# ---- merge trees ----------------------------------------------------------------------------------------------------


def finished(folder: Path) -> tuple[LandscapeStore, np.ndarray]:
    store, values = make(folder / "study.zarr", 5, 7, shard=(2, 7)), field(5, 7)
    fill(store, values)
    store.write_tree(merge_tree(values))
    return store, values


def test_a_tree_of_another_direction_or_connectivity_lies_beside_the_studys(tmp_path: Path) -> None:
    store, values = finished(tmp_path)
    before = store.tree().to_arrays()
    for connectivity, direction in (("axis", "superlevel"), ("full", "sublevel")):
        other = merge_tree(values, connectivity, direction)
        store.write_tree(other)
        found = store.tree(connectivity, direction).to_arrays()
        assert {k: v.tobytes() for k, v in found.items()} == {k: v.tobytes() for k, v in other.to_arrays().items()}
    assert {k: v.tobytes() for k, v in store.tree().to_arrays().items()} == {k: v.tobytes() for k, v in before.items()}
    listed = json.loads((store.folder / "zarr.json").read_text())["consolidated_metadata"]["metadata"]
    assert {"topology/axis.sublevel/minima", "topology/axis.superlevel/minima"} <= set(listed)


def test_a_sound_tree_is_not_replaced_by_another(tmp_path: Path) -> None:
    store, values = finished(tmp_path)
    before = contents(tmp_path)
    store.write_tree(merge_tree(values, labels=True))  # the same one
    assert contents(tmp_path) == before
    with pytest.raises(InputError, match="holds the merge tree of these losses"):
        store.write_tree(store.tree().simplify(0.5))
    with pytest.raises(InputError, match="made from other losses"):
        store.write_tree(merge_tree(values + 1))
    with pytest.raises(InputError, match="made from other losses"):
        store.write_tree(merge_tree(values[:3]))
    assert contents(tmp_path) == before


def test_a_tree_of_other_losses_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    store, values = finished(tmp_path)
    other = make(tmp_path / "other.zarr", 5, 7, shard=(2, 7))
    fill(other, values[::-1])
    shutil.copytree(store.folder / "topology", other.folder / "topology")
    assert other.has_tree()
    assert not other.has_sound_tree()
    with pytest.raises(InputError, match=r"axis\.sublevel was made from other losses"):
        other.tree()
    other.write_tree(merge_tree(values[::-1]))
    assert other.tree().minima.tolist() == merge_tree(values[::-1]).minima.tolist()


@pytest.mark.parametrize("key", ["n_vertices", "value_range", "losses_sha256", "sha256"])
def test_an_edited_tree_is_no_tree(tmp_path: Path, key: str) -> None:
    store, values = finished(tmp_path)
    before = contents(tmp_path)
    file = store.folder / "topology/axis.sublevel/zarr.json"
    edited(file, lambda document: document["attributes"].update({key: 7}))
    with pytest.raises(InputError, match="torn or altered; remove this folder and run the study again"):
        store.tree()
    store.write_tree(merge_tree(values))
    assert contents(tmp_path) == before


# ---- versions -------------------------------------------------------------------------------------------------------

BEGUN = {"versions": {"torch": "2.4.0", "numpy": "2.0", "landscaper-hpc": "0.1", "python": "3.11.7"}, "device": "a cpu"}


def with_versions(**versions: str) -> dict[str, Any]:
    return {**BEGUN, "versions": {**BEGUN["versions"], **versions}}


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (with_versions(torch="2.5.0"), "with torch 2.4.0, and here is torch 2.5.0 "),
        (
            with_versions(numpy="2.1", python="3.12.0"),
            "with numpy 2.0, Python 3.11, and here is numpy 2.1, Python 3.12 ",
        ),
        ({**BEGUN, "device": "a gpu"}, "with device a cpu, and here is device a gpu "),
    ],
)
def test_other_versions_are_refused_and_accepted(tmp_path: Path, now: dict[str, Any], words: str) -> None:
    store = make(tmp_path / "study.zarr", 3, 3, shard=(1, 3), provenance=BEGUN)
    store.admit(with_versions(python="3.11.9", zarr="9"), accept=False)  # decide nothing
    with pytest.raises(InputError, match=f"{words}.*--accept-versions"):
        store.admit(now, accept=False)
    assert store.accepted() == []
    for _ in range(2):
        store.admit(now, accept=True)
        store.admit(now, accept=False)
    assert open_landscape(tmp_path).accepted() == [now]
    assert landscape_names(store.path) == ["a"]
    (recorded,) = (store.folder / "accepted").glob("*/zarr.json")
    recorded.write_text(recorded.read_text().replace("versions", "versionen"))
    with pytest.raises(InputError, match="torn or altered"):
        store.accepted()
