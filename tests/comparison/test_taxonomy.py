"""What the page of definitions says to do for a phase is done as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "definitions.md"


def test_the_pages_recipe_gives_a_phase_with_its_thresholds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = [part for part in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "taxonomy" in part]
    Path("runs/my_study").mkdir(parents=True)
    results = {"landscapes": [{"loss": 0.01, "hessian": {"lambda_max": 7.0}}]}
    Path("runs/my_study/results.json").write_text(json.dumps(results))
    Path("similarity.json").write_text(json.dumps({"cka": {"0": [[1, 0.2], [0.2, 1]], "2": [[1, 0.95], [0.95, 1]]}}))
    for losses, name in (([0.01, 0.02, 0.01], "IV-B"), ([0.01, 1.0, 0.01], "III")):
        Path("connect.json").write_text(json.dumps({"bezier": {"losses": losses}}))
        exec(code, {})
        assert capsys.readouterr().out.startswith(f"phase {name}: ")
