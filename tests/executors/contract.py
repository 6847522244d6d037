"""The contract of executors, whoever does the work: a module with a fixture `way` inherits from `ExecutorContract`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from forked import Forked
from studies import command, contents, wells

from landscaper_hpc.status import status
from landscaper_hpc.store.failures import Failures

CLI = [sys.executable, "-m", "landscaper_hpc.cli"]

# values as of `wells`, but while there is a file of that name the task waits (HOLD; HELD tells that it does), hangs or
# ends its process at a point that nothing but its shard asks for, or in the gradient at a saddle, and fails at others
# (FAIL); a branch on the value keeps it from being recorded. It may hang (HANG_GRADIENT) in that at a grid's minimum
TASK = """
import sys, time
from pathlib import Path

PLACE = Path(__file__).parent
_task = task

def hangs():
    time.sleep(1000)

def leaves():
    sys.exit(0)

def task(n=2, tilt=0.1):
    made = _task(n, tilt)
    def loss(model, data):
        value = made.loss(model, data)
        x, y = map(float, model.x.detach())
        if float(value.detach()) < -1e9 or x < -1.2 and (PLACE / "FAIL").exists():
            raise ArithmeticError("no value here")
        saddle = value.requires_grad and abs(x) < 0.1 and abs(y + 1) < 0.1
        if saddle or abs(x - 0.5) < 0.1 and abs(y) < 0.1:
            while (PLACE / "HOLD").exists():
                (PLACE / "HELD").touch()
                time.sleep(0.05)
            if (PLACE / "HANG").exists():
                hangs()
            if (PLACE / "LEAVE").exists():
                leaves()
        if value.requires_grad and abs(x - 1) + abs(y - 1) < 1e-9 and (PLACE / "HANG_GRADIENT").exists():
            hangs()
        return value
    metrics = {"product": lambda model, data: model.x.prod()}
    return Task(model=made.model, loss=loss, data=made.data, metrics=metrics)
