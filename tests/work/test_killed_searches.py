"""Studies with `scope` and `sampling`, whose clients and workers are killed at random moments, two clients at once."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from forked import Forked
from studies import command, contents, wells

pytestmark = pytest.mark.processes

SLOW = """
import time
_task = task

def task(n=2, tilt=0.1):
    made = _task(n, tilt)
    def loss(model, data):
        value = made.loss(model, data)
        if float(value.detach()) > -1e9:  # a branch on the value is neither batched nor recorded: it sleeps every time
            time.sleep(0.002)
        return value
    return Task(model=made.model, loss=loss, data=made.data)
"""
ASKED = {"scope": "confirm: true\nscope: {share: 0.1, descents: 20}\n", "sampling": "sampling: {points: 64}\n"}


class Clients:
    """Two clients of a study in one folder: the second is refused for as long as the first is there."""

    def __init__(self, file: Path, expected: dict[str, str], place: Path) -> None:
        self._file, self._expected, self._place = file, expected, place
        self._running: list[subprocess.Popen[str]] = []
        self.finished = 0

    @property
    def folder(self) -> Path:
        return self._place / f"run{self.finished}"

    def both(self) -> None:
        """Start as many as miss. Where the study is finished its bytes are compared, and the next folder begins."""
        ended = [each for each in self._running if each.poll() is not None]
        self._running = [each for each in self._running if each.poll() is None]
        if any([self._done(each) for each in ended]):  # noqa: C419 (all of them are waited for)
            self.end()
            assert contents(self.folder) == self._expected
            self.finished += 1
        while len(self._running) < 2:
            words = ["run", self._file, "--out", self.folder, "--executor", "local", "--workers", "2"]
            pipe = subprocess.PIPE
            self._running.append(Forked(list(map(str, words)), stdout=pipe, stderr=pipe, start_new_session=True))

    def kill(self, choose: random.Random) -> None:
        """Kill one process of any client's, or a client with all that it started, as a node is lost."""
        own = psutil.Process(choose.choice(self._running).pid)
        with suppress(psutil.NoSuchProcess):
            everyone = [own, *own.children(recursive=True)]
            for victim in choose.choice([everyone, [own], everyone[-2:], everyone[-1:]]):
                with suppress(psutil.NoSuchProcess):
                    victim.kill()

    def end(self) -> None:
        for each in self._running:
            self._done(each)
        self._running = []

    def _done(self, client: subprocess.Popen[str]) -> bool:
        """Whether a client ended well; it may as well have been killed, refused, or without its workers."""
        _, said = client.communicate(timeout=400)
        code = client.returncode
        lost = "workers died 3 times in a row" in said
        assert code in (0, -signal.SIGKILL) or lost or "another run is at work there" in said, said
        return code == 0


def killed(asked: str, kills: int, seed: int, folder: Path) -> int:
    """How many studies were finished, each with the bytes of an undisturbed serial run, while so many were killed."""
    file = wells(folder / "study", count=41)
    file.write_text(file.read_text() + ASKED[asked])
    task = file.with_name("task.py")
    task.write_text(task.read_text() + SLOW)
    began = time.monotonic()
    done = command("run", file, "--out", folder / "whole", "--executor", "serial")
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    choose, clients = random.Random(seed), Clients(file, contents(folder / "whole"), folder)
    for _ in range(kills):
        clients.both()
        time.sleep(choose.uniform(0, took))
        clients.kill(choose)
    clients.end()
    last = command("run", file, "--out", clients.folder, "--executor", "serial")
    assert last.returncode == 0, last.stderr
    assert contents(clients.folder) == contents(folder / "whole")
    return clients.finished


@pytest.mark.slow
@pytest.mark.timeout(3600)  # once each, at known moments, in the contract of the executors
@pytest.mark.parametrize("asked", ASKED)
def test_killed_many_times_it_ends_with_the_same_bytes(asked: str, tmp_path: Path) -> None:
    killed(asked, 30, 1, tmp_path)
