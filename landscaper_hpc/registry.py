"""Names that users write in their configuration, and where the program finds what each stands for.

Knows only text, so that a configuration can say which names are valid and import nothing of what they stand for. Other
packages add names by entry points; one that is ours already stays ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from landscaper_hpc.errors import InputError


@dataclass(frozen=True)
class Registry:
    """`own`: names with their `module` or `module:attribute`, imported when they are first asked for.

    `key` is what users write before a name, `group` the entry points by which others register. What one of our own
    names needs beside the package is installed by the extra of the same name.
    """

    key: str
    group: str
    own: Mapping[str, str]

    def names(self) -> list[str]:
        """Every valid name: ours in their order, then those of other packages."""
        return [*self.own, *sorted(name for name in self._others() if name not in self.own)]

    def valid(self, name: str) -> str:
        """The name as it is; `ValueError` with the valid ones where there is none such."""
        if name not in self.own and name not in self._others():  # others are looked for only where they are needed
            raise ValueError(f"must be one of {', '.join(self.names())}")
        return name

    def load(self, name: str) -> Any:
        """What the name stands for. `InputError` where it is no name, or what it needs is not installed."""
        if name in self.own:
            module, _, attribute = self.own[name].partition(":")
            try:
                found = import_module(module)
                return getattr(found, attribute) if attribute else found
            except ModuleNotFoundError as missing:
                if (missing.name or "").startswith("landscaper_hpc"):
                    raise
                raise InputError(
                    f"{self.key} {name} needs {missing.name}, which is not installed; "
                    f"pip install 'landscaper-hpc[{name}]'"
                ) from None
        if (entry := self._others().get(name)) is None:
            raise InputError(f"{self.key} is {name!r}; choose one of {', '.join(self.names())}")
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            package = entry.dist.name if entry.dist is not None else "another package"
            raise InputError(
                f"{self.key} {name}: {entry.value} of {package} cannot be loaded ({' '.join(str(error).split())}); "
                "mend or remove that package"
            ) from None

    def _others(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self.group)}


EXECUTORS = Registry(
    "executor",
    "landscaper_hpc.executors",
    {
        "serial": "landscaper_hpc.executors.local:serial_mapper",
        "local": "landscaper_hpc.executors.local:local_mapper",
        "mpi": "landscaper_hpc.executors.mpi:launcher",
        "slurm": "landscaper_hpc.executors.slurm:launcher",
        "dask": "landscaper_hpc.executors.dask_slurm:dask_mapper",
    },
)
"""How the work of a run is carried: each is a `Launcher`, or a function of a site and a campaign that makes a `Mapper`
(`landscaper_hpc.work.executor`)."""

CONNECTIVITIES = Registry(
    "connectivity",
    "landscaper_hpc.connectivities",
    {name: f"landscaper_hpc.grid:{name.upper()}" for name in ("axis", "freudenthal", "full")},
)
"""Which vertices of a grid are neighbours: each is a `landscaper_hpc.grid.Neighbours`."""
