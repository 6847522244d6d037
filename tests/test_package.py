"""What `pip install .` brings: every file that the commands need."""

from __future__ import annotations

import re
import runpy
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


@pytest.mark.parametrize("repository", [None, "https://example.org/landscaper_hpc"])
def test_the_readme_works_where_it_has_no_files_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: str | None
) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    if repository is not None:
        project += f'[project.urls]\nRepository = "{repository}"\n'
    (tmp_path / "pyproject.toml").write_text(project)
    for name in ("setup.py", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    told: dict[str, str] = {}
    monkeypatch.setattr("setuptools.setup", lambda **keys: told.update(keys))
    runpy.run_path(str(tmp_path / "setup.py"))
    links = re.findall(r"(!?)\[[^]]*\]\(([^)]+)\)", told["long_description"])
    to_files = [link for _, link in links if not link.startswith("#")]
    if repository is None:
        assert all(link.startswith("https://") for link in to_files)
        assert "Tutorial" in told["long_description"]
    else:
        assert len(to_files) > 10
        assert all(link.startswith(f"{repository}/{'raw' if picture else 'blob'}/main/") for picture, link in links)


def test_every_file_that_readme_and_docs_link_to_is_there() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_faults_that_were_injected_are_counted() -> None:
    """The rows of the page's table are sums of those that the program which injects them has written."""
    row = r"^\|[^|]*\| (\d+) \| (\d+) \| (\d+) \|"
    shown = re.findall(row + "$", (ROOT / "docs/limits.md").read_text(), re.MULTILINE)
    *written, total = re.findall(row, (ROOT / "tests/slurm/RESULTS.md").read_text(), re.MULTILINE)
    assert [str(sum(int(each[i]) for each in shown)) for i in range(3)] == list(total)
    assert [str(sum(int(each[i]) for each in written)) for i in range(3)] == list(total)
