from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
import zarr
from typer.testing import CliRunner

from landscaper_hpc.commands.fields import open_field, parse_size
from landscaper_hpc.commands.topology import topology
from landscaper_hpc.errors import InputError
from landscaper_hpc.topology import contour_tree, merge_tree
from landscaper_hpc.topology.landscaper import smad_landscaper
from landscaper_hpc.topology.metrics import mean_climb, smad
from tests.mpi.test_ranks import ROOT, mpiexec

app = typer.Typer()
app.command()(topology)
PROGRAM = """
import sys, typer
from landscaper_hpc.errors import InputError
from landscaper_hpc.commands.topology import topology
app = typer.Typer()
app.command()(topology)
try:
    app()
except InputError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


def as_json(*arguments: str) -> dict:  # type: ignore[type-arg]
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.fixture
def field(tmp_path: Path) -> np.ndarray:
    values = np.random.default_rng(3).random((8, 7, 6))
    np.save(tmp_path / "f.npy", values)
    np.savez(tmp_path / "f.npz", loss=values, coordinates=np.zeros(3))
    array = zarr.create_array(tmp_path / "f.zarr", shape=values.shape, chunks=(3, 3, 3), dtype="f8")
    array[...] = values
    return values


@pytest.mark.parametrize("name", ["f.npy", "f.npz", "f.zarr"])
def test_all_sources_give_the_same(name: str, field: np.ndarray, tmp_path: Path) -> None:
    tree = merge_tree(field, "full")
    found = as_json(str(tmp_path / name), "--connectivity", "full")
    assert found["shape"] == [8, 7, 6]
    assert found["connectivity"] == "full"
    assert found["n_minima"] == tree.n_minima
    assert found["n_saddles"] == tree.n_saddles
    assert found["smad"] == smad(tree)
    assert found["mean_climb"] == mean_climb(tree)
    assert list(found).index("mean_climb") == list(found).index("smad") - 1
    assert found["range"] == list(tree.value_range)
    assert found["persistence"]["pairs"] == tree.n_minima - 1
    assert found["nonfinite"] == {"nan": 0, "posinf": 0, "neginf": 0}
    assert found["seconds"] > 0
    assert found["peak_rss_mb"] > 10
    assert "blocks" in found["ranks"][0]["phases"]


def test_labels_are_written(field: np.ndarray, tmp_path: Path) -> None:
    as_json(str(tmp_path / "f.npy"), "--labels", str(tmp_path / "labels.zarr"))
    tree = merge_tree(field, labels=True)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "labels.zarr", mode="r")[...], tree.labels)
    with pytest.raises(InputError, match="exists already"):
        as_json(str(tmp_path / "f.npy"), "--labels", str(tmp_path / "labels.zarr"))


def test_contour(field: np.ndarray, tmp_path: Path) -> None:
    path = str(tmp_path / "f.npy")
    assert "n_maxima" not in as_json(path)
    for options in ([], ["--connectivity", "freudenthal"]):
        found, tree = as_json(path, "--contour", *options), contour_tree(field, options[-1] if options else "axis")
        assert found["n_maxima"] == len(tree.maxima)
        assert found["smad_landscaper"] == smad_landscaper(tree)
        assert found["smad_landscaper_normalized"] == smad_landscaper(tree, weighted=False)
        assert found["smad_landscaper_raw"] == smad_landscaper(tree, normalize=False, weighted=False)
    lines = CliRunner().invoke(app, [path, "--contour"]).stdout
    assert "SMAD as Landscaper 1.3.1 computes it" in lines
    assert "Landscaper 1.3.1" not in CliRunner().invoke(app, [path]).stdout


def test_what_landscaper_does_not_define_is_null(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros((5, 5)))
    found = as_json(str(tmp_path / "flat.npy"), "--contour")
    assert found["n_maxima"] == 1
    assert [found[f"smad_landscaper{name}"] for name in ("", "_normalized", "_raw")] == [None] * 3
    said = CliRunner().invoke(app, [str(tmp_path / "flat.npy"), "--contour"]).stdout
    assert said.count("not defined by Landscaper") == 3


def test_a_contour_tree_needs_the_field_in_memory(field: np.ndarray, tmp_path: Path) -> None:
    says = r"--contour needs the whole field in one process, up to 2.69e-05 GB, and --max-memory is 2e-05 GB; leave one"
    with pytest.raises(InputError, match=says):
        as_json(str(tmp_path / "f.npy"), "--contour", "--max-memory", "20kB")


def test_numbers_that_are_not_finite_are_words(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.full((3, 3), np.nan))
    found = as_json(str(tmp_path / "f.npy"))
    assert found["smad"] == found["mean_climb"] == "NaN"
    assert found["range"] == ["NaN", "NaN"]
    assert found["n_minima"] == 0
    assert found["nonfinite"]["nan"] == 9


def test_text_output(field: np.ndarray, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(tmp_path / "f.npy"), "--direction", "superlevel"])
    assert done.exit_code == 0
    assert "8 × 7 × 6, axis connectivity, superlevel" in done.stdout


def test_bad_input_is_one_sentence(field: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=field, b=field)
    (tmp_path / "bad.npz").write_text("x")
    np.save(tmp_path / "words.npy", np.array(["a"]))
    np.save(tmp_path / "empty.npy", np.zeros((3, 0)))
    for name, landscape, says in [
        ("missing.npy", None, "does not exist"),
        ("f.npy", "x", "is no study"),
        ("two.npz", None, "no 'loss'"),
        ("bad.npz", None, "not a readable .npz"),
        ("words.npy", None, "no real number"),
        ("empty.npy", None, "no vertex"),
    ]:
        with pytest.raises(InputError, match=says):
            open_field(tmp_path / name, landscape)


def test_sizes() -> None:
    assert parse_size("2GB", "x") == 2 * 10**9
    assert parse_size("1.5 GiB", "x") == 3 * 2**29
    assert parse_size("800m", "x") == 800_000_000
    assert parse_size("12345", "x") == 12345
    for bad in ("", "GB", "1.2.3G", "-2GB", "2XB"):
        with pytest.raises(InputError, match="give a size like"):
            parse_size(bad, "--max-memory")


@pytest.mark.mpi
def test_under_mpiexec(field: np.ndarray, tmp_path: Path) -> None:
    run = [sys.executable, "-c", PROGRAM]
    labels = tmp_path / "labels.zarr"
    done = mpiexec(3, *run, str(tmp_path / "f.zarr"), "--json", "--contour", "--labels", str(labels))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    tree = merge_tree(field, labels=True)
    assert found["smad"] == smad(tree)
    assert found["smad_landscaper"] == smad_landscaper(contour_tree(field))
    assert [r["rank"] for r in found["ranks"]] == [0, 1, 2]
    assert found["ranks"][1]["bytes_sent"] > 0
    np.testing.assert_array_equal(zarr.open_array(labels, mode="r")[...], tree.labels)
    refused = mpiexec(2, *run, str(tmp_path / "missing.npy"))
    assert refused.returncode == 2
    assert refused.stderr.count("does not exist") == 1


@pytest.mark.processes
def test_the_command_imports_nothing_heavy() -> None:
    code = (
        "import sys, landscaper_hpc.commands.topology; "
        "assert not {'numpy', 'numba', 'torch', 'mpi4py', 'zarr'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=240)
