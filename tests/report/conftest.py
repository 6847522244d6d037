from __future__ import annotations

from typing import TextIO

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, but nothing is painted, which is most of a page's time."""

    def savefig(figure: Figure, file: TextIO, **_: object) -> None:
        file.write("<svg></svg>")

    monkeypatch.setattr(Figure, "savefig", savefig)
