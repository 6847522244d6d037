"""Painting the figures of a page takes more time than all else that a small study does: tests paint what they test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TextIO

import pytest
from matplotlib.backends.backend_svg import FigureCanvasSVG

from landscaper_hpc.files import publish
from landscaper_hpc.report import page, sweep_page
from landscaper_hpc.report.current_page import sealed
from landscaper_hpc.store.folder import StudyFolder


@contextmanager
def nothing_painted() -> Iterator[None]:
    """Figures are made, and empty elements stand for them."""

    def print_svg(canvas: FigureCanvasSVG, file: TextIO, **_: object) -> None:
        file.write("<svg></svg>")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasSVG, "print_svg", print_svg)
        patch.setattr(import_module("landscaper_hpc.report.figures.style"), "make_room", lambda figure: None)
        yield


@contextmanager
def painted_once(unpainted: Callable[[], bool]) -> Iterator[None]:
    """Runs within this process make no page again that was made from the same, and paint none at all if `unpainted`."""
    made: dict[tuple[bytes, bool], bytes] = {}

    def write_report(folder: Path, draw: Callable[[Path], Path] = page.write_report) -> Path:
        made_of, bare = sealed("", folder), unpainted()
        found = made.get((made_of, False)) or (made.get((made_of, True)) if bare else None)
        path = StudyFolder(folder).report
        if found:
            publish(path, found)
        else:
            with nothing_painted() if bare else nullcontext():
                made[made_of, bare] = draw(folder).read_bytes()
        return path

    def write_sweep(folder: Path, draw: Callable[[Path], Path] = sweep_page.write_sweep) -> Path:
        with nothing_painted() if unpainted() else nullcontext():
            return draw(folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "write_report", write_report)
        patch.setattr(sweep_page, "write_sweep", write_sweep)
        yield
