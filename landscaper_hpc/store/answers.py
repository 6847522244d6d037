"""What a study asks of a landscape beside its merge tree, on disk: a group for each question.

Its SHA-256 covers its arrays and numbers, what was asked for, and the losses: one that is damaged, of other losses, or
of another question is not taken for an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc import strict_json
from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.files import folder_aside
from landscaper_hpc.store import zarr_files
from landscaper_hpc.store.zarr_files import Damaged, Document

_DRAWING = "drawing"


class Answer(NamedTuple):
    """What was found, as arrays, the numbers that were made of it, and what figures show of it."""

    arrays: dict[str, NDArray[Any]]
    numbers: dict[str, Any]
    drawing: dict[str, NDArray[Any]]


def write(
    folder: Path,
    answer: Answer,
    title: str,
    about: Mapping[str, Any],
) -> None:
    """Publish it whole, in place of what is there. `about`: the losses, and what was asked for."""
    arrays = {**answer.arrays, **{f"{_DRAWING}_{name}": values for name, values in answer.drawing.items()}}
    with folder_aside(folder, replace=True) as aside:
        aside.mkdir()
        for name, values in arrays.items():
            dimensions = [f"{name}:{d}" for d in range(np.ndim(values))]
            zarr_files.save(aside / name, values, dimensions, {"long_name": name.replace("_", " ")})
        nodes = zarr_files.nodes_in(aside)
        own = zarr_files.flat_attributes({"long_name": title, **about}) | {"numbers": strict_json.dumps(answer.numbers)}
        sealed = {**own, "sha256": canonical_sha256([own, nodes])}
        zarr_files.write_document(aside, zarr_files.group_document(sealed, nodes))


def is_about(folder: Path, about: Mapping[str, Any]) -> bool:
    """Whether something is there that says it is about this. Looks at one small file."""
    try:
        own = zarr_files.read_document(folder)["attributes"]
        return all(own.get(key) == value for key, value in zarr_files.flat_attributes(about).items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def numbers(folder: Path) -> dict[str, Any] | None:
    """The numbers of what is there, without a look at its arrays; None where nothing is, or nothing that is whole."""
    try:
        own, _ = _sealed(folder)
        return dict(strict_json.loads(own["numbers"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, Damaged):
        return None


def sha256(folder: Path) -> str:
    """Of all that is there; "" where nothing is."""
    try:
        return str(zarr_files.read_document(folder)["attributes"]["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def read(folder: Path, about: Mapping[str, Any]) -> Answer | None:
    """What is there, where it is whole and about this; None otherwise."""
    try:
        own, nodes = _sealed(folder)
        if not is_about(folder, about):
            return None
        arrays = {key: zarr_files.load(folder / key, node) for key, node in nodes.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, Damaged):
        return None
    drawing = {key.removeprefix(f"{_DRAWING}_"): arrays.pop(key) for key in sorted(arrays) if key.startswith(_DRAWING)}
    return Answer(arrays, dict(strict_json.loads(own["numbers"])), drawing)


def _sealed(folder: Path) -> tuple[dict[str, Any], dict[str, Document]]:
    document = zarr_files.read_document(folder)
    attributes, nodes = document["attributes"], zarr_files.consolidated(document)
    own = {key: value for key, value in attributes.items() if key != "sha256"}
    if nodes is None or canonical_sha256([own, nodes]) != attributes["sha256"]:
        raise Damaged(f"{folder} is torn or altered")
    return own, nodes
