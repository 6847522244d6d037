"""Odd places to write to: a run whose results are there ends with 0; a command whose output cannot be written says so.

A row is a command, how a shell would spoil its streams, the exit code, and what it must say on the other stream.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies import contents, need_mounts, on_a_small_disk, process, wells

from landscaper_hpc.files import publish
from tests.kinds import slow

pytestmark = pytest.mark.processes

RUN = "run STUDY --out OUT --executor serial"
TABLE = "topology FIELD --json"

STREAMS: list[Any] = [
    (RUN, "> /dev/full 2>&-", 0, ""),
    slow(RUN, ">&- 2> /dev/full <&-", 0, ""),
    slow(RUN, "2>&1 | head -n 1", 0, ""),
    ("report DONE", "> /dev/full", 0, ""),
    slow(TABLE, "2> /dev/full", 0, '"smad"'),
    (TABLE, "2>&-", 0, '"smad"'),
    (TABLE, "> /dev/full", 1, "standard output could not be written: No space left on device"),
    (TABLE, ">&-", 1, "standard output could not be written: it is closed"),
    (TABLE, "| true", 1, "standard output could not be written: Broken pipe"),
    ("status DONE", "> /dev/full", 1, "standard output could not be written"),
    ("status gone", "> /dev/full", 2, "gone: is not a study's folder"),
    ("status gone", "2> /dev/full", 2, ""),
]

LETTERS = [
    {"LANG": "C", "LC_ALL": "C"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
]


def shell(words: str, spoilt: str, folder: Path, done: Path, **environment: str) -> tuple[int, str]:
    names = {
        "STUDY": wells(folder / "a b", count=5) if words != "plan STUDY" else folder / "a b/study.yaml",
        "OUT": folder / "run",
        "RUN": folder / "run",
        "DONE": done,
        "FIELD": folder / "field.npy",
    }
    np.save(names["FIELD"], np.random.default_rng(0).standard_normal((9, 9)))
    command = [sys.executable, "-m", "landscaper_hpc.cli"]
    command += [str(names.get(word, word)) for word in words.split()]
    # bash's own streams tell what was said, and the code is that of the command
    line = f"{shlex.join(command)} {spoilt}; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", line],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        check=False,
        timeout=200,
    )
    return ended.returncode, (ended.stdout + ended.stderr).decode(errors="replace")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of the same kind."""
    folder = tmp_path_factory.mktemp("done")
    ended = process("run", wells(folder / "a b", count=5), "--out", folder / "run", "--executor", "serial")
    assert ended.returncode == 0, ended.stderr
    return folder / "run"


@pytest.mark.parametrize(("words", "spoilt", "code", "told"), STREAMS)
def test_streams_that_cannot_be_written(
    done: Path, tmp_path: Path, words: str, spoilt: str, code: int, told: str
) -> None:
    found, said = shell(words, spoilt, tmp_path, done)
    assert found == code, said
    assert told in said
    assert "Traceback" not in said
    if words == RUN:
        assert contents(tmp_path / "run") == contents(done)


def test_a_file_that_cannot_be_written_has_the_name_that_was_given(tmp_path: Path) -> None:
    """And not that of what is written aside."""
    with pytest.raises(OSError, match="No such file") as caught:
        publish(tmp_path / "none" / "cka.svg", b"")
    assert caught.value.filename == str(tmp_path / "none" / "cka.svg")


