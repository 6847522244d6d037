"""Odd surroundings of a study: variables that packages read, folders that hold something else. A row is one."""

from __future__ import annotations

import errno
import os
import resource
import sys
import zipfile
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import zarr
from studies import command, process, wells
from typer.testing import CliRunner

from landscaper_hpc import InputError, Site
from landscaper_hpc.cli import app
from landscaper_hpc.errors import is_fault, lacking
from landscaper_hpc.executors import mpi
from landscaper_hpc.executors.local import local_mapper
from landscaper_hpc.executors.slurm_job import _OneOfMany
from landscaper_hpc.exit_codes import guarded
from landscaper_hpc.files import publish
from landscaper_hpc.grid import Axis, Grid
from landscaper_hpc.objective.checkpoints import contents
from landscaper_hpc.parallel.comm import SerialComm, world
from landscaper_hpc.store import zarr_files
from landscaper_hpc.store.heartbeat import Heartbeat, whereabouts
from landscaper_hpc.store.landscape import landscape_names
from landscaper_hpc.store.lock import restarts
from landscaper_hpc.store.shards import ShardedLosses
from landscaper_hpc.topology.kernels import compiled
from landscaper_hpc.topology.readers.npz import open_npz
from landscaper_hpc.topology.readers.zarrs import ZarrReader
from landscaper_hpc.work.preloaded import start_loading
from landscaper_hpc.work.worker import tour

VARIABLES: dict[str, tuple[str, int, str]] = {
    "NUMBA_NUM_THREADS=0": ("plan", 2, "NUMBA_NUM_THREADS=0 in the environment: numba needs a number from 1 on"),
    "NUMBA_NUM_THREADS=-2": ("topology", 2, "NUMBA_NUM_THREADS=-2 in the environment: numba needs a number from 1 on"),
    "NUMBA_NUM_THREADS=two": ("check", 2, "NUMBA_NUM_THREADS=two in the environment: numba needs a number from 1 on"),
    "NUMBA_DISABLE_JIT=1": ("topology", 0, ""),
    "MPLBACKEND=nope": ("run", 0, ""),
    "TORCH_LOGS=xx": ("check", 2, "torch cannot be imported with TORCH_LOGS=xx in the environment"),
    "PYTORCH_JIT=maybe": ("run", 2, "torch cannot be imported with PYTORCH_JIT=maybe in the environment"),
}


@pytest.mark.processes
@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_that_a_package_does_not_take(variable: str, tmp_path: Path) -> None:
    name, code, told = VARIABLES[variable]
    study = wells(tmp_path / "study", count=5)
    np.save(tmp_path / "field.npy", np.random.default_rng(0).standard_normal((9, 9)))
    words = {
        "topology": [tmp_path / "field.npy"],
        "run": [study, "--out", tmp_path / "run", "--executor", "serial"],
    }.get(name, [study])
    others = {key: value for key, value in os.environ.items() if not key.startswith("TORCH")}  # torch sets some itself
    ended = process(name, *words, env={**others, **dict([variable.split("=")])})
    assert ended.returncode == code, ended.stderr
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    if code:
        assert len(ended.stderr.strip().splitlines()) == 1


PLACES: dict[str, tuple[str, str]] = {
    "its own store": ("run/study.zarr", "run/study.zarr: is a Zarr store; choose"),
    "a landscape": ("run/study.zarr/origin", "lies in {0}/run/study.zarr, which is a Zarr store; choose"),
    "a part of a study": ("run/logs", "lies in {0}/run, which is the folder of a study; choose"),
    "far inside of a study": ("run/a/b/c", "lies in {0}/run, which is the folder of a study; choose"),
    "through a link": ("link/study.zarr/x", "lies in {0}/run/study.zarr, which is a Zarr store; choose"),
    "a sweep": ("sweep", "holds a sweep; choose"),
    "in a sweep": ("sweep/logs/x", "lies in {0}/sweep, which is the folder of a sweep; choose"),
    "somebody's data": ("data.zarr", "is a Zarr store; choose"),
    "a file": ("data.zarr/.zgroup", "data.zarr/.zgroup: is a file; choose"),
    "in a file": ("data.zarr/.zgroup/run", "lies in {0}/data.zarr/.zgroup, which is a file; choose"),
}


@pytest.mark.parametrize("what", PLACES)
@pytest.mark.parametrize("name", ["plan", "run"])
@pytest.mark.thorough
def test_a_folder_that_holds_something_else(what: str, name: str, tmp_path: Path) -> None:
    out, told = PLACES[what]
    study = wells(tmp_path / "study", count=5)
    for made in ("run/study.zarr/origin", "sweep", "data.zarr"):
        (tmp_path / made).mkdir(parents=True)
    for file in ("run/study.zarr/zarr.json", "sweep/sweep.json", "data.zarr/.zgroup"):
        (tmp_path / file).write_text("{}")
    (tmp_path / "link").symlink_to("run")
    before = sorted(tmp_path.rglob("*"))
    ended = command(name, study, "--out", tmp_path / out)
    assert ended.returncode == 2
    assert told.format(tmp_path) in ended.stderr
    assert sorted(tmp_path.rglob("*")) == before
    if what != "a sweep":
        swept = command("sweep", study, "--checkpoint", tmp_path / "study/origin.pt", "--out", tmp_path / out)
        assert (swept.returncode, told.format(tmp_path) in swept.stderr) == (2, True)


