"""Files of users as modules."""

from __future__ import annotations

import sys
from pathlib import Path

from landscaper_hpc.objective.usercode import user_module

FIRST = """
import types
import neighbour

class Obliging(types.ModuleType):
    def __getattr__(self, name):
        return object()

import sys
sys.modules["obliging"] = Obliging("obliging")
"""


def test_its_neighbours_are_forgotten_and_modules_that_make_up_attributes_stay(tmp_path: Path) -> None:
    """As some of torch's do, which a user's file may be the first to import."""
    (tmp_path / "neighbour.py").write_text("here = 1\n")
    (tmp_path / "first.py").write_text(FIRST)
    try:
        with user_module(tmp_path / "first.py") as module:
            assert module.neighbour.here == 1
            assert "neighbour" in sys.modules
        assert "neighbour" not in sys.modules
        assert "obliging" in sys.modules
    finally:
        sys.modules.pop("obliging", None)
