"""Leases: one holder, stale ones are taken over by exactly one, clocks that are off do no lasting harm."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from studies import on_a_small_disk

from landscaper_hpc.store.leases import Leases


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = Leases(tmp_path / "leases"), Leases(tmp_path / "leases")
    with first.hold("a") as mine:
        assert mine
        assert list(first.held()) == ["a"]
        with second.hold("a") as theirs, second.hold("b") as other:
            assert not theirs
            assert other
            assert sorted(first.held()) == ["a", "b"]
    assert first.held() == {}
    with second.hold("a") as mine:
        assert mine
    assert [p.name for p in (tmp_path / "leases").iterdir()] == []


def test_given_back_on_an_exception(tmp_path: Path) -> None:
    leases = Leases(tmp_path)
    try:
        with leases.hold("a"):
            raise RuntimeError
    except RuntimeError:
        pass
    assert leases.held() == {}


def test_renewed_while_held(tmp_path: Path) -> None:
    with Leases(tmp_path, lifetime=0.4).hold("a") as mine:
        assert mine
        for _ in range(3):
            os.utime(tmp_path / "a", (time.time() - 100,) * 2)
            deadline = time.monotonic() + 240
            while not Leases(tmp_path).held():
                assert time.monotonic() < deadline
                time.sleep(0.01)
        with Leases(tmp_path).hold("a") as theirs:
            assert not theirs


def takers(folder: Path, count: int = 8) -> list[int]:
    """Which of `count` workers that start together got the lease "a" """
    got: list[int] = []
    start, end = threading.Barrier(count), threading.Barrier(count)

    def worker(number: int) -> None:
        leases = Leases(folder)
        start.wait()
        with leases.hold("a") as mine:
            if mine:
                got.append(number)
            end.wait()

    threads = [threading.Thread(target=worker, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


def stale(path: Path, holder: str) -> None:
    path.write_text(holder)
    os.utime(path, (time.time() - 100,) * 2)


HOLDER = """
import os, signal, sys
from pathlib import Path
from landscaper_hpc.store.leases import Leases

with Leases(Path(sys.argv[1])).hold("a"):
    print("holds", flush=True)
    sys.stdin.read()
"""


@pytest.mark.processes
def test_what_a_killed_process_of_this_machine_held_is_free_at_once(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holds\n"
    with Leases(tmp_path).hold("a") as mine:
        assert not mine
    assert list(Leases(tmp_path).held()) == ["a"]
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet buried
    assert Leases(tmp_path).held() == {}
    assert len(takers(tmp_path)) == 1
    holder.communicate()


def test_a_signal_as_a_lease_is_taken_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes where a shard has just been done: an empty lease was taken for somebody's for a minute."""

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), Leases(tmp_path).hold("a"):
        patch.setattr(os, "write", interrupted)
        with Leases(tmp_path).hold("b"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_lease_that_names_nobody_is_free_soon(tmp_path: Path) -> None:
    """Killed between making the file and writing to it."""
    leases = Leases(tmp_path)
    (tmp_path / "a").touch()
    assert list(leases.held()) == ["a"]
    with leases.hold("a") as mine:
        assert not mine  # its holder may be about to write
    os.utime(tmp_path / "a", (time.time() - 6,) * 2)
    assert leases.held() == {}
    with leases.hold("a") as mine:
        assert mine
        assert list(leases.held()) == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize("where", ["another 123", "", "no-number"])
def test_nobody_can_tell_of_another_machines_process(tmp_path: Path, where: str) -> None:
    (tmp_path / "a").write_text(f"host.1.x\n{where}")
    assert Leases(tmp_path).held() == {"a": "host.1.x"}
    assert takers(tmp_path) == []


def test_a_stale_lease_is_taken_over_by_exactly_one(tmp_path: Path) -> None:
    for round_ in range(50):  # the race is narrow
        folder = tmp_path / str(round_)
        folder.mkdir()
        stale(folder / "a", "dead.1.x")
        assert Leases(folder).held() == {}
        assert len(takers(folder)) == 1
        assert list(folder.iterdir()) == []


def test_one_that_died_while_taking_over_is_taken_over_in_turn(tmp_path: Path) -> None:
    stale(tmp_path / "a", "dead.1.x")
    stale(tmp_path / ".a.dead.1.x", "dead.2.x")
    assert len(takers(tmp_path)) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_stamp_far_in_the_future_does_not_hold_for_ever(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("host.1.x")
    os.utime(tmp_path / "a", (time.time() + 3600,) * 2)
    with Leases(tmp_path).hold("a") as mine:
        assert mine


@pytest.mark.processes
def test_a_full_disk_is_one_sentence_and_leaves_no_lease(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path

import pytest
from landscaper_hpc import InputError
from landscaper_hpc.store.leases import Leases
folder = Path({str(tmp_path)!r}) / "mount" / "leases"
folder.mkdir()
(folder.parent / "ballast").write_bytes(bytes(16 * 4096))
try:
    with Leases(folder).hold("a"):
        print("held")
except InputError as error:
    assert "no space left" in str(error), error
    assert list(folder.iterdir()) == [], list(folder.iterdir())
    print("refused")
"""
    done = on_a_small_disk(tmp_path / "mount", 64, sys.executable, "-c", script)
    assert "refused" in done.stdout, done.stderr
