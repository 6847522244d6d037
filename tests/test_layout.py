"""The tree of folders shows the architecture: tests mirror it, and what is long says why."""

from __future__ import annotations

from pathlib import Path

import landscaper_hpc

PACKAGE = Path(landscaper_hpc.__file__).parent
TESTS = Path(__file__).parent


def test_a_module_of_more_than_300_lines_says_why() -> None:
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text()
        if text.count("\n") > 300:
            assert "Longer than most modules" in " ".join(text.split('"""')[1].split()), file


def test_every_package_has_tests_of_its_own() -> None:
    packages = [folder.parent for folder in PACKAGE.glob("*/__init__.py")]
    assert len(packages) > 10
    assert [p.name for p in packages if not list((TESTS / p.name).glob("test_*.py"))] == []
