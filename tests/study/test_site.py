"""Site profiles: strict, found by name, and unable to bring a shell command along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from landscaper_hpc import Site
from landscaper_hpc.errors import InputError

HOSTILE = [
    "x; touch pwned",
    "x\ntouch pwned",
    "x\rtouch pwned",
    "x\u2028touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    "x' touch pwned '",
    'x" touch pwned "',
    "x\\",
    "x # y",
    "x && touch pwned",
    "> pwned",
    "",
]
TEXTS = [
    "slurm.account",
    "slurm.partition",
    "slurm.qos",
    "slurm.constraint",
    "slurm.reservation",
    "slurm.memory",
    "slurm.walltime",
    "slurm.modules.0",
    "slurm.launcher.mpi",
    "slurm.launcher.args.0",
    "slurm.options.mail-user",
    "stripe.size",
    "device",
]


def profile(folder: Path, key: str, value: Any) -> Path:
    """A site file in which only this key is given."""
    *parents, last = key.split(".")
    data: Any = [value] if last == "0" else {last: value}
    for part in reversed(parents):
        data = {part: data}
    (folder / "site.yaml").write_text(yaml.safe_dump(data))
    return folder / "site.yaml"


@pytest.mark.parametrize("key", TEXTS)
@pytest.mark.parametrize("value", HOSTILE)
def test_no_shell_command_where_a_name_belongs(tmp_path: Path, key: str, value: str) -> None:
    if key == "slurm.options.mail-user" and value in ("x; touch pwned", "x && touch pwned", "> pwned"):
        Site.load(profile(tmp_path, key, value))  # a text of sbatch's: it reaches the script in quotes
        return
    with pytest.raises(InputError, match=key.split(".")[-2 if key.endswith(".0") else -1]):
        Site.load(profile(tmp_path, key, value))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("slurm.walltime", "2:00", "hours:minutes:seconds"),
        ("slurm.walltime", "0:03:00", "leaves less than two minutes"),
        ("slurm.options", {"array": "0-9"}, "--array is set by the program"),
        ("slurm.options", {"qos": "debug"}, "has a key of its own, slurm.qos"),
        ("slurm.options", {"wrap": "touch pwned"}, "--wrap is set by the program"),
        ("slurm.environment", {"A B": "1"}, "the name of a variable"),
        ("slurm.environment", {"A": "1\n2"}, "control characters"),
        ("slurm.nodes", 0, "slurm.nodes"),
        ("slurm.partitions", "x", "unknown key slurm.partitions"),
        ("container", {"runtime": "docker", "image": "x"}, "container.runtime"),
        ("container", {"runtime": "apptainer", "image": "--help"}, "cannot begin with -"),
        ("container", {"runtime": "apptainer", "image": "x", "binds": ["a:b"]}, "container.binds.0"),
        ("stripe", {"count": -2}, "stripe.count"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, key: str, value: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        Site.load(profile(tmp_path, key, value))


def test_a_container_that_would_not_be_used_is_refused(tmp_path: Path) -> None:
    file = profile(tmp_path, "container", {"runtime": "shifter", "image": "landscaper-hpc:latest"})
    for executor in ("slurm", "dask"):
        assert Site.load(file, [f"executor={executor}"]).container is not None
    with pytest.raises(InputError, match=r"workers of dask\.scheduler are started by others"):
        Site.load(file, ["executor=dask", "dask.scheduler=node7:8786"])


def test_what_sites_need_is_taken(tmp_path: Path) -> None:
    site = Site.load(
        "perlmutter",
        [
            "slurm.account=m1234_g",
            "slurm.constraint='gpu&hbm80g'",
            "slurm.walltime=1-12:00:00",
            "slurm.options.mail-type=FAIL,TIME_LIMIT",
            "slurm.options.exclusive=true",
            "slurm.modules=[cudatoolkit/12.4, python/3.11-anaconda-2024.02]",
            "slurm.environment.NOTE=it's $HOME",
        ],
    )
    assert site.slurm.seconds == 36 * 3600
    assert site.slurm.tasks == 4
    assert site.slurm.environment["NOTE"] == "it's $HOME"


def test_a_walltime_needs_no_quotes(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("slurm: {walltime: 2:30:00}")
    assert Site.load(tmp_path / "site.yaml").slurm.seconds == 9000


def test_profiles_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Site.load("perlmutter").slurm.gpus_per_node == 4
    with pytest.raises(InputError, match="generic_slurm, laptop, one_gpu, perlmutter, testbed"):
        Site.load("summit")
    (tmp_path / "mine.yaml").write_text("executor: serial")
    assert Site.load("mine.yaml").executor == "serial"
    with pytest.raises(InputError, match=r"nowhere.yaml: cannot be read"):
        Site.load("nowhere.yaml")


def test_scratch_is_expanded_without_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    assert Site.load("perlmutter").runs() == Path("/scratch/me/landscapes")
    monkeypatch.delenv("SCRATCH")
    with pytest.raises(InputError, match="names a variable that is not set"):
        Site.load("perlmutter").runs()


def test_a_scratch_in_the_home_of_nobody_is_one_sentence() -> None:
    with pytest.raises(InputError, match="nobody knows the home folder of ~nobody_here/runs here; write the path out"):
        Site(scratch="~nobody_here/runs").runs()


def test_what_means_nothing_to_the_executor_is_said() -> None:
    assert Site(workers=3).left_aside() == []
    assert Site(executor="serial", workers=3).left_aside() == [
        "workers: 3 is for executor: local, and left aside with serial"
    ]
    (said,) = Site.model_validate({"container": {"runtime": "apptainer", "image": "a.sif"}}).left_aside()
    assert "container: a.sif is for jobs that are submitted, and with executor: local this runs outside" in said
