"""The formats, by the names that users give them, and what each is.

A format is a module with `write`; one that can be imported has `read`, and is known by the end of a file's name.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.exchange.subject import Subject
from landscaper_hpc.registry import Registry

FORMATS = Registry(
    "--to",
    "landscaper_hpc.exchange",
    {
        name: f"landscaper_hpc.exchange.{file}"
        for name, file in {
            "npz": "landscaper_npz",
            "h5": "loss_landscape_h5",
            "csv": "csv_tables",
            "parquet": "parquet_tables",
            "vti": "vtk_image",
            "vtp": "vtk_surface",
            "vtu": "vtk_trees",
            "graphml": "graphml",
            "gudhi": "gudhi_intervals",
            "persim": "persim_diagram",
            "figures": "figure_files",
        }.items()
    },
)
"""The formats that a landscape is written in: each is a `Format`."""

READABLE = ("npz", "h5", "csv", "parquet", "vti")
"""Those that are read as well, each of files whose names end so."""


class Field(NamedTuple):
    """What a file holds: losses on a grid, in C order, the coordinates of its axes, and what is to be known of them."""

    values: NDArray[Any]
    coordinates: list[NDArray[Any]]
    notices: tuple[str, ...] = ()


class Format(Protocol):
    """A module of this folder that writes."""

    def write(self, subject: Subject) -> dict[str, bytes]:
        """The files of a landscape: what comes after its name, and what is in them. `InputError` for a landscape that
        the format cannot hold."""
        ...


class Readable(Protocol):
    """One that also reads."""

    def read(self, path: Path) -> Field:
        """What a file holds. `InputError` where it is not of the format."""
        ...


def needed(module: str, package: str, what: str) -> ModuleType:
    """A module of a package that is not everybody's; `InputError` where that is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise InputError(f"{what} needs {package}, which is not installed; pip install {package}") from None
