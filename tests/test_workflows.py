"""The recipes of docs/workflows.md: run by Snakemake itself, which `make test-peers` installs beside us; what Nextflow
would start, as a shell starts it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from studies import contents, wells

pytestmark = pytest.mark.processes
PAGE = Path(__file__).parents[1] / "docs" / "workflows.md"


@pytest.mark.peers
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


def test_what_nextflow_starts_leaves_the_results_and_does_nothing_twice(tmp_path: Path) -> None:
    (recipe,) = re.findall(r"```groovy\n// main.nf\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (script,) = re.findall(r'script:\n\s*"""\n(.*?)"""', recipe, re.DOTALL)
    (retried,) = re.findall(r"exitStatus in \[(.*?)\]", recipe)
    again = {int(code) for code in retried.split(",")}
    assert os.EX_TEMPFAIL in again  # ended by the scheduler
    assert 2 not in again  # bad input
    study, out = wells(tmp_path / "my study", count=5), tmp_path / "my study/runs/wells"
    for name, value in {"study": study, "out": out, "task.cpus": 1}.items():
        script = script.replace(f"${{{name}}}", str(value))
    assert "$" not in script
    left = []
    for attempt in ("first", "second"):
        (tmp_path / attempt).mkdir()
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-ue", "-c", script],
            cwd=tmp_path / attempt,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr
        assert sorted(file.name for file in (tmp_path / attempt).iterdir()) == ["report.html", "results.json"]
        left.append(contents(out))
    assert left[0] == left[1]
