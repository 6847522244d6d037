"""A page that would be the same is not drawn again; any other is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from landscaper_hpc.report import current_page, page
from landscaper_hpc.report.current_page import is_current
from landscaper_hpc.report.page import write_report
from landscaper_hpc.report.results import read_results, write_results
from tests.report.test_page import make_study, rough
from tests.studies import command


@pytest.fixture
def folder(tmp_path: Path, words_only: None) -> Path:
    make_study(tmp_path, {"only": rough(9, 9)})
    write_report(tmp_path)
    return tmp_path


def test_the_page_that_was_just_written_is_current(folder: Path) -> None:
    assert is_current(folder)


@pytest.mark.thorough
def test_a_page_that_is_missing_torn_or_altered_is_not(folder: Path) -> None:
    written = folder / "report.html"
    whole = written.read_bytes()
    for other in (b"", whole[:-1], whole[: len(whole) // 2], whole.replace(b"SMAD", b"Smad", 1), whole + b"\n"):
        written.write_bytes(other)
        assert not is_current(folder)
    written.unlink()
    assert not is_current(folder)


def test_a_page_of_other_results_or_of_another_version_is_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_results(folder / "results.json")
    write_results(folder / "results.json", {**found, "study": "another"})
    assert not is_current(folder)
    write_results(folder / "results.json", found)
    assert is_current(folder)
    monkeypatch.setattr(current_page, "version_made_with", lambda: "another")
    assert not is_current(folder)


@pytest.mark.thorough
def test_results_that_a_run_writes_while_the_page_is_drawn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of former results does not pass for one of these, nor does `report` leave it there."""
    drawn, found = page._page, read_results(folder / "results.json")
    others = iter(["another", "one more"])

    def meanwhile(results: dict[str, Any], landscapes: Sequence[Any]) -> str:
        if (name := next(others, None)) is not None:
            write_results(folder / "results.json", {**found, "study": name})
        return drawn(results, landscapes)

    monkeypatch.setattr(page, "_page", meanwhile)
    write_report(folder)
    assert not is_current(folder)
    assert command("report", folder).returncode == 0
    assert is_current(folder)
    assert "one more" in (folder / "report.html").read_text()


def test_a_page_of_another_drawing_is_not(folder: Path, tmp_path: Path) -> None:
    """The figures are of the store, and not of `results.json`."""
    results = (folder / "results.json").read_bytes()
    other = tmp_path / "other"
    make_study(other, {"only": rough(9, 9) + 1})
    (other / "results.json").write_bytes(results)
    (other / "report.html").write_bytes((folder / "report.html").read_bytes())
    assert not is_current(other)


@pytest.mark.processes
def test_telling_whether_a_page_is_current_and_a_tree_is_there_loads_nothing_heavy() -> None:
    """A second run of a finished study takes less than loading any of these."""
    heavy = ("torch", "numba", "scipy", "matplotlib", "zarr", "pandas", "networkx")
    code = f"""
import sys
import landscaper_hpc.commands.run, landscaper_hpc.orchestrate, landscaper_hpc.executors.local
import landscaper_hpc.report.current_page, landscaper_hpc.report.quantities, landscaper_hpc.work.measure
print(*[name for name in {heavy} if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == ""