@pytest.mark.slow  # that a run ends where letters cannot be said is seen below, in a locale that lacks more of them
@pytest.mark.parametrize("environment", LETTERS[3:])
def test_terminals_that_lack_letters(done: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    code, said = shell(RUN, "", tmp_path, done, **environment)
    assert code == 0, said
    assert contents(tmp_path / "run") == contents(done)
    assert "5 x 5" in said or "5 × 5" in said or "5 \ufffd 5" in said


@pytest.mark.parametrize("environment", LETTERS)
def test_tables_on_terminals_that_lack_letters(done: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    code, said = shell("status DONE", "", tmp_path, done, **environment)
    assert code == 0, said
    assert "Traceback" not in said


def test_what_a_study_is_does_not_depend_on_the_locale(done: Path, tmp_path: Path) -> None:
    """Names in UTF-8 of folders, in a study, and of files that its task reads, are the same files and the same identity
    where the locale cannot say them."""
    found = []
    made = wells(tmp_path / "made", count=5)  # once: what torch writes may tell where
    for folder, environment in ((tmp_path / "0", {}), (tmp_path / "é ü", LETTERS[1])):
        file = shutil.copytree(made.parent, folder / "a b") / made.name
        (file.parent / "origin.pt").rename(file.parent / "ürsprung.pt")
        file.write_text(file.read_text().replace("origin.pt", "ürsprung.pt"), encoding="utf-8")
        (file.parent / "dätä.txt").write_text("1.0")
        with (file.parent / "task.py").open("a", encoding="utf-8") as task:
            task.write(
                "import os\nopen(os.path.join(os.fsencode(os.path.dirname(__file__)), 'dätä.txt'.encode())).read()\n"
            )
        words = ["run", file, "--executor", "serial", "--out", folder / "run"]
        for _ in range(2 if environment else 1):  # the second finds what the first has made
            ended = process(*words, env={**os.environ, **environment} if environment else None)
            assert ended.returncode == 0, ended.stderr
        found.append(contents(folder / "run"))
    assert found[0] == found[1]
    assert "u00e4.txt" in (folder / "run/study.zarr/origin/zarr.json").read_text()
    code, said = shell("status RUN", "", folder, done, **environment)
    assert code == 0, said
    assert "Traceback" not in said
    (folder / "a b/study.yaml").write_text("name: é\n", encoding="utf-8")
    code, said = shell("plan STUDY", "", folder, done, **environment)
    assert code == 2, said
    assert "name" in said
    assert "Traceback" not in said


def test_a_pool_whose_task_prints_to_a_full_disk(done: Path, tmp_path: Path) -> None:
    wells(tmp_path / "a b", count=5)
    code, said = shell(RUN.replace("--executor serial", "--workers 2"), "> /dev/full 2> /dev/full", tmp_path, done)
    assert (code, said) == (0, "")


CACHES = ["/proc/nowhere", slow("/dev/null/here"), slow("/sys/kernel")]


@pytest.mark.parametrize("folder", CACHES)
def test_kernel_caches_that_cannot_be_made(tmp_path: Path, done: Path, folder: str) -> None:
    code, said = shell(TABLE, "", tmp_path, done, NUMBA_CACHE_DIR=folder)
    assert code == 0, said
    assert '"smad"' in said


@pytest.mark.slow  # compiles everything
def test_a_kernel_cache_on_a_full_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "field.npy", np.random.default_rng(0).standard_normal((9, 9)))
    ended = on_a_small_disk(
        tmp_path / "cache",
        16,
        *("env", f"XDG_CACHE_HOME={tmp_path}/cache", "NUMBA_CACHE_DIR=", f"TMPDIR={tmp_path}"),
        *(sys.executable, "-m", "landscaper_hpc.cli", "topology", tmp_path / "field.npy", "--json"),
    )
    assert ended.returncode == 0, ended.stderr
    assert '"smad"' in ended.stdout


def test_labels_on_a_full_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "field.npy", np.random.default_rng(0).standard_normal((300, 300)))
    ended = on_a_small_disk(
        tmp_path / "small",
        64,
        *(sys.executable, "-m", "landscaper_hpc.cli", "topology", tmp_path / "field.npy"),
        *("--labels", tmp_path / "small/labels.zarr"),
    )
    assert ended.returncode == 2, ended.stderr
    assert "no space left" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_report_of_a_folder_that_is_only_read(done: Path) -> None:
    need_mounts()
    script = 'mount --bind -o ro "$0" "$0" && mount -o remount,bind,ro "$0" && "$@"'
    command = [sys.executable, "-m", "landscaper_hpc.cli"]
    for words, code, told in (
        (["report", done], 2, "cannot be written (Read-only file system)"),
        (["status", done], 0, "report: "),
    ):
        ended = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, done, *command, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert ended.returncode == code, ended.stderr
        assert told in ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.processes
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-"])
def test_no_file_gets_the_number_of_a_closed_stream(closed: str) -> None:
    """With standard input closed, what is shared with the watchdog had the number 0, which its own input then took."""
    code = (
        "import os, sys; from landscaper_hpc.streams import steady; steady(); "
        "sys.exit(any(os.fstat(i).st_rdev != os.stat('/dev/null').st_rdev for i in map(int, sys.argv[1:])) or "
        "os.memfd_create('x') < 3)"
    )
    numbers = {"<": "0", ">": "1", "2": "2"}
    words = [numbers[one[0]] for one in closed.split()]
    ended = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {" ".join(words)} {closed}', sys.executable, code],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert ended.returncode == 0, ended.stderr
