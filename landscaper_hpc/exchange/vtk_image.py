"""VTK's .vti for ParaView and TTK: the losses on their grid, and the segmentation by basins."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from landscaper_hpc.errors import InputError
from landscaper_hpc.exchange.formats import Field
from landscaper_hpc.exchange.subject import Subject
from landscaper_hpc.exchange.vtk_files import add_arrays, vtk, written

_MOST = 3


def write(subject: Subject) -> dict[str, bytes]:
    """One file, with the point data `loss`, `basin` and each metric; of more than three axes one for each
    three of them."""
    model, xml = vtk("vtkCommonDataModel", "--to vti"), vtk("vtkIOXML", "--to vti")
    files = {}
    for part in subject.slices(_MOST):
        image = model.vtkImageData()
        shape, more = part.values.shape, _MOST - part.values.ndim
        image.SetDimensions(*shape, *[1] * more)
        image.SetOrigin(*(float(axis[0]) for axis in part.coordinates), *[0.0] * more)
        image.SetSpacing(*map(_step, part.coordinates), *[1.0] * more)
        # VTK's first axis runs fastest
        arrays = {"loss": part.values, "basin": part.basins, **part.metrics}
        add_arrays(image.GetPointData(), {name: values.ravel(order="F") for name, values in arrays.items()})
        image.GetPointData().SetActiveScalars("loss")
        files[f"{part.suffix}.vti"] = written(xml.vtkXMLImageDataWriter(), image)
    return files


def read(path: Path) -> Field:
    """The point data `loss`, or the only ones."""
    reader = vtk("vtkIOXML", f"{path}").vtkXMLImageDataReader()
    if not path.is_file() or not reader.CanReadFile(str(path)):
        raise InputError(f"{path}: is no readable .vti file; restore it")
    reader.SetFileName(str(path))
    reader.Update()
    image = reader.GetOutput()
    data = image.GetPointData()
    names = [data.GetArrayName(i) for i in range(data.GetNumberOfArrays())]
    name = "loss" if "loss" in names or len(names) != 1 else names[0]
    if name not in names or data.GetArray(name).GetNumberOfComponents() != 1:
        raise InputError(f"{path}: has the point data {', '.join(names) or 'of nothing'}; name one number of each loss")
    values = vtk("util.numpy_support", f"{path}").vtk_to_numpy(data.GetArray(name))
    shape, origin, step = image.GetDimensions(), image.GetOrigin(), image.GetSpacing()
    first = image.GetExtent()[::2]
    axes = [origin[d] + step[d] * (first[d] + np.arange(k)) for d, k in enumerate(shape)]
    kept = [d for d, k in enumerate(shape) if k > 1] or [0]
    held = values.reshape(shape, order="F").reshape([shape[d] for d in kept])
    return Field(np.ascontiguousarray(held), [axes[d] for d in kept])


def _step(axis: np.ndarray) -> float:
    return float(axis[-1] - axis[0]) / (len(axis) - 1) if len(axis) > 1 else 1.0
