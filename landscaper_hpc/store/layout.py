"""What a landscape's group consists of, and how it is sealed: names, dimensions, attributes.

The seal is one SHA-256 over the group's attributes and over the metadata of everything in it that decides a number.
Arrays carry the hash of their values among their metadata, so the seal covers them too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import Grid
from landscaper_hpc.store import zarr_files
from landscaper_hpc.store.zarr_files import Document

FORMAT = 2
"""Of the store. 1 had no number, no seal, `done` among the data, and merge trees by connectivity alone."""

UNITS = {
    "unit": "1",
    "model": "norm of theta*",
    "layer": "norm of theta*, tensor by tensor",
    "filter": "norm of theta*, filter by filter",
    "landscaper": "norm of theta*",
}
"""What a coordinate of 1 is, by the directions' normalization."""

OF_TREES = {"long_name": "merge trees"}
"""The attributes of the group of all trees."""
LOSS = "loss"
DONE = ("done", "sha256")
METRICS = "metrics"
"""The attribute that names the arrays beside the losses, one number of each point in each."""
DIRECTIONS = "directions"
HESSIAN = "hessian"
TOPOLOGY = "topology"
ANSWERS = {
    "confirmed": "minima and saddles of the loss, from those of the grid",
    "error_bars": "losses of groups of the data at minima and saddles",
    "trajectory": "other checkpoints, such as those of a training run, projected into the directions",
    "power_law": "power-law exponents of the spectra of the checkpoint's weights, layer by layer",
    "scope": "the lowest part of the landscape: evaluated points, their losses, the merge tree below the level",
    "sampling": "scattered points, their losses, the merge tree of their graph, and minima and saddles of the loss",
}
"""What a study may ask for beside its merge tree, or in its place: the names of groups, and what they hold."""
SCOPE = "scope"
SAMPLING = "sampling"
IN_PLACE = (SCOPE, SAMPLING)
"""Those that stand in place of the losses of the grid and their merge tree."""
ACCEPTED = "accepted"
_AXIS, _SHARD, _BYTE = "alpha_", "shard_", "byte"
_DIRECTION = "direction"
_HESSIAN_DIMENSIONS = {
    "eigenvalues": [_DIRECTION],
    "residuals": [_DIRECTION],
    "trace": ["value_and_error"],
    "density_nodes": ["probe", "step"],
    "density_weights": ["probe", "step"],
}
BASIN = "basin"
"""The minimum that a point descends to, beside its numbers in tables."""
_OWN = {LOSS, *DONE, DIRECTIONS, HESSIAN, TOPOLOGY, *ANSWERS, ACCEPTED, BASIN, _BYTE, _DIRECTION}
_NUMBERED = re.compile(rf"({_AXIS}|{_SHARD})\d+")
_DIGEST_BYTES = hashlib.sha256().digest_size

CONVENTIONS = "CF-1.11"


