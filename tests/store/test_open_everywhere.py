"""The store is plain Zarr v3: zarr-python writes the same metadata, and xarray opens, lists and converts all of it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from landscaper_hpc import Axis, Grid, LandscapeStore
from landscaper_hpc.store import zarr_files
from landscaper_hpc.store.layout import StoredDirections, consolidate_root, make_root
from landscaper_hpc.topology import merge_tree
from tests.store.test_store import field, fill, science

NAMES = [
    "net.0.weight",
    "a/b c",
    "direction",
    "ü..x",
    ".hidden",
    "__x",
    "w",
    "w_0",
    "zarr.json",
    "name" * 90,
    "CON",
    "%",
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A finished `study.zarr` of two landscapes, whose parameters have odd names."""
    generator, values = np.random.default_rng(0), field(5, 7)
    vectors = {name: generator.normal(size=(2, *range(2, 2 + i % 3))) for i, name in enumerate(NAMES)}
    found = StoredDirections(vectors, np.eye(2), {"eigenvalues": np.array([2.0, 1.0]), "trace": np.array([3.0, 0.1])})
    for name in ("a", "b-1"):
        about = science(5, 7, directions={"normalization": "model"})
        grid = Grid((Axis(-0.5, 0.5, 5), Axis(-1, 1, 7)))
        more = {"iterations": None, "checkpoint_loss": "NaN", "batch": 4, "mode": "[vmap]"}
        store = LandscapeStore.create(tmp_path / "study.zarr", name, about, grid, (2, 7), found, more)
        fill(store, values)
        store.write_tree(merge_tree(values))
    consolidate_root(tmp_path / "study.zarr")
    return tmp_path / "study.zarr"


def test_odd_names_of_parameters_and_kinds_of_attributes_come_back(path: Path) -> None:
    store = LandscapeStore(path, "a")
    vectors, generator = store.directions().vectors, np.random.default_rng(0)
    assert sorted(vectors) == sorted(NAMES)
    for i, name in enumerate(NAMES):
        assert vectors[name].tobytes() == generator.normal(size=(2, *range(2, 2 + i % 3))).tobytes()
    found = {key: store.attributes[key] for key in ("iterations", "checkpoint_loss", "batch", "mode")}
    assert found == {"iterations": None, "checkpoint_loss": "NaN", "batch": 4, "mode": "[vmap]"}


def test_zarr_would_write_the_same_metadata(path: Path) -> None:
    for folder in (path, path / "a"):
        ours = json.loads((folder / "zarr.json").read_text())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # consolidated metadata are not in the specification yet
            zarr.consolidate_metadata(folder)
        assert json.loads((folder / "zarr.json").read_text()) == ours
    LandscapeStore(path, "a")  # and it is as it was sealed


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1, 3)])
def test_zarr_reads_every_type(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    values = (np.arange(np.prod(shape)) % 2).reshape(shape).astype(dtype)
    zarr_files.save(tmp_path / "x", values, [f"d{i}" for i in range(len(shape))], {})
    found = np.asarray(zarr.open_array(tmp_path / "x", mode="r")[...])
    assert found.dtype == values.dtype
    assert found.tobytes() == values.tobytes()
    loaded = zarr_files.load(tmp_path / "x", zarr_files.read_document(tmp_path / "x"))
    assert (loaded.tobytes(), loaded.shape) == (values.tobytes(), shape)


def test_xarray_opens_a_landscape_without_hashes_among_its_data(path: Path, tmp_path: Path) -> None:
    dataset = xr.open_zarr(path, group="a")
    assert list(dataset.data_vars) == ["loss"]
    assert dataset["alpha_0"].attrs == {
        "long_name": "displacement along direction 0",
        "units": "norm of theta*",
        "sha256": dataset["alpha_0"].attrs["sha256"],
    }
    assert dataset["loss"].attrs["units"] == "1"
    assert dataset.attrs["format"] == 2
    assert json.loads(dataset.attrs["science"])["connectivity"] == "axis"
    dataset.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as again:
        assert again["loss"].values.tobytes() == field(5, 7).tobytes()
        assert again.attrs["study_id"] == dataset.attrs["study_id"]


@pytest.mark.thorough
def test_xarray_opens_and_converts_the_whole_tree(path: Path, tmp_path: Path) -> None:
    tree = xr.open_datatree(path, engine="zarr")
    groups = {node.path for node in tree.subtree}
    of_each = ("", "/done", "/directions", "/hessian", "/topology", "/topology/axis.sublevel")
    assert groups == {"/", *(f"/{name}{group}" for name in ("a", "b-1") for group in of_each)}
    for node in tree.subtree:
        for variable in node.data_vars.values():
            assert all(not str(name).startswith("dim_") for name in variable.dims)
            assert variable.attrs["long_name"]
    assert tree["a/topology/axis.sublevel"]["minima"].dims == ("minimum",)
    assert tree["a/hessian"]["eigenvalues"].dims == ("direction",)
    tree.to_netcdf(tmp_path / "tree.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "tree.nc", engine="h5netcdf") as again:
        assert {node.path for node in again.subtree} == groups
        assert again["b-1"]["loss"].values.tobytes() == field(5, 7).tobytes()


def test_what_is_listed_does_not_go_stale(path: Path) -> None:
    store = LandscapeStore(path, "a")
    store.write_tree(merge_tree(store.loss(), "full", "superlevel"))
    assert "/a/topology/full.superlevel" in {node.path for node in xr.open_datatree(path, engine="zarr").subtree}
    make_root(path)  # what a new landscape does: it would not be listed
    assert "consolidated_metadata" not in json.loads((path / "zarr.json").read_text())
