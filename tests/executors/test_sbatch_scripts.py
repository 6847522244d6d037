"""The scripts people submit, with a stand-in for Slurm: they end as their tasks did, and go on where one was killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "slurm"
NAMES = ("landscape", "array", "topology", "sweep")

SRUN = """
import os, signal, subprocess, sys, time
if "--mpi=list" in sys.argv:
    print("MPI plugin types are...\\n\\tnone\\n\\tpmi2\\nspecific pmix plugin versions available: pmix_v4")
    sys.exit()
open("cores", "w").write(os.environ.get("SRUN_CPUS_PER_TASK", ""))
first = next(i for i, word in enumerate(sys.argv) if i and not word.startswith("-"))
tasks = [
    subprocess.Popen(sys.argv[first:], env={**os.environ, "SLURM_PROCID": str(i)}, start_new_session=True)
    for i in range(2)
]
while all(task.poll() in (None, 0) for task in tasks) and any(task.poll() is None for task in tasks):
    time.sleep(0.01)
for task in tasks:  # --kill-on-bad-exit
    if task.poll() is None:
        os.killpg(task.pid, signal.SIGTERM)
codes = [task.wait() for task in tasks]
open("steps", "a").write("step\\n")
sys.exit(max(128 - code if code < 0 else code for code in codes))
"""

TASK = """
import json, os, signal, sys, time
steps = open("steps").read().count("step") if os.path.exists("steps") else 0
plan = json.load(open("plan.json"))
how = plan[min(steps, len(plan) - 1)][int(os.environ["SLURM_PROCID"])]
if how == "waits":
    open(f"waits.{steps}", "w")
    time.sleep(60)
while "waits" in plan[min(steps, len(plan) - 1)] and not os.path.exists(f"waits.{steps}"):
    time.sleep(0.01)
if isinstance(how, str):
    if how.startswith("warned, "):
        os.kill(os.getppid(), signal.SIGUSR2)
        how = how.removeprefix("warned, ")
    os.kill(os.getpid(), getattr(signal, how))
sys.exit(how)
"""

HOW: dict[str, tuple[list[list[int | str]], int, int, bool]] = {
    # what the two tasks of each step do; the script's exit code, its steps, whether it asks to be requeued
    "all is done": ([[0, 0]], 0, 1, False),
    "time is up": ([[75, 75]], 75, 1, True),
    "time is up, and the other task is ended as it ends": ([[75, "waits"]], 75, 1, True),
    "the same from the other task": ([["waits", 75]], 75, 1, True),
    "a wrong key": ([[2, 2]], 2, 1, False),
    "a wrong key, and the other task is still starting": ([[2, "waits"]], 2, 1, False),
    "a failed task": ([["waits", 1]], 1, 1, False),
    "Ctrl-C": ([[130, "waits"]], 130, 1, False),
    "out of memory, then done": ([["SIGKILL", "waits"], [0, 0]], 0, 2, False),
    "the step is ended from outside, then done": ([["SIGTERM", "SIGTERM"], [0, 0]], 0, 2, False),
    "out of memory, then time is up": ([["waits", "SIGKILL"], [75, "waits"]], 75, 2, True),
    "out of memory each time": ([["SIGKILL", "waits"]], 137, 3, False),
    "the warning, then out of memory": ([["waits", "warned, SIGKILL"]], 75, 1, True),
    "the warning before anybody listened": ([["SIGUSR2", "waits"]], 140, 1, True),
}


_CASES = [("landscape", how) for how in HOW] + [(name, "time is up") for name in NAMES[1:]]


@pytest.mark.parametrize(("name", "how"), _CASES)
@pytest.mark.processes
def test_a_job_ends_as_its_tasks_did(tmp_path: Path, name: str, how: str) -> None:
    plan, code, steps, requeued = HOW[how]
    done = submitted(tmp_path, name, plan)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "steps").read_text().count("step") == steps
    assert (tmp_path / "requeued").exists() == requeued
    assert not list(tmp_path.glob(".landscape.*"))


@pytest.mark.processes
def test_a_job_whose_time_is_up_before_it_begins_is_not_started_for_ever(tmp_path: Path) -> None:
    done = submitted(tmp_path, "landscape", [["SIGUSR2", "waits"]], SLURM_RESTART_COUNT="3")
    assert done.returncode == 140
    assert "give it more (--time)" in done.stdout
    assert not (tmp_path / "requeued").exists()


@pytest.mark.processes
def test_a_job_that_may_not_be_requeued_ends_at_once(tmp_path: Path) -> None:
    done = submitted(tmp_path, "landscape", [[75, 75]], scontrol="exit 1")
    assert done.returncode == 75
    assert not (tmp_path / "slept").exists()


@pytest.mark.processes
@pytest.mark.parametrize("place", ["SCRATCH", "HOME"])
def test_a_job_submitted_where_it_cannot_write_still_knows_how_its_tasks_ended(tmp_path: Path, place: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    nowhere = dict.fromkeys(("SLURM_SUBMIT_DIR", "SCRATCH", "HOME"), "/proc/nowhere")
    done = submitted(tmp_path, "landscape", [[75, "waits"]], **{**nowhere, place: str(other)})
    assert done.returncode == 75, done.stderr
    assert not list(other.iterdir())


@pytest.mark.processes
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("mpi", "code"), [("pmi2", 0), ("pmix_v4", 0), ("pmi", 2), ("openmpi", 2)])
def test_a_kind_of_mpi_that_srun_does_not_know_is_refused_once(tmp_path: Path, name: str, mpi: str, code: int) -> None:
    done = submitted(tmp_path, name, [[0, 0]], LANDSCAPER_HPC_MPI=mpi)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "steps").exists() == (code == 0)
    assert (f"srun knows no --mpi={mpi} here; set LANDSCAPER_HPC_MPI" in done.stderr) == (code == 2)


@pytest.mark.processes
@pytest.mark.parametrize("name", NAMES)
def test_tasks_have_the_cores_that_were_asked_for(tmp_path: Path, name: str) -> None:
    submitted(tmp_path, name, [[0, 0]], SLURM_CPUS_PER_TASK="7")
    assert (tmp_path / "cores").read_text() == "7"


def submitted(
    folder: Path, name: str, plan: list[list[int | str]], scontrol: str = "exit 0", **environment: str
) -> subprocess.CompletedProcess[str]:
    """What a script ends as whose tasks do that."""
    (folder / "plan.json").write_text(json.dumps(plan))
    python = f"#!{sys.executable}\n"
    for program, text in (
        ("srun", python + SRUN),
        ("landscaper-hpc", python + TASK),
        ("scontrol", f'#!/bin/sh\necho "$@" >> requeued\n{scontrol}\n'),
        ("sleep", "#!/bin/sh\ntouch slept\n"),
    ):
        (folder / program).write_text(text)
        (folder / program).chmod(0o755)
    job = {"SLURM_JOB_ID": "17", "SLURM_SUBMIT_DIR": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", SCRIPTS / f"{name}.sbatch", "study.yaml"],
        cwd=folder,
        env={**job, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_scripts_end_in_the_same_words() -> None:
    ends = {(SCRIPTS / f"{name}.sbatch").read_text().partition("    code=$?\n")[2] for name in NAMES}
    assert len(ends) == 1
