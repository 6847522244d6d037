"""import: losses that another program computed, as an ordinary study's folder.

There is no model behind them: nothing can be evaluated, and directions are unknown. All else is as of our own: merge
tree, numbers, page, every command that reads a study. What was imported is part of the study id, by its SHA-256.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.digests import canonical_sha256, content_sha256
from landscaper_hpc.errors import InputError
from landscaper_hpc.exchange.formats import FORMATS, READABLE, Field, Readable
from landscaper_hpc.files import folder_aside
from landscaper_hpc.grid import Axis, Grid
from landscaper_hpc.registry import CONNECTIVITIES
from landscaper_hpc.store.folder import StudyFolder
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import StoredDirections, consolidate_root
from landscaper_hpc.store.place import refuse_inside
from landscaper_hpc.strict_json import number
from landscaper_hpc.study.study import AxisConfig, Checkpoint, DirectionsConfig, GridConfig, Precision, Study
from landscaper_hpc.topology.readers import in_working_type

IMPORTED = "imported"
"""What stands where a study of our own says how its directions were made."""
_POINTS_PER_SHARD = 1 << 20
_UNEVEN = 1e-6


def import_landscapes(
    files: Sequence[str | Path], folder: str | Path, name: str | None = None, connectivity: str = "axis"
) -> dict[str, Any]:
    """Make a study's folder of files that other programs wrote, one landscape each, with merge trees and page.

    Parameters
    ----------
    files
        By the ends of their names: Landscaper's .npz, loss-landscape's .h5, tables as .csv or .parquet with columns
        `alpha_0`, …, `loss`, VTK's .vti. A landscape is called as its file.
    folder
        One that is not there yet.
    name
        Of the study; by default that of the folder.
    connectivity
        Of the grid.

    Returns
    -------
    dict
        What `results.json` holds.

    Raises
    ------
    InputError
        For a file that is none of these, or whose points are no grid with equal steps; for a folder that is there.
    """
    into, sources = Path(folder), [Path(file) for file in files]
    if into.exists():
        raise InputError(f"{into}: there is something already; give a folder that is not there yet")
    refuse_inside(into.resolve())
    try:
        CONNECTIVITIES.valid(connectivity)
    except ValueError as error:
        raise InputError(f"connectivity {connectivity}: {error}") from None
    fields = {_name(source): _read(source) for source in sources}
    if len(fields) < len(sources):
        raise InputError("two of the files have one name but for its end, which names their landscapes; rename one")
    grids = {one: _grid(field, source) for (one, field), source in zip(fields.items(), sources, strict=True)}
    if len({grid.ndim for grid in grids.values()}) > 1:
        raise InputError("the landscapes of a study have one number of axes; import these files one by one")
    single = all(field.values.dtype == np.float32 for field in fields.values())
    precision: Precision = "float32" if single else "float64"
    study = _study(name or into.name, list(fields), next(iter(grids.values())), connectivity, precision)
    into.parent.mkdir(parents=True, exist_ok=True)
    with folder_aside(into) as aside:
        stores = [
            _store(aside, study, one, fields[one], grids[one], source)
            for one, source in zip(fields, sources, strict=True)
        ]
        return _conclude(aside, study, stores)


def _name(source: Path) -> str:
    """Of a landscape: what is no letter, digit or one of . _ + = - is a -."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._+=-") else "-" for c in source.stem)
    return kept.lstrip("._+=-") or "imported"


def _read(source: Path) -> Field:
    kind = source.suffix.removeprefix(".").lower()
    if kind not in READABLE:
        known = ", ".join(f".{name}" for name in READABLE)
        raise InputError(f"{source}: is told apart by the end of its name, and that is none of {known}; rename it")
    if not source.is_file():
        raise InputError(f"{source}: is no file; correct its name")
    format: Readable = FORMATS.load(kind)
    found = format.read(source)
    if found.values.size < 1:
        raise InputError(f"{source}: holds no loss; see whether it is the right file")
    return found._replace(values=in_working_type(found.values, str(source)))


