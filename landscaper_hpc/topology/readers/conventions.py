"""Attributes by which stored numbers are not the values (the CF conventions, as xarray writes them): refused, with what
to do. Applied they would need a type and a rounding that only the writer knows."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError

_IDENTITY = {"scale_factor": 1.0, "add_offset": 0.0}


def _how(path: Path) -> str:
    return f"decode it first: numpy.save(FILE, xarray.open_zarr({str(path.parent)!r})[{path.name!r}].to_numpy())"


def refuse_packed(attributes: dict[str, Any], dtype: np.dtype[Any], path: Path) -> None:
    """InputError where a value is not the number that is stored."""
    for name, neutral in _IDENTITY.items():
        if name in attributes and attributes[name] != neutral:
            raise InputError(
                f"{path}: has {name} = {attributes[name]!r}, so its values are not as stored; {_how(path)}"
            )
    unsigned = str(attributes.get("_Unsigned", "")).lower()
    if (unsigned == "true" and dtype.kind == "i") or (unsigned == "false" and dtype.kind == "u"):
        raise InputError(f"{path}: is of type {dtype} with _Unsigned = {unsigned}; {_how(path)}")


@dataclass(frozen=True)
class Missing:
    """Numbers that stand for "no value", by the attribute that says so, and the range outside of which all do."""

    path: Path
    marks: dict[str, list[Any]]
    low: Any = None
    high: Any = None

    @classmethod
    def of(cls, metadata: dict[str, Any], dtype: np.dtype[Any], path: Path) -> Missing:
        """As an array's metadata have them. xarray keeps the mark of format 2 in `fill_value`, which for others is
        what is not written; NaN stands for itself."""
        attributes: dict[str, Any] = metadata.get("attributes") or {}
        given = {name: attributes[name] for name in ("_FillValue", "missing_value") if name in attributes}
        if metadata["zarr_format"] == 2 and "_ARRAY_DIMENSIONS" in attributes and metadata["fill_value"] is not None:
            given.setdefault("_FillValue", metadata["fill_value"])
        marks = {name: _numbers(value, name, path) for name, value in given.items()}
        bounds: list[Any] = [None, None]
        if "valid_range" in attributes:
            bounds = (_numbers(attributes["valid_range"], "valid_range", path) * 2)[:2]
        for i, name in enumerate(("valid_min", "valid_max")):
            if name in attributes:
                bounds[i] = _numbers(attributes[name], name, path)[0]
        return cls(path, {name: [x for x in values if x == x] for name, values in marks.items()}, *bounds)

    def refuse(self, values: NDArray[Any]) -> None:
        """InputError where one of the values is none."""
        for name, marks in self.marks.items():
            for mark in marks:
                with np.errstate(over="ignore"):
                    number = np.asarray(mark).astype(values.dtype) if values.dtype.kind == "f" else mark
                if (values == number).any():
                    raise InputError(
                        f"{self.path}: holds {name} = {mark!r}, which stands for a missing value; {_how(self.path)}"
                    )
        if (self.low is not None and (values < self.low).any()) or (
            self.high is not None and (values > self.high).any()
        ):
            raise InputError(
                f"{self.path}: holds values outside of its valid range, {self.low!r} to {self.high!r}, which stand for "
                f"missing ones; {_how(self.path)}"
            )


def _numbers(value: Any, name: str, path: Path) -> list[Any]:
    """One number or several, in any of the ways in which Zarr and xarray write them."""
    found = []
    for item in value if isinstance(value, list) and value else [value]:
        number = item
        if isinstance(item, str):
            try:
                number = float(item)  # "NaN", "-Infinity"
            except ValueError:
                try:
                    (number,) = struct.unpack("<d", base64.b64decode(item, validate=True))
                except (ValueError, struct.error):
                    number = None
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise InputError(f"{path}: has {name} = {value!r}, which is no number; {_how(path)}")
        found.append(number)
    return found
