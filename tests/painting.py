"""Painting the figures of a page takes more time than all else that a small study does: tests paint what they test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TextIO

import pytest
from matplotlib.backends.backend_svg import FigureCanvasSVG

from landscaper_hpc.files import publish
from landscaper_hpc.report import page, sweep_page
from landscaper_hpc.report.current_page import sources_sha256
from landscaper_hpc.store.folder import StudyFolder

_painting = True


@contextmanager
def nothing_painted() -> Iterator[None]:
    """Figures are made, and empty elements stand for them."""

    def print_svg(canvas: FigureCanvasSVG, file: TextIO, **_: object) -> None:
        file.write("<svg></svg>")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasSVG, "print_svg", print_svg)
        patch.setattr(import_module("landscaper_hpc.report.figures.style"), "make_room", lambda figure: None)
        patch.setattr(sys.modules[__name__], "_painting", False)
        yield


@contextmanager
def painted_once(unpainted: Callable[[], bool], pages: Path) -> Iterator[None]:
    """Runs within this process make no page again that was made from the same by one that keeps them in this folder,
    and paint none at all if `unpainted`."""
    pages.mkdir(exist_ok=True)

    def write_report(folder: Path, draw: Callable[[Path], Path] = page.write_report) -> Path:
        made_of, bare = sources_sha256(folder), unpainted() or not _painting
        painted, unpainted_too = pages / made_of, pages / f"{made_of}.bare"
        path = StudyFolder(folder).report
        for kept in (painted, unpainted_too) if bare else (painted,):
            if kept.exists():
                publish(path, kept.read_bytes())
                return path
        with nothing_painted() if bare else nullcontext():
            publish(unpainted_too if bare else painted, draw(folder).read_bytes())
        return path

    def write_sweep(folder: Path, draw: Callable[[Path], Path] = sweep_page.write_sweep) -> Path:
        with nothing_painted() if unpainted() else nullcontext():
            return draw(folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "write_report", write_report)
        patch.setattr(sweep_page, "write_sweep", write_sweep)
        yield
