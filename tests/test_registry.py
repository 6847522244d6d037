"""Executors by name: valid ones are listed, what is not installed is one sentence, others bring their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from studies import command, contents, wells

from landscaper_hpc import InputError, Site, Study, run
from landscaper_hpc.registry import EXECUTORS

SIXTH = '''
"""An executor of another package: every item in this process, and a note of it."""
from pathlib import Path
from landscaper_hpc.executors import SerialMapper

class Noting(SerialMapper):
    def __init__(self, folder):
        self.folder = folder

    def map_unordered(self, function, items, on_progress=None):
        for item in super().map_unordered(function, items, on_progress):
            with (self.folder / "logs/noted").open("a") as stream:
                print(item, file=stream)
            yield item

def noting(site, campaign):
    return Noting(campaign.folder)
'''


@pytest.fixture
def sixth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages with one that registers executors."""
    place = tmp_path / "packages"
    metadata = place / "sixth-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: sixth\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[landscaper_hpc.executors]\nnoting = sixth:noting\ntorn = sixth:gone\nserial = sixth:noting\n"
    )
    (place / "sixth.py").write_text(SIXTH)
    monkeypatch.syspath_prepend(str(place))
    return place


@pytest.mark.processes
def test_a_study_runs_by_an_executor_of_another_package(tmp_path: Path, sixth: Path) -> None:
    study = Study.load(wells(tmp_path / "study", count=5))
    assert run(study, Site(executor="noting", shard_points=5), tmp_path / "noting")
    assert (tmp_path / "noting/logs/noted").read_text().count("shard") == 5
    assert run(study, Site(executor="serial", shard_points=5), tmp_path / "serial")
    assert not (tmp_path / "serial/logs/noted").exists()  # our own names stay ours
    assert contents(tmp_path / "noting") == contents(tmp_path / "serial")


def test_an_unknown_executor_is_answered_with_the_valid_ones(tmp_path: Path, sixth: Path) -> None:
    with pytest.raises(InputError) as refused:
        Site.load(None, ["executor=slrum"])
    assert str(refused.value) == (
        "--set: executor: must be one of serial, local, mpi, slurm, dask, noting, torn; found 'slrum'"
    )
    done = command("run", wells(tmp_path), "--executor", "nothing")
    assert done.returncode == 2
    assert "executor: must be one of serial, local, mpi, slurm, dask, noting, torn; found 'nothing'" in done.stderr


def test_an_executor_that_cannot_be_loaded_is_one_sentence(sixth: Path) -> None:
    with pytest.raises(
        InputError, match=r"^executor torn: sixth:gone of sixth cannot be loaded \(.*\); mend or remove"
    ):
        EXECUTORS.load("torn")


@pytest.mark.parametrize(
    ("executor", "package"), [("slurm", "submitit"), ("dask", "distributed"), ("dask", "dask_jobqueue")]
)
@pytest.mark.processes
def test_a_missing_extra_is_one_sentence(executor: str, package: str) -> None:
    code = f"""
import sys
sys.modules[{package!r}] = None
from landscaper_hpc.errors import InputError
from landscaper_hpc.registry import EXECUTORS
try:
    EXECUTORS.load({executor!r})
except InputError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    start, _, rest = said.partition(" needs ")
    assert start == f"executor {executor}"
    assert rest.startswith(package)
    assert rest.endswith(f", which is not installed; pip install 'landscaper-hpc[{executor}]'\n")


@pytest.mark.processes
def test_names_are_known_without_what_they_stand_for() -> None:
    code = """
import sys
from landscaper_hpc import Site
Site(executor="slurm")
print([name for name in sys.modules if name.startswith("landscaper_hpc.executors") or name in ("torch", "submitit")])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
