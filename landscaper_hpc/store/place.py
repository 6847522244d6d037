"""Where the folder of a study or a sweep may lie: not among what others keep, nor in its own."""

from __future__ import annotations

import os
from pathlib import Path

from landscaper_hpc.errors import InputError
from landscaper_hpc.store.folder import StudyFolder, SweepFolder

_ZARR = ("zarr.json", ".zgroup", ".zarray")


def refuse_inside(folder: Path) -> None:
    """`InputError` where `folder`, resolved, is a file or a Zarr store, or lies in one, in a study's folder, or in a
    sweep's, but for the place of that sweep's studies."""
    above = next((holder for holder in (folder, *folder.parents) if _is_there(holder)), None)
    if above is not None and not above.is_dir():
        raise InputError(
            f"{folder}: {'is' if above == folder else f'lies in {above}, which is'} a file; choose another folder with "
            "--out"
        )
    if folder.parent == SweepFolder(folder.parent.parent).studies:
        return
    for holder in (folder, *folder.parents):
        if any(_is_there(holder / name) for name in _ZARR):
            what = "a Zarr store"
        elif holder == folder:
            continue
        elif _is_there(StudyFolder(holder).store):
            what = "the folder of a study"
        elif _is_there(SweepFolder(holder).record):
            what = "the folder of a sweep"
        else:
            continue
        raise InputError(
            f"{folder}: {'is' if holder == folder else f'lies in {holder}, which is'} {what}; choose a folder outside "
            "of it with --out"
        )


def refuse_sweep(folder: Path) -> None:
    """`InputError` where a study would share its folder with a sweep."""
    if _is_there(SweepFolder(folder).record):
        raise InputError(f"{folder}: holds a sweep; choose another folder for the study with --out")


def _is_there(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110  # False for a name that cannot be, where Path raises an error
