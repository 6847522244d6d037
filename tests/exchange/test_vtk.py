"""What is written for ParaView and TTK, read by VTK; and what persim draws. `make test-peers` installs both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from landscaper_hpc import open_landscape
from landscaper_hpc.exchange import export, import_landscapes
from tests.exchange.peers import NEED_VTK, wells_at
from tests.studies import command, wells

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Finished studies of the wells, by the number of axes."""
    found = {}
    for n, count in ((1, 11), (2, 11), (3, 7), (4, 5)):
        folder = tmp_path_factory.mktemp(f"wells{n}")
        done = command("run", wells(folder, n=n, count=count), "--executor", "serial", "--out", folder / "run", "-q")
        assert done.returncode == 0, done.stderr
        found[n] = folder / "run"
    return found


def opened(file: Path) -> Any:
    from vtkmodules import vtkIOXML

    kinds = {".vti": "ImageData", ".vtp": "PolyData", ".vtu": "UnstructuredGrid"}
    reader = getattr(vtkIOXML, f"vtkXML{kinds[file.suffix]}Reader")()
    assert reader.CanReadFile(str(file))
    reader.SetFileName(str(file))
    reader.Update()
    return reader.GetOutput()


def arrays(data: Any) -> Mapping[str, NDArray[Any]]:
    from vtkmodules.util.numpy_support import vtk_to_numpy

    return {data.GetArrayName(i): vtk_to_numpy(data.GetArray(i)) for i in range(data.GetNumberOfArrays())}


def places(data: Any) -> NDArray[np.float64]:
    return np.array([data.GetPoint(i) for i in range(data.GetNumberOfPoints())])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_an_image_has_every_loss_at_its_place_and_its_basin(runs: dict[int, Path], tmp_path: Path, n: int) -> None:
    (file,) = export(runs[n], ["vti"], folder=tmp_path)
    image = opened(file)
    data, where = arrays(image.GetPointData()), places(image)
    assert sorted(data) == ["basin", "loss"]
    np.testing.assert_allclose(data["loss"], wells_at(where[:, :n].T), rtol=1e-9)
    assert not where[:, n:].any()
    sizes = np.bincount(data["basin"])
    np.testing.assert_array_equal(sizes, open_landscape(runs[n]).tree().basin_size)


def test_of_four_axes_there_is_an_image_for_each_three_of_them(runs: dict[int, Path], tmp_path: Path) -> None:
    files = export(runs[4], ["vti"], folder=tmp_path)
    assert [file.name for file in files] == [f"origin.{axes}.vti" for axes in ("0-1-2", "0-1-3", "0-2-3", "1-2-3")]
    image = opened(files[2])
    x, z, w = places(image).T
    np.testing.assert_allclose(arrays(image.GetPointData())["loss"], wells_at(np.stack([x, 0 * x, z, w])), rtol=1e-9)


