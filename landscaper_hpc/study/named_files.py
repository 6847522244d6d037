"""Names of files in a study that is written in Python, which has no file of its own beside which they could be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def with_files_from_here(science: Mapping[str, Any]) -> dict[str, Any]:
    """Names of files that the caller gave, which start at the current folder, and not at the one that this writes."""

    def absolute(named: Any) -> Any:
        if isinstance(named, (list, tuple)):
            return [absolute(each) for each in named]
        return str(Path(named).absolute()) if isinstance(named, (str, os.PathLike)) else named

    found = dict(science)
    for part, keys in ((found, ("trajectory",)), (found.get("directions"), ("file", "trajectory", "through"))):
        if isinstance(part, dict):
            part |= {key: absolute(part[key]) for key in keys if key in part}
    return found
