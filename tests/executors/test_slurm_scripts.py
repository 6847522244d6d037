"""The scripts that jobs get: no word of a profile is read by a shell, arrays fit the limits, shellcheck agrees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from studies import command, network, wells

from landscaper_hpc import Site, Study
from landscaper_hpc.errors import InputError
from landscaper_hpc.executors import scripts, slurm_site_checks
from landscaper_hpc.study.site import Container
from landscaper_hpc.work.campaign import Campaign

ROOT = Path(__file__).parents[2]
pytest.importorskip("submitit")
HOSTILE = "it's $(touch pwned) `touch pwned` \"; touch pwned #\\ é"
CONTAINERS = ["apptainer", "podman-hpc", "shifter", "charliecloud"]


def campaign(folder: Path, site: Site) -> Campaign:
    return Campaign.of(Study.load(wells(folder / "a study")), site, folder / "the run")


@pytest.mark.processes
@pytest.mark.parametrize("runtime", [None, *CONTAINERS])
def test_a_script_runs_nothing_that_a_profile_says(tmp_path: Path, runtime: str | None) -> None:
    """The script itself runs, with an srun that says what it was given and a Slurm that is not there."""
    container = None if runtime is None else {"runtime": runtime, "image": HOSTILE, "binds": [f"/{HOSTILE}"]}
    site = Site.model_validate(
        {
            "executor": "slurm",
            "device": "cuda",
            "container": container,
            "slurm": {
                "environment": {"TOLD": HOSTILE},
                "python": HOSTILE,
                "options": {"mail-user": "a b; touch pwned & > pwned"},
                "modules": ["python/3.11"],
                "gpus_per_node": 4,
            },
        }
    )
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "srun").write_text('#!/bin/bash\nprintf "%s\\0" "$TOLD" "$@" > "$HOME/told"\nexit 75\n')
    (tools / "module").write_text('#!/bin/bash\necho "$@" > "$HOME/module"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    for stage in ("prepare", "evaluate", "topology", "report"):
        text = scripts.script(campaign(tmp_path, site), site, stage, size=2 if stage == "evaluate" else 1)
        environment = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(tmp_path), "SLURM_JOB_ID": "1"}
        done = subprocess.run(["bash", "-c", text], env=environment, cwd=tmp_path, check=False, capture_output=True)
        assert done.returncode == 75, done.stderr
        told, *arguments = (tmp_path / "told").read_text().split("\0")[:-1]
        assert told == HOSTILE
        assert HOSTILE in arguments
        assert arguments[-1] == str(tmp_path / "the run/jobs")
        assert arguments[-5:-1] == ["-P", "-u", "-m", "submitit.core._submit"]  # nor is the current folder looked into
        if runtime is not None:
            assert any(word.endswith(HOSTILE) and "/" in word for word in arguments)
            assert any(str(tmp_path / "a study") in word for word in arguments)
        assert (tmp_path / "module").read_text() == "load python/3.11\n"
        assert all(line.startswith("#SBATCH --") for line in text.splitlines() if "touch pwned &" in line)
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.processes
@pytest.mark.parametrize("profile", ["generic_slurm", "perlmutter", "testbed"])
def test_shellcheck_finds_nothing(tmp_path: Path, profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site.load(profile)
    for name, text in scripts.scripts(campaign(tmp_path, site), site, [3, 1]).items():
        (tmp_path / f"{name}.sh").write_text(text)
    shellcheck(*sorted(tmp_path.glob("*.sh")))


@pytest.mark.processes
def test_shellcheck_finds_nothing_in_the_scripts_people_submit() -> None:
    shellcheck(*sorted((ROOT / "slurm").glob("*.sbatch")))


def shellcheck(*files: Path) -> None:
    assert files
    program = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([program, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_gpu_nodes_of_perlmutter(tmp_path: Path) -> None:
    site = Site.load("perlmutter", ["slurm.account=m1234"])
    text = scripts.script(campaign(tmp_path, site), site, "evaluate", 16)
    options = {line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")}
    assert {
        "account=m1234",
        "constraint=gpu",
        "qos=regular",
        "gpus-per-node=4",
        "ntasks-per-node=4",
        "nodes=1",
        "array=0-15%16",
        "time=360",
        "signal=USR2@300",
        "requeue",
    } <= options
    assert "gpu-bind" not in text
    topology = scripts.script(campaign(tmp_path, site), site, "topology")
    assert "--mpi=cray_shasta" in topology
    assert "--mpi=none" in text


@pytest.mark.parametrize(
    ("nodes", "tasks", "shards", "limits", "others", "expected"),
    [
        (4, 1, 100, {"max_array": 10}, 3, [4]),
        (25, 1, 100, {"max_array": 10}, 3, [10, 10, 5]),
        (25, 4, 10, {"max_array": 10}, 3, [3]),
        (25, 4, 0, {"max_array": 10}, 3, [1]),
        (25, 1, 100, {"max_array": 10, "max_jobs": 16}, 3, [10, 3]),
        (25, 1, 100, {"max_array": 10, "max_jobs": 4}, 9, [1]),
    ],
)
def test_arrays_fit_the_limits(
    nodes: int, tasks: int, shards: int, limits: dict[str, int], others: int, expected: list[int]
) -> None:
    site = Site.model_validate({"slurm": {"nodes": nodes, "tasks_per_node": tasks, "limits": limits}})
    assert scripts.room(site).arrays(shards, others) == expected


def test_a_folder_that_slurm_would_expand_is_refused(tmp_path: Path) -> None:
    site = Site(executor="slurm")
    study = Study.load(wells(tmp_path / "study"))
    for name in ("100%", "it's", "a\nb", "$HOME"):
        with pytest.raises(InputError, match="choose another folder"):
            scripts.script(Campaign.of(study, site, tmp_path / name), site, "report")


def test_a_folder_is_bound_once() -> None:
    words = scripts.contained(
        Container(runtime="apptainer", image="x.sif", binds=["/data", "/a:/b"]),
        ["/runs/s/1", "/runs/s", "/data/x", "/a"],
        gpu=True,
    )
    assert words == [
        "apptainer",
        "exec",
        "--nv",
        "--bind=/data",
        "--bind=/a:/b",
        "--bind=/a",
        "--bind=/runs/s",
        "x.sif",
    ]


def test_every_folder_that_a_study_names_is_bound(tmp_path: Path) -> None:
    file = wells(tmp_path / "studies/one")
    for name, folder in (("task.py", "code"), ("origin.pt", "runs/a"), ("axes.pt", "directions")):
        (tmp_path / folder).mkdir(parents=True)
        (file.parent / name).rename(tmp_path / folder / name)
        file.write_text(file.read_text().replace(name, str(Path("../..") / folder / name)))
    site = Site.model_validate({"container": {"runtime": "apptainer", "image": "x.sif"}})
    words = scripts.python(Campaign.of(Study.load(file), site, tmp_path / "out"), site).split()
    bound = {word.removeprefix("--bind=") for word in words if word.startswith("--bind=")}
    assert bound == {str(tmp_path / name) for name in ("studies/one", "code", "runs/a", "directions", "out")}


@pytest.mark.processes
def test_dry_run_needs_no_slurm_and_writes_nothing(tmp_path: Path) -> None:
    file = network(tmp_path / "study")
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "landscaper_hpc.cli", "run", file, "--site", "generic_slurm", "--dry-run"],
        env={**os.environ, "PATH": "/nowhere"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("#!/bin/bash") == 4
    asked = command("doctor", "--site", "generic_slurm", "--dry-run", cwd=tmp_path)
    ours, theirs = (
        {line.partition("=")[0] for line in text.splitlines() if line.startswith("#SBATCH")}
        for text in (done.stdout, asked.stdout)
    )
    assert ours == theirs
    assert "#SBATCH --array=0-3%4" in asked.stdout
    assert command("doctor", "--dry-run").returncode == 2  # no Slurm site
    assert sorted(tmp_path.rglob("*")) == before


NODES = {
    "all well": ("n1|idle|up|none\nn2|mixed|up|none\n", True, "all 2 can be used"),
    "one drained": ("n1|idle|up|none\nn2|drained|up|bad disk\n", None, "1 of 2 cannot be used: n2 drained (bad disk)"),
    "one does not answer": ("n1|idle*|up|none\nn2|allocated|up|none\n", None, "1 of 2 cannot be used: n1 idle*"),
    "the partition is down": ("n1|idle|down|none\n", False, "1 of 1 cannot be used: n1 idle, its partition is down"),
}


@pytest.mark.parametrize("what", NODES)
def test_doctor_names_nodes_that_cannot_be_used(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, works, told = NODES[what]
    monkeypatch.setattr(slurm_site_checks, "ask", lambda *command, **more: (True, text))
    assert slurm_site_checks.usable_nodes(Site.load("testbed")) == ("nodes", works, told)


def test_a_plan_counts_the_workers_that_a_site_asks_for() -> None:
    options = ["slurm.nodes=3", "slurm.tasks_per_node=4"]
    assert Site.load("testbed", options).planned_workers() == 12
    assert Site.load("testbed", [*options, "executor=dask"]).planned_workers() == 12
    assert Site.load(None, ["workers=5"]).planned_workers() == 5
