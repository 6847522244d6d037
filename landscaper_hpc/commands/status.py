"""`landscaper-hpc status`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def status(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="a study's folder", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Say what is finished and what is missing. Reads only; safe beside a run.

    \b
    Examples:
      landscaper-hpc status runs/my_study
      landscaper-hpc status runs/my_study --json
    """
    found = _status(folder)
    if as_json:
        print(json.dumps(found))
        return
    for item in found["landscapes"]:
        print(
            f"{item['name']:<20} {item['shards_done']:>8,}/{item['shards']:,} shards "
            f"({100 * item['shards_done'] // item['shards']} %), "
            f"{' × '.join(map(str, item['shape']))} points, merge tree {'done' if item['topology'] else 'pending'}"
        )
    if found["failed"]:
        key, error = next(iter(found["failed"].items()))
        print(f"{len(found['failed'])} shards failed and are set aside: {', '.join(found['failed'])}")
        print(f"the last error of {key} (all are in {folder / 'failed'}):\n{error.rstrip()}")
        print("mend the cause, then: landscaper-hpc run … --retry-failed")
    if not found["landscapes"]:
        print("no directions yet")
    print(f"report: {found['report'] or 'pending'}")


def _status(folder: Path) -> dict[str, Any]:
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.failures import Failures
    from landscaper_hpc.leases import Leases
    from landscaper_hpc.store import LandscapeStore, landscape_names

    if not (folder / "logs").is_dir():
        raise InputError(f"{folder}: is not a study's folder; give the one that `landscaper-hpc run` named")
    stores = [LandscapeStore(folder / "study.zarr", name) for name in landscape_names(folder / "study.zarr")]
    report = folder / "report.html"
    return {
        "landscapes": [
            {
                "name": store.name,
                "study_id": store.study_id,
                "shape": list(store.grid.shape),
                "shards": store.n_shards(),
                "shards_done": store.n_done(),
                "topology": store.has_tree(),
            }
            for store in stores
        ],
        "failed": Failures(folder / "failed").set_aside(),
        "held": Leases(folder / "leases").held() if (folder / "leases").is_dir() else {},
        "report": str(report) if report.exists() else None,
    }
