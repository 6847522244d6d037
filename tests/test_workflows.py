"""The recipe of docs/workflows.md, run by Snakemake itself. `make test-peers` installs it, beside us."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from studies import wells

pytestmark = [pytest.mark.peers, pytest.mark.processes]
PAGE = Path(__file__).parents[1] / "docs" / "workflows.md"


def test_snakemake_runs_a_study_once_and_a_lost_result_costs_no_evaluation(tmp_path: Path) -> None:
    (snakefile,) = re.findall(r"```python\n# Snakefile\n(.*?)```", PAGE.read_text(), re.DOTALL)
    wells(tmp_path, count=7)
    (tmp_path / "Snakefile").write_text(snakefile)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    program = shutil.which("snakemake", path=path)
    assert program is not None

    def snakemake() -> str:
        done = subprocess.run(
            [program, "--cores", "2"],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "PYTHONPATH": "", "XDG_CACHE_HOME": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert "Nothing to be done" not in snakemake()
    chunks = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs/wells/study.zarr/origin/loss").glob("c*")}
    assert chunks
    report = (tmp_path / "runs/wells/report.html").read_bytes()
    assert "Nothing to be done" in snakemake()
    (tmp_path / "runs/wells/results.json").unlink()
    snakemake()
    assert {file: file.stat().st_mtime_ns for file in chunks} == chunks
    assert (tmp_path / "runs/wells/report.html").read_bytes() == report