@dataclass(frozen=True)
class StoredDirections:
    """What the store holds about the directions: `vectors` by parameter name, each of shape (n, *parameter shape);
    `gram` (n, n); `hessian` by name, what is known of the Hessian: `eigenvalues` and `residuals` (n,) where the
    directions are eigenvectors; on demand `trace` (value, standard error) and `density_nodes`, `density_weights`
    (probes, steps)."""

    vectors: Mapping[str, NDArray[Any]]
    gram: NDArray[np.float64]
    hessian: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def build(
    folder: Path,
    grid: Grid,
    shard_shape: Sequence[int],
    directions: StoredDirections,
    attributes: Mapping[str, Any],
    units: str,
) -> None:
    """Write a landscape's group, with everything but losses and metrics, into a new folder, to be published."""
    folder.mkdir()
    names = [f"{_AXIS}{d}" for d in range(grid.ndim)]
    for d, (label, coordinates) in enumerate(zip(names, grid.coordinates(), strict=True)):
        about = {"long_name": f"displacement along direction {d}", "units": units}
        zarr_files.save(folder / label, coordinates, [label], about)
    counts = tuple(-(-k // s) for k, s in zip(grid.shape, shard_shape, strict=True))
    dones = {}
    for variable in (LOSS, *attributes.get(METRICS, ())):
        dones[done(variable)[1]] = zarr_files.array_document(
            (*counts, _DIGEST_BYTES),
            (*(1 for _ in counts), _DIGEST_BYTES),
            np.dtype(np.uint8),
            [*(f"{_SHARD}{d}" for d in range(grid.ndim)), _BYTE],
            {"long_name": f"SHA-256 of the shard's chunk of {variable}; 0 for a shard that is not evaluated"},
        )
        about = {"long_name": f"{variable} at theta* + sum_i alpha_i u_i", "units": "1"}
        zarr_files.make_node(
            folder / variable,
            zarr_files.array_document(grid.shape, shard_shape, np.dtype(np.float64), names, about, fill="NaN"),
        )
    zarr_files.make_node(folder / DONE[0], zarr_files.group_document({}, dones))
    for name, document in dones.items():
        zarr_files.make_node(folder / DONE[0] / name, document)
    zarr_files.save_group(
        folder / DIRECTIONS,
        {"long_name": "directions u_i, by parameter", "gram": directions.gram.tolist()},
        {
            zarr_files.node_name(key): (
                vector,
                [_DIRECTION, *(f"{zarr_files.node_name(key)}:{d}" for d in range(np.ndim(vector) - 1))],
                {"long_name": key, "parameter": key},
            )
            for key, vector in directions.vectors.items()
        },
    )
    if directions.hessian:
        zarr_files.save_group(
            folder / HESSIAN,
            {"long_name": "Hessian of the loss at the checkpoint"},
            {
                key: (
                    values,
                    _HESSIAN_DIMENSIONS.get(key) or [f"{key}:{d}" for d in range(np.ndim(values))],
                    {"long_name": key.replace("_", " ")},
                )
                for key, values in directions.hessian.items()
            },
        )
    own = zarr_files.flat_attributes({"Conventions": CONVENTIONS, "format": FORMAT, **attributes})
    nodes = zarr_files.nodes_in(folder)
    metrics = attributes.get(METRICS, ())
    own["sha256"] = seal(own, {key: node for key, node in nodes.items() if decides(key, metrics)})
    zarr_files.write_document(folder, zarr_files.group_document(own, nodes))


def refuse_format(where: Path, found: Any) -> None:
    if found is None:
        raise ValueError("no format number")
    if found != FORMAT:
        raise InputError(
            f"{where}: has the store's format {found}, this version reads {FORMAT}; read it with the version of "
            "landscaper-hpc that made it, or run the study again in another folder (--out)"
        )


def root_attributes(path: Path) -> dict[str, Any]:
    """The attributes of a `study.zarr`; `InputError` where it is of another format."""
    try:
        found: dict[str, Any] = zarr_files.read_document(path)["attributes"]
        refuse_format(path, found.get("format", 1))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: the metadata cannot be read ({error}); restore or remove this folder") from None
    return found


def make_root(path: Path) -> None:
    """The root group, ready for a new landscape: without consolidated metadata, which would not list it."""
    if (path / zarr_files.NODE).exists():
        root_attributes(path)
    path.mkdir(parents=True, exist_ok=True)
    attributes = {"Conventions": CONVENTIONS, "title": "loss landscapes of a study, one group each", "format": FORMAT}
    zarr_files.write_document(path, zarr_files.group_document(attributes))


def consolidate_root(path: Path, leave_out: str = "") -> None:
    """List all landscapes in the root's metadata. Only the client calls this, when all are there."""
    nodes = zarr_files.nodes_in(path, (leave_out,))
    zarr_files.write_document(path, zarr_files.group_document(root_attributes(path), nodes))


def consolidate(folder: Path, sealed: Mapping[str, Document], leave_out: str) -> None:
    """List what there is in a landscape's groups that grow; `leave_out` names a tree. What is sealed stays as it is."""
    topology = folder / TOPOLOGY
    if topology.is_dir():
        nodes = zarr_files.nodes_in(topology, (leave_out,))
        zarr_files.write_document(topology, zarr_files.group_document(OF_TREES, nodes))
    attributes = zarr_files.read_document(folder)["attributes"]
    nodes = {**sealed, **zarr_files.nodes_in(folder, (*sealed, leave_out, f"{TOPOLOGY}/{leave_out}"))}
    zarr_files.write_document(folder, zarr_files.group_document(attributes, dict(sorted(nodes.items()))))


def done(variable: str) -> tuple[str, str]:
    """Where the hashes of a variable's chunks are: those of the losses are written last."""
    return DONE if variable == LOSS else (DONE[0], f"{DONE[1]}_{variable}")


def at_points(metric: str) -> str:
    """The array of a metric's values in an answer that holds its points and their losses itself."""
    return f"metric_{metric}"


def decides(key: str, metrics: Sequence[str] = ()) -> bool:
    """Whether the node of this path decides a number, and is sealed."""
    first = key.split("/")[0]
    return first in (LOSS, DONE[0], DIRECTIONS, HESSIAN, *metrics) or first.startswith(_AXIS)


def refuse_taken(metrics: Iterable[str], source: str) -> None:
    """`InputError` for a metric that is called as something of a landscape's own is."""
    for name in metrics:
        if name in _OWN or _NUMBERED.fullmatch(name):
            raise InputError(
                f"{source}: Task.metrics: {name!r} cannot be the name of a metric, it is one of the store's own (loss, "
                "done, alpha_0, directions, …); choose another"
            )


def seal(attributes: Mapping[str, Any], nodes: Mapping[str, Document]) -> str:
    """SHA-256 of a landscape's attributes and of the metadata that decide a number."""
    return canonical_sha256([{key: value for key, value in attributes.items() if key != "sha256"}, nodes])
