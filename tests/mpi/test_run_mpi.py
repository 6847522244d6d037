"""`landscaper-hpc run --executor mpi`: the bytes of a serial run, for any number of ranks and after any end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import forked
import psutil
import pytest
from forked import CLI, MPIEXEC, wait_for_ranks
from studies import Gate, command, contents, network, only_trained, wells

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    file = network(folder / "study")
    done = command("run", file, "--out", folder / "run", "--executor", "serial", "--site", file.parent / "site.yaml")
    assert done.returncode == 0, done.stderr
    return file, contents(folder / "run")


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The same of one landscape, for a study that a `Gate` can stop."""
    folder = tmp_path_factory.mktemp("gated")
    file = network(folder / "study", slow=0.001)
    only_trained(file)
    done = command("run", file, "--out", folder / "run", "--executor", "serial", "--site", file.parent / "site.yaml")
    assert done.returncode == 0, done.stderr
    return file, contents(folder / "run")


@pytest.fixture
def gate(gated: tuple[Path, dict[str, str]]) -> Iterator[Gate]:
    with closing(Gate(gated[0])) as made:
        yield made


def start(file: Path, folder: Path, ranks: int, *more: str, genuine: bool = False) -> subprocess.Popen[str]:
    run = ["run", file, "--out", folder, "--executor", "mpi", "--site", file.parent / "site.yaml", *more]
    return subprocess.Popen(
        [MPIEXEC, "-n", str(ranks), sys.executable, "-m", CLI, *map(str, run)]
        if genuine
        else forked.ranks(ranks, CLI, *run),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_three_ranks_give_the_same_bytes(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """And two, stage by stage, below."""
    file, expected = undisturbed
    process = start(file, tmp_path / "run", 3)
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert contents(tmp_path / "run") == expected
    assert out.count("│ SMAD ") == 1  # one rank tells


@pytest.fixture(scope="module")
def confirming(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A study of one landscape whose 16 minima are confirmed, and what a serial run leaves of it."""
    folder = tmp_path_factory.mktemp("confirming")
    file = wells(folder / "study", n=4, count=9)
    file.write_text(file.read_text() + "confirm: true\n")
    # who confirms what: a gradient is asked for only there, but where the loss is tried out
    task = file.with_name("task.py")
    task.write_text(task.read_text() + WITNESS)
    file.with_name("site.yaml").write_text("{executor: serial}")
    done = command("run", file, "--out", folder / "run", "--site", file.with_name("site.yaml"))
    assert done.returncode == 0, done.stderr
    return file, contents(folder / "run")


WITNESS = """
import os
from pathlib import Path

_task = task

def task(n=2, tilt=0.1):
    made = _task(n, tilt)
    def loss(model, data):
        value = made.loss(model, data)
        float(value.detach())  # never recorded
        if value.requires_grad and Path(__file__).with_name("WITNESS").exists():
            with Path(__file__).with_name(f"gradients.{os.getpid()}").open("a") as file:
                file.write(".")
        return value
    return Task(model=made.model, loss=loss, data=made.data)
"""


@pytest.mark.slow
def test_ranks_share_the_confirming_of_one_landscape_and_give_the_same_bytes(
    confirming: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, expected = confirming
    for old in file.parent.glob("gradients.*"):
        old.unlink()
    file.with_name("WITNESS").touch()
    process = start(file, tmp_path / "run", 3)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert contents(tmp_path / "run") == expected
    spent = sorted(each.stat().st_size for each in file.parent.glob("gradients.*"))
    assert len(spent) >= 2  # two batches of eight searches
    assert spent[-2] > sum(spent) / 5


def ranks_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has ended
            if CLI in child.cmdline() and "mpiexec" not in child.name():
                found.append(child)
    return found


def test_ctrl_c_and_a_killed_rank_end_all_ranks_and_lose_nothing(
    gated: tuple[Path, dict[str, str]], gate: Gate, tmp_path: Path
) -> None:
    """The former with one line."""
    file, expected = gated
    process = start(file, tmp_path / "run", 2)
    done = "run/study.zarr/*/done/*/c.*"
    gate.until("a shard is done", lambda: list(tmp_path.glob(done)) or process.poll() is not None)
    process.send_signal(signal.SIGINT)  # mpiexec hands it on
    gate.until("it ends", lambda: process.poll() is not None)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert errors.count("landscaper-hpc: stopped; everything finished so far is kept") == 1
    wait_for_ranks()
    said = command("status", tmp_path / "run").stdout
    assert "nobody works on it; go on with: " in said
    assert "mpiexec -n 2 landscaper-hpc run" in said.splitlines()[-1]
    before = len(list(tmp_path.glob(done)))
    process = start(file, tmp_path / "run", 2)
    gate.until("another shard", lambda: len(list(tmp_path.glob(done))) > before or process.poll() is not None)
    ranks_of(process)[-1].send_signal(signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0
    wait_for_ranks()
    gate.close()
    again = start(file, tmp_path / "run", 3)
    _, errors = again.communicate(timeout=240)
    assert again.returncode == 0, errors
    assert contents(tmp_path / "run") == expected


def test_bad_input_on_all_ranks_is_said_once_each_and_ends_with_2(
    undisturbed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, _ = undisturbed
    broken = tmp_path / "study.yaml"
    broken.write_text(file.read_text().replace("task.py", "gone.py"))
    for name in ("untrained.pt", "train.py", "site.yaml"):
        (tmp_path / name).write_bytes((file.parent / name).read_bytes())
    process = start(broken, tmp_path / "run", 2)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "gone.py" in errors
    assert "Traceback" not in errors


def test_stages_one_by_one_and_evaluation_twice_at_once(
    undisturbed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    """What the jobs of a scheduler do: prepare, any number of evaluating jobs, finish."""
    file, expected = undisturbed
    for stage, ranks in (("prepare", [2]), ("evaluate", [2, 1]), ("finish", [2])):
        genuine = stage == "finish"  # all that is imported, by Python's own start
        for process in [start(file, tmp_path / "run", number, "--stage", stage, genuine=genuine) for number in ranks]:
            _, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors
    assert contents(tmp_path / "run") == expected


def test_a_signal_ends_all_ranks_with_the_code_for_requeue(gated: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    file, expected = gated
    process = start(file, tmp_path / "run", 1, "--stage", "prepare")
    process.communicate(timeout=240)
    with closing(Gate(file)) as gate:
        process = start(file, tmp_path / "run", 2, "--stage", "evaluate")
        shard = "leases/*.*[0-9]"
        gate.until("a shard begins", lambda: list((tmp_path / "run").glob(shard)) or process.poll() is not None)
        ranks_of(process)[0].send_signal(signal.SIGUSR2)  # one of two: the other must not go on alone for ever
    _, errors = process.communicate(timeout=240)
    # the other rank may have finished everything before the first one looked
    assert process.returncode in (0, 75), errors
    again = start(file, tmp_path / "run", 1)
    again.communicate(timeout=240)
    assert contents(tmp_path / "run") == expected
