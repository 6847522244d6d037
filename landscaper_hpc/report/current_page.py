"""What a page was made of, as its last line says: a page that would be the same again need not be drawn again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from landscaper_hpc.digests import canonical_sha256, combined_sha256
from landscaper_hpc.report.results import read_results
from landscaper_hpc.store.folder import StudyFolder
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import IN_PLACE
from landscaper_hpc.study.study import Study


def sealed(page: str, made_of: str) -> bytes:
    """A page with its last line, which tells the hash of what it was `made_of`."""
    whole = page.encode() + b"\n"
    return whole + _last_line(whole, made_of)


def is_current(folder: Path) -> bool:
    """Whether the folder's page is whole, and was drawn by this version from what is there."""
    try:
        content = StudyFolder(folder).report.read_bytes()
    except OSError:
        return False
    page, start, _ = content.rpartition(_START)
    return bool(start) and content == page + _last_line(page, sources_sha256(folder))


_START = b"<!-- made of "


def sources_sha256(folder: Path) -> str:
    """Of what a page of a study's folder is made of. To be taken before it is drawn: meanwhile a run may find more."""
    inside = StudyFolder(folder)
    results = read_results(inside.results)
    asked = Study.asked_in(results["provenance"]["configuration"])
    stores = [LandscapeStore(inside.store, item["name"]) for item in results["landscapes"]]
    sources = [hashlib.sha256(inside.results.read_bytes()).hexdigest(), version_made_with()]
    for store in stores:
        answers = [answer for question in asked.items() if (answer := store.answer(*question)) is not None]
        if not asked.keys().isdisjoint(IN_PLACE):  # the page is of that alone
            sources += [_arrays_sha256(answer.drawing) for answer in answers]
            continue
        drawn = (store.drawing(), *(answer.drawing for answer in answers))
        shown = [store.losses_sha256(), *(values.losses_sha256() for values in store.metrics.values())]
        sources += [*shown, *map(_arrays_sha256, drawn)]
    return canonical_sha256(sources)


def _last_line(page: bytes, made_of: str) -> bytes:
    return _START + f"{made_of}, {hashlib.sha256(page).hexdigest()} -->\n".encode()


def _arrays_sha256(arrays: Mapping[str, Any]) -> str:
    return canonical_sha256({name: hashlib.sha256(values.tobytes()).hexdigest() for name, values in arrays.items()})


@cache
def version_made_with() -> str:
    """Of all that decides how the same numbers are drawn."""
    package = Path(str(files("landscaper_hpc")))
    code: Iterable[Path] = (*package.glob("report/**/*.py"), *package.glob("templates/*.j2"))
    return f"{combined_sha256(sorted(code))} {version('matplotlib')}"
