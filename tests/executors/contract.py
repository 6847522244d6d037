"""The contract of executors, whoever does the work: a module with a fixture `way` inherits from `ExecutorContract`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from studies import command, contents, wells

CLI = [sys.executable, "-m", "landscaper_hpc.cli"]

# values as of `wells`, but the task waits while there is a file HOLD and fails at some points while there is a FAIL; a
# branch on the value keeps it from being recorded
TASK = """
import time
from pathlib import Path

PLACE = Path(__file__).parent
_task = task

def task(n=2, tilt=0.1):
    made = _task(n, tilt)
    def loss(model, data):
        value = made.loss(model, data)
        while float(value.detach()) >= -1e9 and (PLACE / "HOLD").exists():
            time.sleep(0.05)
        if float(model.x.detach()[0]) > 1.2 and (PLACE / "FAIL").exists():
            raise ArithmeticError("no value here")
        return value
    return Task(model=made.model, loss=loss, data=made.data)
"""


class Way:
    """How a program is started that runs a study by one executor, and how it dies with all that belongs to it."""

    def __init__(self, executor: str, *before: str, options: tuple[str, ...] = (), env: dict[str, str] | None = None):
        self.executor = executor
        self._before = before
        self._options = options
        self._env = env or {}

    def start(self, file: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
        words = ["run", str(file), "--out", str(folder), "--executor", self.executor, "--set-site", "shard_points=5"]
        return self.process([*CLI, *words, *self._options, *more])

    def process(self, words: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._before, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **self._env},
        )

    def kill(self, process: subprocess.Popen[str]) -> None:
        import psutil

        own = psutil.Process(process.pid)
        for each in [own, *own.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):  # ended with one of the others
                each.kill()
        process.communicate(timeout=60)


def wait_for(what: str, condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 300) -> bool:
    """Whether it came true before the process ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return bool(condition())
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)
    return True


@cache
def _study(folder: Path) -> tuple[Path, dict[str, str]]:
    """A study, and what an undisturbed serial run leaves of it: one for all executors."""
    file = wells(folder / "study", count=7)
    (file.parent / "task.py").write_text((file.parent / "task.py").read_text() + TASK)
    done = command(*("run", file, "--out", folder / "run", "--executor", "serial", "--set-site", "shard_points=5"))
    assert done.returncode == 0, done.stderr
    return file, contents(folder / "run")


class ExecutorContract:
    """What every executor keeps: the bytes of a serial run, after any end; refusals in one sentence."""

    @pytest.fixture
    def study(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
        return _study(tmp_path_factory.getbasetemp() / "contract")

    def ended(self, process: subprocess.Popen[str], code: int = 0) -> str:
        """What a process said that ended with this exit code."""
        out, said = process.communicate(timeout=600)
        assert process.returncode == code, said
        assert out.count("│ SMAD ") == (code == 0)  # one process tells
        return said

    def test_killed_in_the_midst_it_goes_on_to_the_bytes_of_a_serial_run(
        self, way: Way, study: tuple[Path, dict[str, str]], tmp_path: Path
    ) -> None:
        file, expected = study
        hold = file.with_name("HOLD")
        process = way.start(file, tmp_path / "run")
        try:
            wait_for("a shard", lambda: list(tmp_path.glob("run/study.zarr/origin/done/*/c.*")), process)
            hold.touch()
            if process.poll() is None:
                way.kill(process)
        finally:
            hold.unlink(missing_ok=True)
        self.ended(way.start(file, tmp_path / "run"))
        assert contents(tmp_path / "run") == expected

    def test_a_second_run_in_the_folder_is_refused(
        self, way: Way, study: tuple[Path, dict[str, str]], tmp_path: Path
    ) -> None:
        file, expected = study
        hold = file.with_name("HOLD")
        hold.touch()
        first = way.start(file, tmp_path / "run")
        try:
            assert wait_for("the first run", (tmp_path / "run/logs/run.log").exists, first)
            said = self.ended(way.start(file, tmp_path / "run"), 2)
        finally:
            hold.unlink()
        assert "another run is at work there; wait for it, or choose another folder with --out" in said
        assert "Traceback" not in said
        self.ended(first)
        assert contents(tmp_path / "run") == expected

    def test_what_the_user_can_mend_is_one_sentence(
        self, way: Way, study: tuple[Path, dict[str, str]], tmp_path: Path
    ) -> None:
        """Found by whoever does the work: the client has no reason to read it."""
        file, _ = study
        (file.parent / "torn.pt").write_bytes(b"torn")
        said = self.ended(way.start(file, tmp_path / "run", "--set", "checkpoints.0.file=torn.pt"), 2)
        ours = [line for line in said.splitlines() if line.startswith("landscaper-hpc: ")]
        assert ours
        assert all("torn.pt" in line for line in ours)
        assert "Traceback" not in said

    def test_shards_that_fail_are_quarantined_and_the_others_done(
        self, way: Way, study: tuple[Path, dict[str, str]], tmp_path: Path
    ) -> None:
        file, expected = study
        fail = file.with_name("FAIL")
        fail.touch()
        try:
            said = self.ended(way.start(file, tmp_path / "run"), 1)
        finally:
            fail.unlink()
        assert "failed 3 times and are quarantined" in said
        assert "--retry-failed" in said
        assert "ArithmeticError: no value here" in said
        assert 0 < len(_losses(contents(tmp_path / "run"))) < len(_losses(expected))
        self.ended(way.start(file, tmp_path / "run", "--retry-failed"))
        found = contents(tmp_path / "run")
        assert found.keys() == expected.keys()
        # values, and not what is recorded of the beginning: where the loss is tried it may have failed as well
        assert _losses(found) == _losses(expected)


def _losses(left: dict[str, str]) -> dict[str, str]:
    return {file: digest for file, digest in left.items() if re.match("study.zarr/origin/loss/.*c\\.", file)}