@pytest.mark.parametrize(
    ("given", "there"), [("~/made", "home/made"), ("~nobody-has-this-name/x", "~nobody-has-this-name/x")]
)
def test_the_home_folder_is_where_shells_leave_it_unsaid(
    given: str, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--out=~/made` made a folder `~` in the current one."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert command("init", given, cwd=tmp_path).returncode == 0
    assert (tmp_path / there / "study.yaml").is_file()


def test_a_current_folder_that_is_gone_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = wells(tmp_path / "study", count=5)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    ended = CliRunner().invoke(app, ["plan", str(study)])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "the folder that this was started in is gone; change into one that is there" in ended.stderr


@pytest.mark.parametrize("before", [{}, {"PYTHONSAFEPATH": ""}])
def test_modules_beside_the_task_are_not_taken_for_those_of_python(
    before: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `random.py` in the current folder ended the process that workers are forked from."""
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    seen = []
    monkeypatch.setattr(forkserver, "ensure_running", lambda: seen.append(os.environ.get("PYTHONSAFEPATH")))
    start_loading()
    assert seen == ["1"]
    assert {name: os.environ[name] for name in os.environ if name == "PYTHONSAFEPATH"} == before


ARRAYS: dict[str, tuple[str, tuple[int, int]]] = {
    "none": ("", (1, 2)),
    "0-3": ("ID=2 MIN=0 COUNT=4 STEP=1", (5, 8)),
    "3,9": ("ID=9 MIN=3 COUNT=2 STEP=1", (1, 4)),
    "0-30:10": ("ID=30 MIN=0 COUNT=4 STEP=10", (7, 8)),
    "words": ("ID=x MIN=-1 COUNT= STEP=0", (1, 2)),
    "no count": ("ID=5 MIN=2 COUNT=0", (1, 2)),
}


@pytest.mark.parametrize("array", ARRAYS)
def test_a_task_of_any_array_begins_at_a_landscape_that_is_there(array: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `--array=3,9` the second task ended in a traceback."""
    said, expected = ARRAYS[array]
    for name in ("ID", "MIN", "COUNT", "STEP"):
        monkeypatch.delenv(f"SLURM_ARRAY_TASK_{name}", raising=False)
    for word in said.split():
        name, value = word.split("=")
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    comm = SerialComm()
    comm.rank, comm.size = 1, 2
    assert mpi._place(comm) == expected
    for count in (1, 3):
        assert sorted(number for number, _ in tour(count, *expected)) == list(range(count))


@pytest.mark.parametrize("value", ["", "x", "-1", "2.5", "²", "1(x2)"])
def test_numbers_of_slurm_that_are_none(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOB_ID", "PROCID", "NTASKS", "RESTART_COUNT", "STEP_NUM_TASKS", "ARRAY_JOB_ID"):
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    alone = _OneOfMany()
    assert (alone.rank, alone.size, restarts()) == (0, 1, 0)
    assert f"job {value}" in whereabouts()
    Heartbeat(tmp_path, "cpu").end()


@pytest.mark.parametrize("number", ["99999", "9" * 30])
def test_who_was_started_by_a_rank_is_none(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MPI ended it by signal 15, in its own words; `subprocess` closes the descriptor, and hands on the variables."""
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_FD", number)
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    with pytest.raises(InputError, match=f"PMI_FD={number} in the environment is no connection to a launcher"):
        world()


EMPTY = [
    ["init", ""],
    ["run", ""],
    ["run", "study.yaml", "--out", ""],
    ["sweep", "study.yaml", "--out", ""],
    ["status", ""],
    ["topology", "field.npy", "--labels", ""],
    ["export", "run", "--to", "csv", "--out", ""],
    ["import", "field.npy", "--out", ""],
    ["doctor", ""],
]


@pytest.mark.parametrize("words", EMPTY, ids=" ".join)
def test_an_empty_name_is_not_this_folder(words: list[str], tmp_path: Path) -> None:
    ended = command(*words, cwd=tmp_path)
    assert ended.returncode == 2
    assert "it is empty; give a name, or . for this folder" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_more_processes_than_open_files_are_refused_before_any_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    made: Any = None  # nothing of it is looked at
    local_mapper(Site(workers=256), made)
    assert asked == [(2248, 4096)]
    with pytest.raises(InputError, match=r"workers: 500 processes need 4,200 open files, .*; use 487 or fewer"):
        local_mapper(Site(workers=500), made)


REACHED = {errno.EMFILE: "Too many open files", errno.EIO: "Input/output error", errno.ESTALE: "Stale file handle"}


@pytest.mark.parametrize("number", REACHED)
def test_nobody_is_told_to_remove_what_the_machine_cannot_read_now(number: int, tmp_path: Path) -> None:
    error = OSError(number, os.strerror(number), str(tmp_path))
    store = ShardedLosses(tmp_path, Grid((Axis(-1, 1, 3),)), (3,))
    for read in (
        lambda: zarr_files.read_document(tmp_path),
        store.done,
        store.n_done,
        lambda: store.shard_sha256((0,)),
        lambda: landscape_names(tmp_path),
    ):
        with pytest.MonkeyPatch.context() as patch:
            for place, name in ((Path, "read_bytes"), (Path, "iterdir"), (os, "scandir"), (os, "listdir")):
                patch.setattr(place, name, Mock(side_effect=error))
            with pytest.raises(InputError, match=f"cannot be read here and now .{REACHED[number]}., and is left"):
                read()


def test_a_file_that_may_not_be_so_large_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.EFBIG, "File too large")))
    with pytest.raises(InputError, match=r"would be larger than a file may be here; raise the limit \(ulimit -f\)"):
        publish(tmp_path / "x", b"1")
    assert list(tmp_path.iterdir()) == []


LACKING: list[tuple[Exception, str]] = [
    (RuntimeError("can't start new thread"), "no more threads or processes can be started here; raise the limits"),
    (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "no more threads or processes can be started"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory ran out here; ask for more"),
    (OSError(errno.EMFILE, "Too many open files"), "too many files are open; raise the limit (ulimit -n)"),
    (OSError(errno.EFBIG, "File too large"), "a file would be larger than it may be here; raise the limit (ulimit -f)"),
    (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "set TMPDIR to one with some"),
    (OSError("AF_UNIX path too long"), "set TMPDIR to a shorter one"),
]


@pytest.mark.parametrize(("error", "told"), LACKING)
def test_what_the_machine_lacks_is_not_taken_for_damage(
    error: Exception, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ulimit -v` made a sound field "not a readable Zarr array (can't start new thread)"."""
    field = np.zeros((5, 5))
    zarr.create_array(tmp_path / "a.zarr", data=field)
    np.savez(tmp_path / "a.npz", loss=field)
    torch.save({"x": torch.zeros(1)}, tmp_path / "a.pt")
    monkeypatch.setattr(zarr, "open_array", Mock(side_effect=error))
    monkeypatch.setattr(zipfile, "ZipFile", Mock(side_effect=error))
    for read in (
        lambda: ZarrReader(tmp_path / "a.zarr"),
        lambda: open_npz(tmp_path / "a.npz"),
        lambda: contents(tmp_path / "a.pt"),
        lambda: guarded(Mock(side_effect=error, __name__="command"))(),
    ):
        with pytest.raises((InputError, SystemExit)) as ended:
            read()
        if isinstance(ended.value, InputError):
            assert told in str(ended.value)
    assert isinstance(ended.value, SystemExit)
    assert ended.value.code == 2
    assert not is_fault(error)


LIBRARIES: list[Exception] = [
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    OSError("Could not find/load shared object file 'libllvmlite.so' from resource location: 'llvmlite.binding'."),
]


@pytest.mark.parametrize("error", LIBRARIES)
def test_a_library_that_has_no_room_under_a_limit_is_not_missing(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lacking(error) == ""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (600_000_000, resource.RLIM_INFINITY))
    assert "memory ran out here; ask for more, raise the limit (ulimit -v)" in lacking(error)


def test_a_limit_under_which_packages_hang_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (430_000_000, resource.RLIM_INFINITY))
    with pytest.raises(SystemExit) as ended:
        guarded(Mock(__name__="command"))()
    assert ended.value.code == 2
    assert "a process may have 430 MB of memory here" in capsys.readouterr().err


def test_who_has_no_home_has_a_kernel_cache_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compiled.numba_config, "CACHE_DIR", "")
    monkeypatch.setattr("pwd.getpwuid", Mock(side_effect=KeyError))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    assert compiled.cache_folder.__wrapped__() == tmp_path / f"tmp/landscaper-hpc-{os.getuid()}"
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]


MISTAKES: dict[str, tuple[str, str]] = {
    "in the loss": ("raise KeyError('x')", ""),
    "in its derivatives": (
        "model.x.requires_grad and model.x.register_hook(lambda g: {}['x'])",
        "{grid: {range: 0.5, count: 3}, directions: {kind: hessian, n: 2}}",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_one_mistake_is_one_sentence_of_all_commands(what: str, tmp_path: Path) -> None:
    line, more = MISTAKES[what]
    study = wells(tmp_path / "study", count=5)
    task = tmp_path / "study/task.py"
    task.write_text(task.read_text().replace("        x = model.x\n", f"        x = model.x\n        {line}\n"))
    if more:
        text = study.read_text()
        study.write_text(text[: text.index("directions:")] + more[1:-1].replace("}, d", "}\nd") + "\n")
    said = set()
    for words in (["check", study], ["plan", study], ["run", study, "--executor", "serial", "--out", tmp_path / "run"]):
        ended = command(*words)
        assert ended.returncode == 2, ended.stderr
        assert "task.py" in ended.stderr
        assert "KeyError: 'x'" in ended.stderr
        said.add(ended.stderr.strip().splitlines()[-1])
    assert len(said) == 1
