"""What the formats of VTK share: its own writers and arrays (the package vtk, an optional extra)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.exchange.formats import needed


def vtk(module: str, what: str) -> Any:
    """A module of VTK."""
    return needed(f"vtkmodules.{module}", "vtk", what)


def add_arrays(attributes: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Copies of arrays, (m,) or (m, 3), as data of points or cells."""
    support = vtk("util.numpy_support", "vtk")
    for name, values in arrays.items():
        made = support.numpy_to_vtk(np.ascontiguousarray(values), deep=True)
        made.SetName(name)
        attributes.AddArray(made)


def points(places: NDArray[np.float64]) -> Any:
    """Points in space, from (m, 3)."""
    made = vtk("vtkCommonCore", "vtk").vtkPoints()
    made.SetDataTypeToDouble()
    made.SetData(vtk("util.numpy_support", "vtk").numpy_to_vtk(np.ascontiguousarray(places), deep=True))
    return made


def cells(corners: NDArray[np.int64]) -> Any:
    """Cells with the same number of corners, from (m, corners)."""
    made = vtk("vtkCommonDataModel", "vtk").vtkCellArray()
    support = vtk("util.numpy_support", "vtk")
    m, k = corners.shape
    made.SetData(
        support.numpy_to_vtkIdTypeArray(np.arange(m + 1, dtype=np.int64) * k, deep=True),
        support.numpy_to_vtkIdTypeArray(np.ascontiguousarray(corners).reshape(-1), deep=True),
    )
    return made


def in_space(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first three coordinates of points, (m, 3); 0 where there are fewer."""
    made = np.zeros((len(coordinates), 3))
    kept = min(3, coordinates.shape[1])
    made[:, :kept] = coordinates[:, :kept]
    return made


def written(writer: Any, data: Any) -> bytes:
    """What one of VTK's XML writers makes of data: text throughout, the arrays in base64, without loss."""
    writer.SetInputData(data)
    writer.SetDataModeToBinary()
    writer.WriteToOutputStringOn()
    writer.Write()
    text: str = writer.GetOutputString()
    return text.encode()
