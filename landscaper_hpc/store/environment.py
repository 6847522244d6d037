"""What a landscape's losses were computed with, and whether others may be mixed with them.

Compared are the versions of landscaper-hpc, torch (with its build, as in 2.13.0+cpu) and numpy, which compute a loss;
Python's minor version; the device's name (that of the GPU, or of the processor, whose vector units decide the last bits
of a sum); and over how many processes the model is divided. Everything else that is recorded
(numba, zarr, Python's patch level) takes no part in a loss.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.errors import InputError
from landscaper_hpc.store import zarr_files

PACKAGES = ("landscaper-hpc", "torch", "numpy")


def refuse_mixture(what: object, known: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> None:
    """`InputError` unless `now` is one of the `known` environments, each as `provenance` records it.

    Names what differs from the first of them, with both values.
    """
    here = _deciding(now)
    if here in map(_deciding, known):
        return
    began = _deciding(known[0])
    differing = [key for key in began if began[key] != here[key]]
    raise InputError(
        f"{what}: was begun with {_said(began, differing)}, and here is {_said(here, differing)} "
        f"(on {platform.node()}); go on with what it was begun with, or mix both in one landscape with "
        "--accept-versions, which is recorded"
    )


def accepted(folder: Path) -> list[dict[str, Any]]:
    """The environments recorded in `folder`, in the order of their hashes."""
    found = []
    for group in sorted(folder.glob("[!.]*/")):
        try:
            flat = zarr_files.read_document(group)["attributes"]
            value: dict[str, Any] = zarr_files.nested_attributes(flat)["environment"]
            whole = canonical_sha256(value).startswith(group.name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            whole = False
        if not whole:
            raise InputError(f"{group}: is torn or altered; remove this folder and accept those versions again")
        found.append(value)
    return found


def accept(folder: Path, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Record `now` in `folder` where it is neither `begun` nor recorded. One group each, named by its hash, so that
    several processes may do this at once."""
    if _deciding(now) in map(_deciding, [begun, *accepted(folder)]):
        return
    own = folder / canonical_sha256(now)[:16]
    for made, about in (folder, {"long_name": "accepted beside what it was begun with"}), (own, {"environment": now}):
        made.mkdir(exist_ok=True)
        zarr_files.write_document(made, zarr_files.group_document(zarr_files.flat_attributes(about), {}))


def _deciding(provenance: Mapping[str, Any]) -> dict[str, str | None]:
    versions = provenance["versions"]
    python = versions.get("python")
    return {
        **{package: versions.get(package) for package in PACKAGES},
        "Python": None if python is None else ".".join(python.split(".")[:2]),
        "device": provenance["device"],
        "gpus_per_model": str(provenance.get("gpus_per_model", 1)),
    }


def _said(values: Mapping[str, str | None], keys: Sequence[str]) -> str:
    return ", ".join(f"{key} {values[key]}" for key in keys)
