"""What `export` writes, read by those it is written for."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import gudhi
import h5py
import networkx as nx
import numpy as np
import pandas as pd
import pytest

from landscaper_hpc import open_landscape
from landscaper_hpc.exchange import FORMATS, export, minima_table, points_table, to_networkx
from landscaper_hpc.topology import merge_tree
from tests.exchange.peers import NEED_VTK, wells_at
from tests.studies import command, wells


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Finished studies of the wells, by the number of axes."""
    found = {}
    for n, count in ((1, 11), (2, 11), (3, 7)):
        folder = tmp_path_factory.mktemp(f"wells{n}")
        done = command("run", wells(folder, n=n, count=count), "--executor", "serial", "--out", folder / "run", "-q")
        assert done.returncode == 0, done.stderr
        found[n] = folder / "run"
    return found


@pytest.mark.thorough
def test_the_command_writes_into_the_studys_folder_and_prints_the_files(runs: dict[int, Path], tmp_path: Path) -> None:
    done = command("export", runs[2], "--to", "npz", "--to", "csv")
    assert done.returncode == 0, done.stderr
    files = [runs[2] / "exports" / name for name in ("origin.npz", "origin.csv", "origin.minima.csv")]
    assert done.stdout.split() == list(map(str, files))
    assert all(file.exists() for file in files)
    assert command("export", runs[2] / "study.zarr" / "origin", "--to", "npz", "--out", tmp_path).stdout.split() == [
        str(tmp_path / "origin.npz")
    ]
    assert command("topology", tmp_path / "origin.npz", "--json").stdout.startswith('{"shape": [11, 11]')


def test_npz_is_as_landscaper_reads_it(runs: dict[int, Path], tmp_path: Path) -> None:
    """Its `load_landscape`: numpy.load without pickle, `loss` and `coordinates`, whose first axis counts the axes."""
    (file,) = export(runs[3], ["npz"], folder=tmp_path)
    with np.load(file) as held:
        loss, coordinates = held["loss"], held["coordinates"]
    assert sorted(held.files) == ["coordinates", "loss"]
    assert coordinates.shape == (3, 7)
    places = np.stack(np.meshgrid(*coordinates, indexing="ij"))
    np.testing.assert_allclose(loss, wells_at(places), rtol=1e-12)


def test_h5_is_as_loss_landscape_draws_it(runs: dict[int, Path], tmp_path: Path) -> None:
    """Its `plot_2D.py`: contours of `train_loss` over numpy.meshgrid of both coordinates."""
    (file,) = export(runs[2], ["h5"], folder=tmp_path)
    with h5py.File(file) as held:
        x, y = np.meshgrid(held["xcoordinates"][:], held["ycoordinates"][:])
        np.testing.assert_allclose(held["train_loss"][:], wells_at(np.stack([x, y])), rtol=1e-12)
    pairs = export(runs[3], ["h5"], folder=tmp_path)
    assert [file.name for file in pairs] == ["origin.0-1.h5", "origin.0-2.h5", "origin.1-2.h5"]
    with h5py.File(pairs[1]) as held:
        x, z = np.meshgrid(held["xcoordinates"][:], held["ycoordinates"][:])
        np.testing.assert_allclose(held["train_loss"][:], wells_at(np.stack([x, 0 * x, z])), rtol=1e-12)
    (line,) = export(runs[1], ["h5"], folder=tmp_path)
    with h5py.File(line) as held:
        assert sorted(held) == ["train_loss", "xcoordinates"]
        np.testing.assert_allclose(held["train_loss"][:], wells_at(held["xcoordinates"][:][None]), rtol=1e-12)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_are_read_by_pandas_without_loss(runs: dict[int, Path], tmp_path: Path, kind: str) -> None:
    points, minima = export(runs[2], [kind], folder=tmp_path)
    read = {"csv": partial(pd.read_csv, engine="pyarrow"), "parquet": pd.read_parquet}[kind]
    store = open_landscape(runs[2])
    pd.testing.assert_frame_equal(read(points), points_table(store), check_exact=True)
    pd.testing.assert_frame_equal(read(minima), minima_table(store), check_exact=True)


