"""One contract that every executor keeps."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from landscaper_hpc import InputError
from landscaper_hpc.errors import TaskFailed
from landscaper_hpc.executors import LocalMapper, Mapper, SerialMapper, WorkerLost
from landscaper_hpc.executors.local import later
from landscaper_hpc.progress import Progress

pytestmark = pytest.mark.processes

EXECUTORS = {"serial": SerialMapper(), "one": LocalMapper(1), "three": LocalMapper(3)}


@dataclass(frozen=True)
class Item:
    folder: Path
    number: int


def touch(item: Item, progress: Progress) -> None:
    progress(1, 2)
    with (item.folder / str(item.number)).open("a") as stream:
        stream.write("x")
    progress(2, 2)


def bad_input(item: Item, progress: Progress) -> None:
    if item.number == 2:
        raise InputError("key: is wrong; mend it")
    touch(item, progress)


def broken(item: Item, progress: Progress) -> None:
    if item.number == 2:
        raise ZeroDivisionError("by the user")
    touch(item, progress)


def kills_itself_once(item: Item, progress: Progress) -> None:
    if item.number == 2 and not (item.folder / "killed").exists():
        (item.folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    touch(item, progress)


def slow(item: Item, progress: Progress) -> None:
    time.sleep(0.2)
    touch(item, progress)


def writes_its_process(item: Item, progress: Progress) -> None:
    (item.folder / f"{item.number}.{os.getpid()}").touch()


def waits_for_the_others(item: Item, progress: Progress) -> None:
    """Ends when three processes have one each."""
    writes_its_process(item, progress)
    until = time.monotonic() + 120
    while len(list(item.folder.iterdir())) < 3:
        assert time.monotonic() < until
        time.sleep(0.02)


def sleeps(item: Item, progress: Progress) -> None:
    (item.folder / f"pid{os.getpid()}").touch()
    time.sleep(600)


@pytest.fixture(params=EXECUTORS, scope="module")
def executor(request: pytest.FixtureRequest) -> Iterator[Mapper]:
    """One executor through the whole contract: what one map leaves must not hurt the next."""
    with closing(EXECUTORS[request.param]) as executor:
        yield executor


@pytest.mark.parametrize("n", [0, 1, 7])
def test_every_item_runs_once_and_is_yielded_once(executor: Mapper, tmp_path: Path, n: int) -> None:
    items = [Item(tmp_path, i) for i in range(n)]
    finished = list(executor.map_unordered(touch, items))
    assert sorted(finished, key=lambda item: item.number) == items
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {str(i): "x" for i in range(n)}


def test_progress_comes_back_with_its_item(executor: Mapper, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    items = [Item(tmp_path, i) for i in range(3)]
    list(executor.map_unordered(touch, items, lambda item, done, total: seen.append((item.number, done, total))))
    assert sorted(seen) == [(i, done, 2) for i in range(3) for done in (1, 2)]


def test_bad_input_keeps_its_sentence(executor: Mapper, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="key: is wrong; mend it"):
        list(executor.map_unordered(bad_input, [Item(tmp_path, i) for i in range(5)]))
    assert (tmp_path / "0").exists()


def test_anything_else_names_the_item_and_the_cause(executor: Mapper, tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match=r"(?s)number=2.*ZeroDivisionError: by the user"):
        list(executor.map_unordered(broken, [Item(tmp_path, i) for i in range(5)]))


def test_closing_lets_running_tasks_finish_and_starts_no_more(executor: Mapper, tmp_path: Path) -> None:
    with closing(executor.map_unordered(slow, [Item(tmp_path, i) for i in range(1000)])) as finished:
        next(finished)
    done = len(list(tmp_path.iterdir()))
    assert 1 <= done < 500  # a minute's work of several processes
    assert all(p.read_text() == "x" for p in tmp_path.iterdir())
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == done


@pytest.mark.parametrize("workers", [1, 3])
def test_a_killed_worker_is_reported_and_the_rest_can_go_on(tmp_path: Path, workers: int) -> None:
    items = [Item(tmp_path, i) for i in range(6)]
    with closing(LocalMapper(workers)) as executor:
        with pytest.raises(WorkerLost, match="died"):
            list(executor.map_unordered(kills_itself_once, items))
        pending = [item for item in items if not (tmp_path / str(item.number)).exists()]
        list(executor.map_unordered(kills_itself_once, pending))
    assert all((tmp_path / str(i)).exists() for i in range(6))


class Presses(io.StringIO):
    """A terminal whose user presses Ctrl-C as soon as it says that this is possible."""

    def write(self, text: str) -> int:
        written = super().write(text)
        if "Ctrl-C again" in text:
            os.kill(os.getpid(), signal.SIGINT)
        return written


def wait_or_sleep(item: Item, progress: Progress) -> None:
    progress(1, 2)
    if item.number:
        sleeps(item, progress)


@pytest.mark.parametrize("by", ["the mapper", "the consumer"])
def test_a_second_ctrl_c_ends_what_runs_however_soon_it_comes(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Presses()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("landscaper_hpc.executors.local.START_SECONDS", 0)  # both begin at once
    items = [Item(tmp_path, i) for i in range(3)]

    running = 2 if by == "the mapper" else 1

    def press() -> None:
        assert _wait_for(lambda: len(list(tmp_path.glob("pid*"))) == running)
        os.kill(os.getpid(), signal.SIGINT)

    with closing(LocalMapper(2)) as mapper:
        results = mapper.map_unordered(wait_or_sleep, items, lambda item, done, total: None)
        with pytest.raises(KeyboardInterrupt), closing(results):
            assert next(results) == items[0]
            if by == "the consumer":
                press()
            else:
                threading.Thread(target=press).start()
                next(results)
        mapper.close()
        list(mapper.map_unordered(touch, items))
    assert ("(2 tasks)" if running == 2 else "(1 task)") in terminal.getvalue()
    assert all((tmp_path / str(i)).exists() for i in range(3))


def test_workers_die_with_their_client(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parents[1])!r}, {str(Path(__file__).parents[2])!r}]
from pathlib import Path
from tests.executors.test_executors import Item, LocalMapper, sleeps
if __name__ == "__main__":
    list(LocalMapper(2).map_unordered(sleeps, [Item(Path({str(tmp_path)!r}), i) for i in range(2)]))
"""
    client = subprocess.Popen([sys.executable, "-c", script])
    pids = _wait_for(lambda: len(list(tmp_path.glob("pid*"))) == 2) and [int(p.name[3:]) for p in tmp_path.glob("pid*")]
    client.kill()
    client.wait()
    assert pids
    assert _wait_for(lambda: not any(_alive(pid) for pid in pids))


def _wait_for(condition: object, seconds: float = 240) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_short_work_is_done_by_the_process_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landscaper_hpc.executors.local.START_SECONDS", 1e6)
    with closing(LocalMapper(3)) as executor:
        list(executor.map_unordered(writes_its_process, [Item(tmp_path, i) for i in range(20)]))
    assert len({p.suffix for p in tmp_path.iterdir()}) == 1


def test_longer_work_is_done_by_all(tmp_path: Path) -> None:
    with closing(LocalMapper(3)) as executor:
        list(executor.map_unordered(waits_for_the_others, [Item(tmp_path, i) for i in range(3)]))
    assert len({p.suffix for p in tmp_path.iterdir()}) == 3


def test_ctrl_c_while_a_process_starts_reaches_this_one_and_not_that() -> None:
    began = False
    with pytest.raises(KeyboardInterrupt), later(signal.SIGINT):
        os.kill(os.getpid(), signal.SIGINT)
        status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
        began = True
    assert began
    blocked = next(line for line in status.splitlines() if line.startswith("SigBlk:"))
    assert int(blocked.split()[1], 16) & 1 << signal.SIGINT - 1
