"""Merge trees on disk: one group for each connectivity and direction, `<connectivity>.<direction>`, in a folder.

A tree's SHA-256 covers its arrays and what else it holds, and the losses it was made from: a tree that is damaged, or
of other losses, is not taken for one of these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc import strict_json
from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.store import zarr_files
from landscaper_hpc.store.layout import OF_TREES
from landscaper_hpc.store.zarr_files import Damaged, Document

if TYPE_CHECKING:
    from landscaper_hpc.topology import MergeTree

_OF_THE_WHOLE = ("shape", "value_range", "nonfinite", "n_vertices", "connectivity", "direction")
_LONG_NAMES = {
    "minima": "flat id of the minimum, in C order",
    "values": "loss at the minimum",
    "basin_size": "number of points that descend steepest to the minimum",
    "first_saddle": "flat id where the minimum's component first meets another; -1 for nowhere",
    "first_saddle_value": "loss there",
    "parent": "index of the minimum whose component absorbs it; -1 for none",
    "death": "flat id where that happens; -1 for nowhere",
    "death_value": "loss there",
}


_DRAWING = "drawing"


class Stored(NamedTuple):
    """A tree's arrays, and what was stored with it: the numbers that were made of it, and the arrays of its drawing."""

    arrays: dict[str, NDArray[Any]]
    numbers: dict[str, Any]
    drawing: dict[str, NDArray[Any]]

    @property
    def tree(self) -> MergeTree:
        from landscaper_hpc.topology import MergeTree

        return MergeTree.from_arrays(self.arrays)


def tree_name(connectivity: str, direction: str) -> str:
    return f"{connectivity}.{direction}"


def make_group(folder: Path) -> None:
    """The group of all trees; does nothing where it is there."""
    folder.mkdir(exist_ok=True)
    if not (folder / zarr_files.NODE).exists():
        zarr_files.write_document(folder, zarr_files.group_document(OF_TREES, {}))


def same(one: MergeTree, other: MergeTree) -> bool:
    """Whether two trees are the same to the bit, whatever their labels."""
    a, b = one.to_arrays(), other.to_arrays()
    return all(a[key].tobytes() == b[key].tobytes() for key in (a | b) if key != "labels")


def same_numbers(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return strict_json.dumps(one) == strict_json.dumps(other)  # NaN is itself


def build(
    folder: Path, tree: MergeTree, losses: str, numbers: Mapping[str, Any], drawing: Mapping[str, NDArray[Any]]
) -> None:
    """Write a tree, without labels, and what was made of it into a new folder, which is to be published."""
    arrays = {name: values for name, values in tree.to_arrays().items() if name != "labels"}
    whole = {name: arrays.pop(name) for name in _OF_THE_WHOLE}
    folder.mkdir()
    for name, values in arrays.items():
        zarr_files.save(folder / name, values, ["minimum"], {"long_name": _LONG_NAMES.get(name, name)})
    if drawing:
        zarr_files.save_group(
            folder / _DRAWING,
            {"long_name": "what figures show of the tree"},
            {
                name: (values, [f"{name}:{d}" for d in range(np.ndim(values))], {"long_name": name.replace("_", " ")})
                for name, values in drawing.items()
            },
        )
    nodes = zarr_files.nodes_in(folder)
    own: dict[str, Any] = {
        "long_name": f"merge tree, {tree.connectivity} connectivity, {tree.direction}",
        "connectivity": tree.connectivity,
        "direction": tree.direction,
        "n_vertices": int(whole["n_vertices"]),
        "shape": whole["shape"].tolist(),
        "value_range": [v if math.isfinite(v) else str(v) for v in whole["value_range"].tolist()],
        "nonfinite": whole["nonfinite"].tolist(),
        "losses_sha256": losses,
    }
    own = zarr_files.flat_attributes(own) | {"numbers": strict_json.dumps(numbers)}
    seal = canonical_sha256([own, nodes])
    zarr_files.write_document(folder, zarr_files.group_document({**own, "sha256": seal}, nodes))


def read(folder: Path, losses: str) -> Stored:
    """What is in a folder; `FileNotFoundError` where there is none, `Damaged` where it is not of these losses."""
    attributes, nodes = _sealed(folder)
    if attributes["losses_sha256"] != losses:
        raise Damaged(f"the merge tree {folder.name} was made from other losses")
    arrays: dict[str, NDArray[Any]] = {}
    drawing: dict[str, NDArray[Any]] = {}
    for key, document in nodes.items():
        if document["node_type"] == "array":
            group, _, name = key.rpartition("/")
            (drawing if group == _DRAWING else arrays)[name] = zarr_files.load(folder / key, document)
    numbers = attributes["numbers"]
    own = zarr_files.nested_attributes({key: value for key, value in attributes.items() if key != "numbers"})
    arrays |= {
        "shape": np.array(own["shape"], np.int64),
        "value_range": np.array([float(v) for v in own["value_range"]]),
        "nonfinite": np.array(own["nonfinite"], np.int64),
        "n_vertices": np.array(own["n_vertices"], np.int64),
        **{key: np.frombuffer(own[key].encode("ascii"), np.uint8) for key in ("connectivity", "direction")},
    }
    return Stored(arrays, dict(strict_json.loads(numbers)), drawing)


def _sealed(folder: Path) -> tuple[dict[str, Any], dict[str, Document]]:
    try:
        document = zarr_files.read_document(folder)
        attributes, nodes = document["attributes"], zarr_files.consolidated(document)
        own = {key: value for key, value in attributes.items() if key != "sha256"}
        if nodes is not None and canonical_sha256([own, nodes]) == attributes["sha256"]:
            return attributes, nodes
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise Damaged(f"the merge tree {folder.name} is torn or altered")