"""
THERE = "origin.4.0"
"""The shard with that point."""


class Way:
    """How a program is started that runs a study by one executor, and how it dies with all that belongs to it.

    `finishes`: after Ctrl-C it ends when the shards under way have ended, and after a second one at once. `others`: who
    works is not the program's, and may go on without it.
    """

    finishes = False
    others = False

    def __init__(self, executor: str, options: tuple[str, ...] = (), env: dict[str, str] | None = None):
        self.executor = executor
        self._options = options
        self._env = env or {}

    def start(self, file: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
        words = ["run", str(file), "--out", str(folder), "--executor", self.executor, "--set-site", "shard_points=5"]
        return self.process([*words, *self._options, *more])

    def process(self, words: list[str]) -> subprocess.Popen[str]:
        return Forked(words, **self.surroundings())

    def surroundings(self) -> dict[str, Any]:
        return {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "start_new_session": True,
            "env": {**os.environ, **self._env},
        }

    def kill(self, process: subprocess.Popen[str]) -> None:
        own = psutil.Process(process.pid)
        for each in [own, *own.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):  # ended with one of the others
                each.kill()
        process.communicate(timeout=60)

    def interrupt(self, process: subprocess.Popen[str]) -> None:
        """Ctrl-C, as a terminal has it."""
        os.killpg(process.pid, signal.SIGINT)

    def state(self, folder: Path) -> dict[str, Any]:
        """What `status` says."""
        return status(folder)


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
def _study(folder: Path, more: str = "") -> tuple[Path, dict[str, str]]:
    """A study, and what an undisturbed serial run leaves of it: one for all executors."""
    file = wells(folder / "study", count=7)
    file.write_text(file.read_text() + more)
    (file.parent / "task.py").write_text((file.parent / "task.py").read_text() + TASK)
    done = command(*("run", file, "--out", folder / "run", "--executor", "serial", "--set-site", "shard_points=5"))
    assert done.returncode == 0, done.stderr
    return file, contents(folder / "run")


class ExecutorContract:
    """What every executor keeps: the bytes of a serial run, after any end; refusals in one sentence."""

    @pytest.fixture
    def study(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
        return _study(tmp_path_factory.getbasetemp() / "contract")

    @pytest.fixture
    def confirming(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
        """A study that asks for work of small batches after its merge trees."""
        return _study(tmp_path_factory.getbasetemp() / "contract_confirm", "confirm: true\n")

    @pytest.fixture
    def scoped(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
        """A study of which only the lowest part is evaluated, that point among it, and its minima are confirmed."""
        more = "confirm: true\nscope: {share: 0.5, descents: 5}\n"
        return _study(tmp_path_factory.getbasetemp() / "contract_scope", more)

    @pytest.fixture
    def sampled(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
        """A study without a grid, which looks for that saddle."""
        return _study(tmp_path_factory.getbasetemp() / "contract_sampling", "sampling: {points: 64}\n")

    @pytest.fixture(autouse=True)
    @classmethod
    def no_files(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """Nothing is told to a task at the beginning and at the end of a test."""

        def remove() -> None:
            for name in ("HOLD", "HELD", "HANG", "LEAVE", "FAIL", "HANG_GRADIENT"):
                for file in tmp_path_factory.getbasetemp().glob(f"contract*/study/{name}"):
                    file.unlink()

        remove()
        yield
        remove()

    def ended(self, process: subprocess.Popen[str], code: int = 0) -> str:
        """What a process said that ended with this exit code, and left none behind."""
        session = [each for each in psutil.process_iter() if _session(each) == process.pid]
        out, said = process.communicate(timeout=600)
        assert process.returncode == code, said
        assert out.count("│ SMAD ") == (code == 0)  # one process tells
        assert "Traceback" not in said
        _, alive = psutil.wait_procs([each for each in session if each.pid != process.pid], timeout=60)
        assert not alive
        return said

    def killed_it_goes_on(self, way: Way, study: tuple[Path, dict[str, str]], hold: Path, folder: Path) -> None:
        """Killed while the task waits, a run goes on to the bytes of a serial one when it waits no more."""
        file, expected = study
        process = way.start(file, folder)
        assert wait_for("the task waits", file.with_name("HELD").exists, process)
        way.kill(process)
        hold.unlink()
        self.ended(way.start(file, folder))
        assert contents(folder) == expected

    def refused(self, way: Way, file: Path, folder: Path) -> None:
        """A run in a folder where another is at work."""
        said = self.ended(way.start(file, folder), 2)
        assert "another run is at work there; wait for it, or choose another folder with --out" in said

    def test_stopped_and_killed_in_the_midst_it_goes_on_to_the_bytes_of_a_serial_run(
        self, way: Way, study: tuple[Path, dict[str, str]], tmp_path: Path
    ) -> None:
        """And while it works a second run is refused."""
        file, expected = study
        assert any("/product/c." in name for name in expected)  # a metric beside the loss
        hold, held = file.with_name("HOLD"), file.with_name("HELD")
        hold.touch()
        process = way.start(file, tmp_path / "run")
        assert wait_for("a shard waits", held.exists, process)
        self.refused(way, file, tmp_path / "run")
        way.interrupt(process)
        if way.finishes:
            assert process.stderr is not None
            while "Ctrl-C again" not in (line := process.stderr.readline()):
                assert line
            way.interrupt(process)
        assert "everything finished so far is kept" in self.ended(process, 130)
        state = way.state(tmp_path / "run")
        assert state["at_work"] == way.others
        assert bool(state["held"]) == (way.others and not way.finishes)
        held.unlink()
        self.killed_it_goes_on(way, study, hold, tmp_path / "run")

    def test_confirming_that_hangs_is_one_sentence(
        self, way: Way, confirming: tuple[Path, dict[str, str]], tmp_path: Path
    ) -> None:
        """And it goes on to the bytes of a serial run."""
        file, expected = confirming
        assert any("/confirmed/" in name for name in expected)
        hang = file.with_name("HANG_GRADIENT")
        hang.touch()
        said = self.ended(way.start(file, tmp_path / "run", "--set-site", "shard_timeout=3"), 2)
        assert "confirming descents: it had not ended after" in said
        assert "(site.shard_timeout), and was here" in said
        assert "mend what hangs in the task, or give it more time" in said
        hang.unlink()
        self.ended(way.start(file, tmp_path / "run"))
        assert contents(tmp_path / "run") == expected

    def test_a_network_that_is_killed_goes_on_to_the_bytes_of_a_serial_run(
        self, way: Way, sampled: tuple[Path, dict[str, str]], tmp_path: Path
    ) -> None:
        """Batches that are dealt out where there is no grid; those of confirming are dealt out in the same way."""
        file, expected = sampled
        assert any("/sampling/metric_product/c." in name for name in expected)
        assert not any("/loss/c." in name for name in expected)
        hold = file.with_name("HOLD")
        hold.touch()
        self.killed_it_goes_on(way, sampled, hold, tmp_path / "run")

    def test_a_search_that_hangs_or_is_killed_goes_on_to_the_bytes_of_a_serial_run(
        self, way: Way, scoped: tuple[Path, dict[str, str]], tmp_path: Path
    ) -> None:
        """What hung is quarantined; and while it searches a second run is refused."""
        file, expected = scoped
        assert any("/scope/metric_product/c." in name for name in expected)
        assert any("/confirmed/" in name for name in expected)
        assert not any("/loss/c." in name for name in expected)
        hang, hold = file.with_name("HANG"), file.with_name("HOLD")
        hang.touch()
        said = self.ended(way.start(file, tmp_path / "run", "--set-site", "shard_timeout=3"), 1)
        assert "1 shard hung and is quarantined (origin." in said
        hang.unlink()
        hold.touch()
        process = way.start(file, tmp_path / "run", "--retry-failed")
        assert wait_for("the task waits", file.with_name("HELD").exists, process)
        assert way.state(tmp_path / "run")["at_work"]
        self.refused(way, file, tmp_path / "run")
        way.kill(process)
        state = way.state(tmp_path / "run")
        assert state["landscapes"][0]["scope"]["found"] is False
        hold.unlink()
        self.ended(way.start(file, tmp_path / "run"))
        assert contents(tmp_path / "run") == expected

    def test_a_loss_that_ends_its_process_is_one_sentence(
        self, way: Way, study: tuple[Path, dict[str, str]], tmp_path: Path
    ) -> None:
        """Found by whoever does the work."""
        file, _ = study
        file.with_name("LEAVE").touch()
        said = self.ended(way.start(file, tmp_path / "run"), 2)
        ours = [line for line in said.splitlines() if line.startswith("landscaper-hpc: ")]
        assert ours
        assert all("the loss called sys.exit(0) at line" in line for line in ours)
        logs = [*tmp_path.glob("run/logs/*.log"), *tmp_path.glob("run/jobs/*.out")]
        assert any("in leaves" in log.read_text() for log in logs)

    def test_shards_that_fail_or_hang_are_quarantined_and_the_others_done(
        self, way: Way, study: tuple[Path, dict[str, str]], tmp_path: Path
    ) -> None:
        file, expected = study
        file.with_name("FAIL").touch()
        file.with_name("HANG").touch()
        said = self.ended(way.start(file, tmp_path / "run", "--set-site", "shard_timeout=3"), 1)
        assert (
            "2 shards failed 3 times and 1 shard hung and are quarantined (origin.0.0, origin.0.1, origin.4.0)" in said
        )
        assert "--retry-failed" in said
        assert "ArithmeticError: no value here" in said
        hung = Failures(tmp_path / "run/failed").quarantined()[THERE]
        assert "(site.shard_timeout), and was here" in hung
        assert "in hangs" in hung
        state = way.state(tmp_path / "run")
        assert (state["shards"] - state["shards_done"], state["held"], state["at_work"]) == (3, {}, False)
        file.with_name("FAIL").unlink()
        file.with_name("HANG").unlink()
        self.ended(way.start(file, tmp_path / "run", "--retry-failed"))
        found = contents(tmp_path / "run")
        assert found.keys() == expected.keys()
        # values, and not what is recorded of the beginning: where the loss is tried it may have failed as well
        assert _losses(found) == _losses(expected)


class OfManyProcesses(ExecutorContract):
    """Of executors whose runs take long to start: what confirming and scattered points ask for is dealt out as that of
    a search is, which hangs and is killed in a test that is not slow."""

    @pytest.mark.slow
    def test_confirming_that_hangs_is_one_sentence(
        self, way: Way, confirming: tuple[Path, dict[str, str]], tmp_path: Path
    ) -> None:
        super().test_confirming_that_hangs_is_one_sentence(way, confirming, tmp_path)

    @pytest.mark.slow
    def test_a_network_that_is_killed_goes_on_to_the_bytes_of_a_serial_run(
        self, way: Way, sampled: tuple[Path, dict[str, str]], tmp_path: Path
    ) -> None:
        super().test_a_network_that_is_killed_goes_on_to_the_bytes_of_a_serial_run(way, sampled, tmp_path)


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except OSError:  # it has ended
        return 0


def _losses(left: dict[str, str]) -> dict[str, str]:
    return {file: digest for file, digest in left.items() if re.match("study.zarr/origin/loss/.*c\\.", file)}
