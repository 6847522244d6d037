"""A campaign as data: what a job, which shares nothing but files with the client that submits it, is given to work on.

JSON with a SHA-256 that the job is told beside it, in a folder that only its owner may enter: nothing that is read
there is run, and nothing is read that the client did not write.
"""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from landscaper_hpc.errors import InputError
from landscaper_hpc.files import private_folder, publish
from landscaper_hpc.store.folder import JobsFolder
from landscaper_hpc.strict_json import parsed
from landscaper_hpc.study.site import Site
from landscaper_hpc.study.study import AXIS_KEYS, Study
from landscaper_hpc.work.campaign import Campaign, Plan
from landscaper_hpc.work.shared_directions import SharedDirections
from landscaper_hpc.work.sweep import Sweep

_KINDS: dict[str, type[Campaign]] = {"study": Campaign, "sweep": Sweep}


def hand_over(campaign: Campaign, site: Site, folder: Path) -> tuple[Path, str]:
    """Write what a campaign works on to a file in the private `folder`; the file, and the SHA-256 of its bytes.

    The same campaign gives the same file.
    """
    content = json.dumps(_described(campaign, site), sort_keys=True, allow_nan=False).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    file = JobsFolder(private_folder(folder)).campaign(sha256)
    if not file.exists() or file.read_bytes() != content:
        publish(file, content)
    return file, sha256


def taken_over(file: Path, sha256: str) -> Campaign:
    """The campaign of a file that `hand_over` wrote. `InputError` where its bytes are others, or another version's."""
    private_folder(file.parent)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); submit the job again") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{file}: is not what was submitted, its SHA-256 differs; cancel the job and submit it again")
    data = parsed(content)
    own, others = version("landscaper-hpc"), data.get("version")
    if own != others and not data["site"]["accept_versions"]:
        raise InputError(
            f"{file}: was submitted by landscaper-hpc {others}, and the job has {own} ({sys.executable}); let "
            "slurm.python be of the same version, cancel the jobs and submit them again"
        )
    return _restored(data)


def _described(campaign: Campaign, site: Site) -> dict[str, Any]:
    workers = {item.workers for item in campaign.landscapes} - {None}
    return {
        "version": version("landscaper-hpc"),
        "kind": next(kind for kind, cls in _KINDS.items() if type(campaign) is cls),
        "folder": str(campaign.folder),
        "workers": [str(folder) for folder in workers],
        "site": site.model_dump(mode="json"),
        "plans": [{**_study(plan.study), "folder": str(plan.folder)} for plan in campaign.plans],
        "shared": [{**_study(shared.landscape.study), "file": str(shared.file)} for shared in campaign.shared],
    }


def _study(study: Study) -> dict[str, Any]:
    said = study.model_dump(mode="json")
    if study.grid.axes is not None:  # what is of all axes may not be said beside them
        said["grid"] = {key: value for key, value in said["grid"].items() if key not in AXIS_KEYS}
    return {"study": said, "base": str(study.path("."))}


def _restored(data: dict[str, Any]) -> Campaign:
    folder, site = Path(data["folder"]), Site.model_validate(data["site"])
    workers = next(map(Path, data["workers"]), None)

    def study(item: dict[str, Any]) -> Study:
        return Study.of(item["study"], Path(item["base"]) / "study.yaml")

    plans = tuple(Plan.of(study(item), site, Path(item["folder"]), workers) for item in data["plans"])
    if data["kind"] == "study":
        return Campaign(folder, plans)
    shared = tuple(SharedDirections.of(study(item), Path(item["file"]), site, workers) for item in data["shared"])
    return Sweep(folder, plans, directions=shared)
