"""What `pip install .` brings: every file that the commands need."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.processes
def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    source = tmp_path / "source"  # setuptools leaves a build folder behind, and takes old files from it
    shutil.copytree(ROOT / "landscaper_hpc", source / "landscaper_hpc", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, timeout=240)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {str(p.relative_to(source)) for p in (source / "landscaper_hpc").rglob("*") if p.is_file()}
    assert packed >= files
    assert any(name.endswith("study.yaml") for name in packed)
    assert any(name.endswith(".sbatch") for name in packed)
    (metadata,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".dist-info/METADATA"))
    shown = zipfile.ZipFile(wheel).read(metadata).decode()
    links = re.findall(r"\]\(([^)]+)\)", shown)
    assert len(links) > 10
    assert all(link.startswith(("https://", "#")) for link in links)  # wherever the page is shown, it has no files


def test_every_file_that_readme_and_docs_link_to_is_there() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_readme_counts_the_faults_that_were_injected() -> None:
    """The rows of README's table are sums of those that the program which injects them has written."""
    row = r"^\|[^|]*\| (\d+) \| (\d+) \| (\d+) \|"
    shown = re.findall(row + "$", (ROOT / "README.md").read_text(), re.MULTILINE)
    *written, total = re.findall(row, (ROOT / "tests/slurm/RESULTS.md").read_text(), re.MULTILINE)
    assert [str(sum(int(each[i]) for each in shown)) for i in range(3)] == list(total)
    assert [str(sum(int(each[i]) for each in written)) for i in range(3)] == list(total)
