"""VTK's .vtu for ParaView and TTK: the persistence diagram, in the arrays that TTK's filters look for, and the merge
tree.

The diagram is laid out as TTK's own (core/vtk/ttkAlgorithm/ttkPersistenceDiagramUtils.cpp, DiagramToVTU): cell i is the
line from (birth, birth) to (birth, death) of pair i, the global minimum with the maximum first, and the last cell is
the diagonal, whose PairIdentifier is -1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.exchange.graphs import skeleton
from landscaper_hpc.exchange.subject import Subject
from landscaper_hpc.exchange.vtk_files import add_arrays, cells, in_space, points, vtk, written

_MINIMUM, _SADDLE, _MAXIMUM = 0, 1, 3
"""Of TTK's critical types."""


def write(subject: Subject) -> dict[str, bytes]:
    """Two files: the diagram, and the tree."""
    vtk("vtkIOXML", "--to vtu")
    if not subject.tree.n_minima:
        raise InputError("there is no minimum, and so no pair; see whether the losses are numbers")
    return {".diagram.vtu": _diagram(subject), ".tree.vtu": _tree(subject)}


def _diagram(subject: Subject) -> bytes:
    tree, grid = subject.tree, subject.store.grid
    dies = tree.parent >= 0
    highest = int(np.argmax(np.where(np.isfinite(subject.values), subject.values, -np.inf).reshape(-1)))
    ends = np.where(dies, tree.death, highest)
    top = tree.value_range[1]
    # a diagram has no place for what is not finite: that is drawn at the end of the range
    birth, death = (np.clip(np.nan_to_num(v, nan=top), *tree.value_range) for v in (tree.values, tree.death_value))
    death[~dies] = top
    order = np.argsort(dies, kind="stable")  # the essential ones first
    birth, death, dies, ends = birth[order], death[order], dies[order], ends[order]
    vertices = np.stack([tree.minima[order], ends], axis=1).reshape(-1)
    lines = np.arange(2 * len(order), dtype=np.int64).reshape(-1, 2)
    diagonal = [0, 2 * int(np.argmax(birth))]
    life = death - birth
    corners = np.stack([np.repeat(birth, 2), np.stack([birth, death], axis=1).reshape(-1)], axis=1)
    kinds = np.stack([np.full(len(dies), _MINIMUM), np.where(dies, _SADDLE, _MAXIMUM)], axis=1).reshape(-1)
    return _grid(
        in_space(corners),
        np.concatenate([lines, [diagonal]]),
        {
            "ttkVertexScalarField": _as_vtk_numbers(vertices, grid.shape).astype(np.int32),
            "CriticalType": kinds.astype(np.int32),
            "Coordinates": in_space(subject.alphas(vertices)).astype(np.float32),
        },
        {
            "PairIdentifier": np.append(np.arange(len(order)), -1).astype(np.int32),
            "PairType": np.append(np.zeros(len(order)), -1).astype(np.int32),
            "Persistence": np.append(life, 2 * life[0]),
            "Birth": np.append(birth, 0.0),
            "IsFinite": np.append(dies, False).astype(np.uint8),
        },
    )


def _tree(subject: Subject) -> bytes:
    tree = subject.tree
    found = skeleton(tree)
    kinds = np.where(np.arange(len(found.points)) < tree.n_minima, _MINIMUM, _SADDLE)
    basin = np.append(np.arange(tree.n_minima), np.full(len(found.points) - tree.n_minima, -1))
    size = np.append(tree.basin_size, np.zeros(len(found.points) - tree.n_minima, np.int64))
    return _grid(
        in_space(subject.alphas(found.points)),
        found.edges,
        {"Scalar": found.values, "CriticalType": kinds.astype(np.int32), "basin": basin, "basin_size": size},
        {"downNodeId": found.edges[:, 0], "upNodeId": found.edges[:, 1]},
    )


def _grid(
    places: NDArray[np.float64],
    lines: NDArray[np.int64],
    of_points: dict[str, NDArray[np.generic]],
    of_cells: dict[str, NDArray[np.generic]],
) -> bytes:
    model = vtk("vtkCommonDataModel", "--to vtu")
    grid = model.vtkUnstructuredGrid()
    grid.SetPoints(points(places))
    grid.SetCells(model.VTK_LINE, cells(lines.reshape(-1, 2)))
    add_arrays(grid.GetPointData(), of_points)
    add_arrays(grid.GetCellData(), of_cells)
    return written(vtk("vtkIOXML", "--to vtu").vtkXMLUnstructuredGridWriter(), grid)


def _as_vtk_numbers(flat: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Of up to three axes, the numbers that the points of a .vti have there, where the first axis runs fastest."""
    if len(shape) > 3:
        return flat
    return np.ravel_multi_index(np.unravel_index(flat, shape), shape, order="F").astype(np.int64)