def test_a_surface_is_as_high_as_the_loss(runs: dict[int, Path], tmp_path: Path) -> None:
    (file,) = export(runs[2], ["vtp"], folder=tmp_path)
    surface = opened(file)
    x, y, z = places(surface).T
    np.testing.assert_allclose(z, wells_at(np.stack([x, y])), rtol=1e-12)
    assert surface.GetNumberOfPolys() == 10 * 10
    area = 0.0
    for i in range(surface.GetNumberOfPolys()):
        corners = [surface.GetPoint(surface.GetCell(i).GetPointId(j)) for j in range(4)]
        (x0, y0, _), (x1, y1, _), (x2, y2, _), (x3, y3, _) = corners
        area += ((x2 - x0) * (y3 - y1) - (x3 - x1) * (y2 - y0)) / 2
    assert area == pytest.approx(9)  # the squares tile the plane, all the same way round
    refused = command("export", runs[1], "--to", "vtp", "--out", tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_the_diagram_has_what_ttk_asks_for(runs: dict[int, Path], tmp_path: Path) -> None:
    """The arrays, types and order of cells that VTUToDiagram of TTK's ttkPersistenceDiagramUtils.cpp reads."""
    from vtkmodules.vtkCommonCore import vtkFloatArray, vtkIntArray

    store = open_landscape(runs[3])
    diagram = opened(next(file for file in export(runs[3], ["vtu"], folder=tmp_path) if "diagram" in file.name))
    of_cells, of_points = diagram.GetCellData(), diagram.GetPointData()
    for data, name, kind in (
        (of_cells, "PairIdentifier", vtkIntArray),
        (of_cells, "PairType", vtkIntArray),
        (of_points, "ttkVertexScalarField", vtkIntArray),
        (of_points, "CriticalType", vtkIntArray),
        (of_points, "Coordinates", vtkFloatArray),
    ):
        assert kind.SafeDownCast(data.GetArray(name)) is not None, name
    cells, points = arrays(of_cells), arrays(of_points)
    pairs = len(cells["PairIdentifier"]) - 1
    assert cells["PairIdentifier"].tolist() == [*range(pairs), -1]
    assert diagram.GetNumberOfCells() == pairs + 1
    assert cells["IsFinite"].tolist() == [0] + [1] * (pairs - 1) + [0]
    for i in range(pairs):
        assert [diagram.GetCell(i).GetPointId(j) for j in range(2)] == [2 * i, 2 * i + 1]
    loss = store.loss().ravel(order="F")  # vertices are numbered as in the .vti
    births, deaths = loss[points["ttkVertexScalarField"]].reshape(-1, 2).T
    np.testing.assert_array_equal(cells["Birth"][:-1], births)
    np.testing.assert_array_equal(cells["Persistence"][:-1], deaths - births)
    found = store.tree().persistence()
    np.testing.assert_array_equal(births[1:], found.births)
    np.testing.assert_array_equal(deaths[1:], found.deaths)
    assert (births[0], deaths[0]) == (loss.min(), loss.max())
    np.testing.assert_allclose(
        wells_at(points["Coordinates"].T.astype(float)), loss[points["ttkVertexScalarField"]], rtol=1e-5
    )
    np.testing.assert_array_equal(places(diagram)[1::2, 1], deaths)


def test_the_tree_lies_in_the_image(runs: dict[int, Path], tmp_path: Path) -> None:
    tree = open_landscape(runs[3]).tree()
    drawn = opened(next(file for file in export(runs[3], ["vtu"], folder=tmp_path) if "tree" in file.name))
    points, cells = arrays(drawn.GetPointData()), arrays(drawn.GetCellData())
    np.testing.assert_allclose(points["Scalar"], wells_at(places(drawn).T), rtol=1e-12)
    assert (points["CriticalType"] == 0).sum() == tree.n_minima
    assert drawn.GetNumberOfCells() == len(places(drawn)) - 1  # a tree
    assert (points["Scalar"][cells["downNodeId"]] <= points["Scalar"][cells["upNodeId"]]).all()


def test_an_image_is_imported(runs: dict[int, Path], tmp_path: Path) -> None:
    for n in (1, 2, 3):
        (file,) = export(runs[n], ["vti"], folder=tmp_path / str(n))
        import_landscapes([file], tmp_path / f"run{n}")
        own, theirs = open_landscape(runs[n]), open_landscape(tmp_path / f"run{n}")
        np.testing.assert_array_equal(theirs.loss(), own.loss())
        for a, b in zip(theirs.grid.coordinates(), own.grid.coordinates(), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-14)
    (tmp_path / "x.vti").write_text("x")
    refused = command("import", tmp_path / "x.vti", "--out", tmp_path / "run")
    assert refused.returncode == 2
    assert "is no readable .vti file" in refused.stderr


def test_the_same_study_gives_the_same_bytes(runs: dict[int, Path], tmp_path: Path) -> None:
    first, second = (
        [hashlib.sha256(file.read_bytes()).hexdigest() for file in export(runs[2], NEED_VTK, folder=tmp_path / name)]
        for name in "ab"
    )
    assert first == second
    assert len(first) == 4


def test_persim_measures_and_draws_the_diagrams(runs: dict[int, Path], tmp_path: Path) -> None:
    import persim
    from matplotlib.figure import Figure

    (one,), (other,) = (export(runs[n], ["persim"], folder=tmp_path / str(n)) for n in (2, 3))
    diagrams = [np.load(one), np.load(other)]
    assert persim.bottleneck(diagrams[0][1:], diagrams[0][1:]) == 0
    assert persim.bottleneck(diagrams[0][1:], diagrams[1][1:]) > 0
    ax = Figure().add_subplot()
    persim.plot_diagrams(diagrams, ax=ax)
    assert ax.collections