def test_tables_say_which_basin_a_point_is_in(runs: dict[int, Path]) -> None:
    store = open_landscape(runs[2])
    points, minima = points_table(store), minima_table(store)
    assert points.columns.tolist() == ["alpha_0", "alpha_1", "loss", "basin"]
    assert points["basin"].value_counts().sort_index().tolist() == minima["basin_size"].tolist()
    assert np.sign(minima[["alpha_0", "alpha_1"]]).to_numpy().tolist() == [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    lowest = points.loc[points.groupby("basin")["loss"].idxmin()]
    assert lowest["loss"].tolist() == minima["loss"].tolist()


def test_graphml_holds_the_tree_that_networkx_walks(runs: dict[int, Path], tmp_path: Path) -> None:
    """The elder rule, walked along the graph: from a minimum up to where the lowest below is another one."""
    (file,) = export(runs[3], ["graphml"], folder=tmp_path)
    graph = nx.read_graphml(file, node_type=int)
    tree = open_landscape(runs[3]).tree()
    assert nx.is_tree(graph.to_undirected())
    assert nx.is_isomorphic(graph, to_networkx(tree))
    loss = nx.get_node_attributes(graph, "loss")
    for i in range(tree.n_minima):
        assert graph.nodes[i]["kind"] == "minimum"
        assert graph.nodes[i]["alpha_2"] == pytest.approx(np.sign(graph.nodes[i]["alpha_2"]))
        at = i
        while min(nx.ancestors(graph, at) | {at}, key=loss.__getitem__) == i and list(graph.successors(at)):
            (above,) = graph.successors(at)
            assert loss[above] >= loss[at]
            at = above
        assert loss[at] == tree.death_value[i] or (i == 0 and graph.nodes[i]["persistence"] == np.inf)
    assert sum(kind == "saddle" for kind in nx.get_node_attributes(graph, "kind").values()) == tree.n_saddles


def test_components_that_meet_in_one_point_meet_in_one_node() -> None:
    values = np.array([[0.0, 9, 1, 9, 2], [9, 9, 9, 9, 9], [8, 9, 3, 9, 4]])
    tree = merge_tree(values)
    graph = to_networkx(tree)
    assert nx.is_tree(graph.to_undirected())
    assert [node for node in graph if not graph.in_degree(node)] == list(range(tree.n_minima))
    points = list(nx.get_node_attributes(graph, "point").values())
    assert len(points) == len(set(points)) == tree.n_minima + tree.n_saddles
    alone = to_networkx(merge_tree(np.arange(5.0)))
    assert (len(alone.nodes), len(alone.edges)) == (1, 0)
    upside_down = to_networkx(merge_tree(-values, direction="superlevel"))
    assert nx.is_isomorphic(graph, upside_down)


def test_persistence_is_read_by_gudhi_as_it_computes_it(runs: dict[int, Path], tmp_path: Path) -> None:
    pers, array = export(runs[3], ["gudhi", "persim"], folder=tmp_path)
    mine = gudhi.read_persistence_intervals_in_dimension(persistence_file=str(pers), only_this_dim=0)
    cubes = gudhi.CubicalComplex(vertices=open_landscape(runs[3]).loss())
    cubes.compute_persistence()
    theirs = cubes.persistence_intervals_in_dimension(0)
    np.testing.assert_array_equal(mine[np.lexsort(mine.T)], theirs[np.lexsort(theirs.T)])
    np.testing.assert_array_equal(np.load(array), mine)


@pytest.mark.parametrize(
    ("axes", "words", "said"),
    [
        (
            2,
            ["--to", "vtk"],
            "--to is 'vtk'; choose one of npz, h5, csv, parquet, vti, vtp, vtu, graphml, gudhi, persim",
        ),
        (2, ["--to", "npz", "--landscape", "x"], "holds the landscapes origin; there is no 'x'"),
        (
            1,
            ["--to", "npz"],
            "a Landscaper .npz holds two axes or more, all of one length, and this grid is 11;",
        ),
    ],
)
def test_what_cannot_be_written_is_one_sentence(
    runs: dict[int, Path], tmp_path: Path, axes: int, words: list[str], said: str
) -> None:
    done = command("export", runs[axes], *words, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_study_that_is_not_finished_is_not_exported(runs: dict[int, Path], tmp_path: Path) -> None:
    assert command("export", tmp_path, "--to", "csv").returncode == 2
    (tmp_path / "sweep.json").write_text("{}")
    refused = command("export", tmp_path, "--to", "csv")
    assert refused.returncode == 2
    assert f"is a sweep; export its studies one by one, {tmp_path}/studies/<name>" in refused.stderr
    (tmp_path / "sweep.json").unlink()
    for done in runs[2].glob("study.zarr/origin/done/sha256/c.*"):
        content = done.read_bytes()
        done.unlink()
        try:
            refused = command("export", runs[2], "--to", "npz")
        finally:
            done.write_bytes(content)
        assert refused.returncode == 2
        assert "not evaluated; run the study again" in refused.stderr
        break


@pytest.mark.thorough
def test_of_a_lowest_part_there_is_a_table_of_its_points_and_nothing_else(tmp_path: Path) -> None:
    study = wells(tmp_path, count=31)
    study.write_text(study.read_text() + "scope: {share: 0.02}\n")
    done = command("run", study, "--executor", "serial", "--out", tmp_path / "run", "-q")
    assert done.returncode == 0, done.stderr
    (points,) = export(tmp_path / "run", ["csv"])
    table = pd.read_csv(points)
    assert table.columns.tolist() == ["alpha_0", "alpha_1", "loss"]
    assert 0 < len(table) < 31 * 31
    np.testing.assert_allclose(table["loss"], wells_at(table[["alpha_0", "alpha_1"]].to_numpy().T), rtol=1e-12)
    refused = command("export", tmp_path / "run", "--to", "graphml")
    assert refused.returncode == 2
    assert "only its lowest part is evaluated" in refused.stderr


def test_the_same_study_gives_the_same_bytes(runs: dict[int, Path], tmp_path: Path) -> None:
    kinds = [name for name in FORMATS.names() if name not in (*NEED_VTK, "figures")]  # those have a test of their own
    first, second = (
        [hashlib.sha256(file.read_bytes()).hexdigest() for file in export(runs[2], kinds, folder=tmp_path / name)]
        for name in "ab"
    )
    assert first == second
    assert len(first) == 9


@pytest.mark.thorough
def test_figures_are_files_of_three_kinds_and_the_same_bytes(runs: dict[int, Path], tmp_path: Path) -> None:
    for n in (1, 3):
        files = export(runs[n], ["figures"], folder=tmp_path / f"{n}")
        kinds = {"svg": b"<svg", "pdf": b"%PDF", "png": b"\x89PNG"}
        names = {file.name.removeprefix("origin.").rpartition(".")[0] for file in files}
        assert len(files) == 3 * len(names)
        assert all(file.read_bytes().startswith(kinds[file.suffix[1:]]) for file in files)
        assert {"profile", "merge_tree", "disconnectivity", "contour_tree", "diagram", "line_0"} <= names
        assert sum(name.startswith("slice") for name in names) == n * (n - 1) // 2
    again = export(runs[1], ["figures"])
    assert {file.parent for file in again} == {runs[1] / "figures"}
    first = {file.name: file.read_bytes() for file in (tmp_path / "1").iterdir()}
    assert {file.name: file.read_bytes() for file in again} == first
