"""VTK's .vtp for ParaView: the loss as the height of a surface, as loss-landscape's h52vtp.py makes of its files."""

from __future__ import annotations

import numpy as np

from landscaper_hpc.errors import InputError
from landscaper_hpc.exchange.subject import Subject
from landscaper_hpc.exchange.vtk_files import add_arrays, cells, points, vtk, written


def write(subject: Subject) -> dict[str, bytes]:
    """One file, with the point data `loss` and `basin`; of more than two axes one for each pair of them."""
    model, xml = vtk("vtkCommonDataModel", "--to vtp"), vtk("vtkIOXML", "--to vtp")
    if subject.store.grid.ndim < 2:
        raise InputError("a surface needs two axes, and there is one; use --to csv")
    files = {}
    for part in subject.slices(2):
        surface = model.vtkPolyData()
        x, y = np.meshgrid(*part.coordinates, indexing="ij")
        heights = part.values.reshape(-1)
        surface.SetPoints(points(np.stack([x.reshape(-1), y.reshape(-1), heights], axis=1)))
        surface.SetPolys(cells(_squares(part.values.shape)))
        add_arrays(surface.GetPointData(), {"loss": heights, "basin": part.basins.reshape(-1)})
        surface.GetPointData().SetActiveScalars("loss")
        files[f"{part.suffix}.vtp"] = written(xml.vtkXMLPolyDataWriter(), surface)
    return files


def _squares(shape: tuple[int, ...]) -> np.ndarray:
    """Corners of the squares between points that are numbered in C order, (m, 4)."""
    corner = np.arange(shape[0] * shape[1], dtype=np.int64).reshape(shape)
    round_it = corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]
    return np.stack([c.reshape(-1) for c in round_it], axis=1)
