"""What `import` makes of others' files: an ordinary study's folder, which says what it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import jsonschema
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from landscaper_hpc import InputError, open_landscape
from landscaper_hpc.exchange import export, import_landscapes
from landscaper_hpc.report.describe import SCHEMA_FILE
from landscaper_hpc.report.results import read_results
from landscaper_hpc.topology import merge_tree
from tests.exchange.peers import wells_at
from tests.kinds import thorough
from tests.studies import command, contents, wells

AXIS = np.linspace(-1.5, 1.5, 11)


def written(folder: Path, kind: str, values: np.ndarray, axes: list[np.ndarray]) -> Path:
    """A file as its own program writes it."""
    folder.mkdir(exist_ok=True)
    file = folder / f"theirs.{kind}"
    if kind == "npz":
        np.savez(file, loss=values, coordinates=axes)
    elif kind == "h5":
        with h5py.File(file, "w") as held:
            held["dir_file"] = "directions.h5"
            held["xcoordinates"], held["ycoordinates"] = axes
            held["train_loss"] = -np.ones(values.shape)
            x, y = np.meshgrid(*axes)
            for i in range(values.size):  # as its plot_surface.py goes about it
                at = [int(np.flatnonzero(axis == c.ravel()[i])[0]) for axis, c in zip(axes, (x, y), strict=True)]
                flat = held["train_loss"][:]
                flat.ravel()[i] = values[tuple(at)]
                held["train_loss"][:] = flat
    else:
        places = np.meshgrid(*axes, indexing="ij")
        table = pd.DataFrame({f"alpha_{d}": place.ravel() for d, place in enumerate(places)} | {"loss": values.ravel()})
        table = table.sample(frac=1, random_state=0)
        table.to_csv(file, index=False) if kind == "csv" else table.to_parquet(file)
    return file


@pytest.mark.thorough
@pytest.mark.usefixtures("words_only")
@pytest.mark.parametrize("kind", ["npz", thorough("h5"), thorough("csv"), thorough("parquet")])
def test_losses_come_as_they_are_and_every_command_reads_them(tmp_path: Path, kind: str) -> None:
    axes = [AXIS, AXIS + 0.25] if kind == "npz" else [AXIS, np.linspace(-1, 2, 8)]
    values = wells_at(np.stack(np.meshgrid(*axes, indexing="ij")))
    values[0, :3] = [np.nan, np.inf, 7]
    file, out = written(tmp_path, kind, values, axes), tmp_path / "run"
    done = command("import", file, "--out", out, "--connectivity", "full")
    assert done.returncode == 0, done.stderr
    assert "imported from theirs." in done.stdout
    store = open_landscape(out)
    np.testing.assert_array_equal(store.loss(), values)
    for mine, theirs in zip(store.grid.coordinates(), axes, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-15)
    np.testing.assert_array_equal(store.tree().minima, merge_tree(values, "full").minima)
    np.testing.assert_array_equal(xr.open_zarr(out / "study.zarr", group="theirs").loss, values)
    np.testing.assert_array_equal(store.to_datatree()["topology/full.sublevel/minima"], store.tree().minima)
    assert json.loads(command("topology", out, "--json").stdout)["connectivity"] == "full"
    assert command("status", out).stdout.startswith("theirs  ")
    assert command("report", out).returncode == 0
    page = (out / "report.html").read_text()
    assert "imported from theirs." in page
    assert "there is no model behind it" in page
    assert "task file" not in page
    jsonschema.validate(json.loads((out / "results.json").read_text()), json.loads(SCHEMA_FILE.read_text()))


@pytest.mark.thorough
@pytest.mark.usefixtures("words_only")
def test_what_was_exported_comes_back_with_the_same_numbers(tmp_path: Path) -> None:
    study = wells(tmp_path, n=3, count=7)
    assert command("run", study, "--executor", "serial", "--out", tmp_path / "run", "-q").returncode == 0
    own = read_results(tmp_path / "run" / "results.json")["landscapes"][0]
    for kind in ("npz", "csv", "parquet"):
        file, *_ = export(tmp_path / "run", [kind], folder=tmp_path / "files")
        (theirs,) = import_landscapes([file], tmp_path / kind)["landscapes"]
        assert theirs["topology"] == own["topology"]
        assert (theirs["loss"], theirs["grid"]) == (own["loss"], own["grid"])
        assert np.isnan(theirs["directions"]["skew"])
        assert theirs["directions"]["eigenvalues"] is None


@pytest.mark.thorough
@pytest.mark.usefixtures("words_only")
def test_several_files_are_landscapes_of_one_study_and_give_the_same_bytes(tmp_path: Path) -> None:
    values = wells_at(np.stack(np.meshgrid(AXIS, AXIS, indexing="ij")))
    for name in ("seed 1", "seed_2"):
        written(tmp_path, "npz", values + len(name), [AXIS, AXIS]).rename(tmp_path / f"{name}.npz")
    files = [tmp_path / "seed 1.npz", tmp_path / "seed_2.npz"]
    results = import_landscapes(files, tmp_path / "a", name="seeds")
    assert [item["name"] for item in results["landscapes"]] == ["seed-1", "seed_2"]
    assert results["study"] == "seeds"
    import_landscapes(files, tmp_path / "b", name="seeds")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert results["provenance"]["notices"]["seed_2"][0] == "imported from seed_2.npz: there is no model behind it"


def test_a_landscape_without_its_middle_has_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "plain.npz"
    np.savez(file, loss=np.arange(12, dtype=np.float32).reshape(3, 4))
    (entry,) = import_landscapes([file], tmp_path / "run")["landscapes"]
    assert entry["grid"]["ranges"] == [[0, 2], [0, 3]]
    assert entry["evaluation"]["precision"] == "float32"
    assert entry["loss"] == 0.0
    even = written(tmp_path, "parquet", np.zeros((4, 4)), [np.linspace(-1, 1, 4)] * 2)
    (entry,) = import_landscapes([even], tmp_path / "even")["landscapes"]
    assert np.isnan(entry["loss"])


def _not_evaluated(folder: Path) -> Path:
    file = written(folder, "h5", np.ones((3, 3)), [np.arange(3.0)] * 2)
    with h5py.File(file, "r+") as held:
        held["train_loss"][1, 1] = -1
    return file


def _without(folder: Path) -> Path:
    with h5py.File(folder / "x.h5", "w") as held:
        held["train_acc"] = np.ones(3)
    return folder / "x.h5"


def _table(folder: Path, text: str) -> Path:
    (folder / "x.csv").write_text(text)
    return folder / "x.csv"


def _archive(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing there": (lambda f: f / "x.npz", "is no file; correct its name"),
    "another kind": (lambda f: f / "x.pkl", "none of .npz, .h5, .csv, .parquet, .vti; rename it"),
    "no archive": (lambda f: _table(f, "x").rename(f / "x.npz"), "not a readable .npz file"),
    "coordinates of others": (lambda f: _archive(f, loss=np.ones((3, 3)), coordinates=np.ones((2, 4))), "one row of"),
    "ragged coordinates": (
        lambda f: _archive(f, loss=np.ones((3, 2)), coordinates=np.array([[1, 2, 3], [1]], dtype=object)),
        "its coordinates cannot be read",
    ),
    "complex": (lambda f: _archive(f, loss=np.ones((3, 3), complex)), "is no real number"),
    "uneven": (
        lambda f: _archive(f, loss=np.ones((3, 3)), coordinates=np.array([[0, 1, 2], [0, 1, 3.0]])),
        "the points along axis 1 are not equally far apart",
    ),
    "falling": (
        lambda f: _archive(f, loss=np.ones((2, 2)), coordinates=np.array([[0, 1], [1, 0.0]])),
        "the coordinates of axis 1 do not grow",
    ),
    "not finished": (_not_evaluated, "1 of its 9 points are not evaluated"),
    "no losses": (_without, "holds train_acc, no xcoordinates"),
    "no hdf": (lambda f: _table(f, "x").rename(f / "x.h5"), "is no readable .h5 file"),
    "no columns": (lambda f: _table(f, "a,b\n1,2\n"), "has the columns a, b; it needs alpha_0"),
    "words": (lambda f: _table(f, "alpha_0,loss\n0,x\n1,y\n"), "the column loss holds other things than numbers"),
    "no grid": (lambda f: _table(f, "alpha_0,alpha_1,loss\n0,0,1\n0,1,1\n1,0,1\n"), "which is no grid of 2 × 2"),
    "twice": (lambda f: _table(f, "alpha_0,loss\n0,1\n0,2\n1,2\n"), "3 points, which is no grid of 2"),
    "an axis left out": (
        lambda f: _table(f, "alpha_0,alpha_2,loss\n0,0,1\n1,0,2\n"),
        "alpha_2, and none that is alpha_1",
    ),
    "a column twice": (lambda f: _table(f, "alpha_0,loss,loss\n0,1,2\n1,2,3\n"), "more than one column loss; keep one"),
    "no rows": (lambda f: _table(f, "alpha_0,loss\n"), "has columns and no rows"),
    "empty": (lambda f: _table(f, ""), "is no readable table"),
    "no parquet": (lambda f: _table(f, "x").rename(f / "x.parquet"), "is no readable table"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_imported_is_one_sentence(tmp_path: Path, case: str) -> None:
    make, said = BAD[case]
    done = command("import", make(tmp_path), "--out", tmp_path / "run")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_other_refusals(tmp_path: Path) -> None:
    line, plane = (
        _archive(tmp_path, loss=np.ones(3)).rename(tmp_path / "line.npz"),
        _archive(tmp_path, loss=np.ones((3, 3))).rename(tmp_path / "plane.npz"),
    )
    (tmp_path / "other").mkdir()
    shutil.copy(line, tmp_path / "other" / "line.npz")
    for files, out, connectivity, said in (
        ([line], tmp_path / "other", "axis", "there is something already"),
        ([line, plane], tmp_path / "run", "axis", "one number of axes"),
        ([line, tmp_path / "other" / "line.npz"], tmp_path / "run", "axis", "one name but for its end"),
        ([line], tmp_path / "run", "round", "connectivity round: must be one of axis, freudenthal, full"),
    ):
        with pytest.raises(InputError, match=said):
            import_landscapes(files, out, connectivity=connectivity)
        assert not (tmp_path / "run").exists()
