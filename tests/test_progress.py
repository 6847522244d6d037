"""Progress in a notebook: one bar, which stays one."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from landscaper_hpc.progress import Bars, heard


class Display:
    """IPython's, as far as a bar needs it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kernel: bool = True) -> None:
        self.made: list[str] = []
        self.shown: list[str] = []
        shell = SimpleNamespace(kernel=1) if kernel else SimpleNamespace()
        package, display = ModuleType("IPython"), ModuleType("IPython.display")
        package.get_ipython = lambda: shell  # type: ignore[attr-defined]
        display.HTML, display.display = str, self._display  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "IPython", package)
        monkeypatch.setitem(sys.modules, "IPython.display", display)

    def _display(self, html: str, display_id: bool) -> Any:
        assert display_id
        self.made.append(html)
        self.shown.append(html)
        return SimpleNamespace(update=self.shown.append)


def work() -> None:
    with Bars() as bars:
        for label in ("directions <a>", "points"):
            for done in range(0, 1001):
                bars.update(label, done, 1000)


def test_a_notebook_has_one_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(monkeypatch)
    work()
    assert len(display.made) == 1
    assert len(display.shown) < 100  # not at every step
    assert "<progress value='0' max='1000'></progress> directions &lt;a&gt;: 0/1,000 (0 %)" in display.shown[0]
    assert any("value='1000'" in html and "directions" in html for html in display.shown)
    assert "points: 1,000/1,000 (100 %)" in display.shown[-1]
    assert capsys.readouterr() == ("", "")
    with heard(quiet=True, verbose=False):
        work()
    assert len(display.made) == 1


def test_a_shell_that_shows_no_html_has_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display(monkeypatch, kernel=False)
    work()
    assert display.made == []
    assert "points: 1,000/1,000 (100 %)" in capsys.readouterr().err