def _grid(field: Field, source: Path) -> Grid:
    return Grid(tuple(_axis(axis, d, source) for d, axis in enumerate(field.coordinates)))


def _axis(coordinates: NDArray[Any], d: int, source: Path) -> Axis:
    """An axis of equal steps, which is what a store holds; values are not moved to other places."""
    found = np.asarray(coordinates, np.float64)
    axis = Axis(float(found[0]), float(found[-1]), len(found))
    width = axis.upper - axis.lower
    if not np.isfinite(found).all() or (len(found) > 1 and width <= 0):
        raise InputError(f"{source}: the coordinates of axis {d} do not grow; turn the axis round, or correct them")
    if np.abs(axis.coordinates() - found).max() > _UNEVEN * width:
        raise InputError(f"{source}: the points along axis {d} are not equally far apart; evaluate them on a grid")
    return axis


def _study(name: str, landscapes: Sequence[str], grid: Grid, connectivity: str, precision: Precision) -> Study:
    """What results say of the study. It is not one that could be read from a file: nothing of it can be run."""
    axes = [AxisConfig.model_construct(range=[a.lower, a.upper], count=a.count) for a in grid.axes]
    return Study.model_construct(
        name=name,
        task=IMPORTED,
        checkpoints=[Checkpoint.model_construct(name=one, file=IMPORTED, options={}) for one in landscapes],
        directions=DirectionsConfig.model_construct(kind=IMPORTED, n=grid.ndim, normalization=IMPORTED),
        grid=GridConfig.model_construct(axes=axes),
        connectivity=connectivity,
        precision=precision,
        batch=1,
    )


def _store(folder: Path, study: Study, name: str, field: Field, grid: Grid, source: Path) -> LandscapeStore:
    digest = content_sha256(source)
    science: Mapping[str, Any] = {
        "imported_sha256": digest,
        "task_sha256": digest,
        "checkpoint_sha256": digest,
        "options": {},
        "connectivity": study.connectivity,
        "precision": study.precision,
        "directions": {"kind": IMPORTED, "n": grid.ndim, "normalization": IMPORTED, "which": study.directions.which},
        "grid": [[axis.lower, axis.upper, axis.count] for axis in grid.axes],
    }
    values = np.ascontiguousarray(field.values, np.float64)
    at = grid.checkpoint_index()
    packages = ("landscaper-hpc", "numpy", "numba", "zarr")
    store = LandscapeStore.create(
        StudyFolder(folder).store,
        name,
        science,
        grid,
        grid.shard_shape(_POINTS_PER_SHARD),
        StoredDirections({}, np.full((grid.ndim, grid.ndim), np.nan)),
        {
            "checkpoint_loss": number(float(values[at])) if at is not None else "NaN",
            "iterations": None,
            "batch": 1,
            "mode": IMPORTED,
            "notices": [f"imported from {source.name}: there is no model behind it", *field.notices],
            "provenance": {
                "versions": {p: version(p) for p in packages} | {"python": platform.python_version()},
                "device": "another program",
            },
        },
    )
    for shard in store.shards():
        store.write(shard, values[shard.region])
    return store


def _conclude(folder: Path, study: Study, stores: Sequence[LandscapeStore]) -> dict[str, Any]:
    from landscaper_hpc.report.page import write_report
    from landscaper_hpc.report.results import read_results, results, write_results
    from landscaper_hpc.topology import merge_tree
    from landscaper_hpc.work.measure import measured

    for store in stores:
        tree = merge_tree(store.loss(), study.connectivity, labels=True)
        store.write_tree(tree, *measured(store, tree, tree.labels))
    consolidate_root(stores[0].path)
    inside = StudyFolder(folder)
    study_id = canonical_sha256({store.name: store.attributes["science"] for store in stores})
    write_results(inside.results, results(study, study_id, stores))
    write_report(folder)
    return read_results(inside.results)
