"""A shard that hangs is quarantined with where it was, and others go on; on every way: the contract of executors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from studies import command, process, wells

from landscaper_hpc import InputError, Site, Study, run
from landscaper_hpc.errors import TaskFailed
from landscaper_hpc.store.leases import Leases
from landscaper_hpc.work import hangs as work_hangs
from landscaper_hpc.work import watch
from landscaper_hpc.work.campaign import Plan
from landscaper_hpc.work.estimate import estimate
from landscaper_hpc.work.hangs import left_of, loading_in_time
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.loaded import load
from landscaper_hpc.work.stages import refuse_quarantined
from landscaper_hpc.work.watch import FLOOR, Hung, Limit, in_time, watched
from landscaper_hpc.work.watchdog import Place, without_processor
from tests.kinds import slow

HANGING = """

import time, threading
good = task

def waits_for_ever():
    {how}

def task(**options):
    made = good(**options)
    def loss(model, data):
        value = made.loss(model, data)
        x, y = map(float, model.x.detach())
        if abs(x - 0.75) < 0.1 and abs(y) < 0.1:
            waits_for_ever()
        return value
    return Task(made.model, loss, made.data)
"""
HANGS = "origin.3.0"
NOWHERE = Place(Path("/dev/null"), "")


def hanging(folder: Path, how: str = "time.sleep(1000)") -> Path:
    """5 × 5 points in shards of one row; a loss that does not end at the third point of the fourth."""
    file = wells(folder, count=5)
    (folder / "task.py").write_text((folder / "task.py").read_text() + HANGING.format(how=how))
    return file


def assert_the_others_are_done(folder: Path, file: Path, site: Site) -> None:
    (item,) = Plan.of(Study.load(file), site, folder).landscapes
    store, (quarantined,) = item.open(), item.failures.quarantined().items()
    assert [shard.index for shard in store.pending()] == [(3, 0)]
    assert quarantined[0] == HANGS
    assert "site.shard_timeout" in quarantined[1]
    assert "in waits_for_ever" in quarantined[1]
    assert item.leases.held() == {}
    with pytest.raises(TaskFailed, match=r"^1 shard hung and is quarantined"):
        refuse_quarantined([item])


@pytest.mark.parametrize(
    "how",
    [
        "time.sleep(1000)",
        "threading.Lock().acquire() and threading.Event().wait()",
        "exec('while True: pass')",
        "__import__('os').read(__import__('os').pipe()[0], 1)",
        "exec('try:\\n  time.sleep(1000)\\nexcept BaseException:\\n  time.sleep(1000)')",  # swallows it once
    ],
)
@pytest.mark.thorough
def test_a_shard_that_hangs_is_quarantined_and_the_process_goes_on(tmp_path: Path, how: str) -> None:
    file, site = hanging(tmp_path / "study", how), Site(executor="serial", shard_points=5, shard_timeout=2)
    with pytest.raises(TaskFailed, match=r"(?s)quarantined \(origin\.3\.0\).*in waits_for_ever"):
        run(Study.load(file), site, tmp_path / "run")
    assert_the_others_are_done(tmp_path / "run", file, site)


SWALLOWS = "exec('while True:\\n  try:\\n    time.sleep(1000)\\n  except BaseException:\\n    pass')"
HOLDS = "sum(map(__import__('ctypes').PyDLL(None).sleep, __import__('itertools').repeat(1000)))"
"""Compiled code that never gives the interpreter's lock back: no thread of its process runs. It takes no processor."""


@pytest.mark.processes
@pytest.mark.parametrize("how", [slow(SWALLOWS), HOLDS], ids=["swallows", "holds"])
def test_a_process_that_cannot_be_interrupted_is_replaced(tmp_path: Path, how: str) -> None:
    """Code that swallows everything, or lets nothing run, for ever: the pool has a new process for it."""
    file = hanging(tmp_path / "study", how)
    options = ("--set-site", "shard_points=5", "--set-site", "shard_timeout=3", "--workers", 2)
    done = process("run", file, "--out", tmp_path / "run", *options)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("a shard hangs and cannot be interrupted") == 1
    assert "a worker process died" in (tmp_path / "run/logs/run.log").read_text()
    assert_the_others_are_done(tmp_path / "run", file, Site(shard_points=5))


def test_what_hangs_before_there_are_shards_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = hanging(tmp_path / "study")
    text = (tmp_path / "study/task.py").read_text()
    (tmp_path / "study/task.py").write_text(text.replace("abs(x - 0.75) < 0.1 and abs(y) < 0.1", "abs(x) > 1.4"))
    with pytest.raises(InputError, match=r"landscape origin: some losses .*: it had not ended after 2 s") as caught:
        run(Study.load(file), Site(executor="serial", shard_timeout=0.1), tmp_path / "run")
    assert "in waits_for_ever" in caught.value.traceback


SEARCHES = """any("from_study" in f.filename for f in __import__("traceback").extract_stack())"""
BEFORE = {
    # the directions, when the loss hangs, and what is said to hang
    "gradients for eigenvectors": ("kind: hessian, n: 2", SEARCHES, "the search for directions"),
    "one gradient": ("kind: gradient, n: 1", SEARCHES, "the search for directions"),
}


@pytest.mark.thorough
@pytest.mark.parametrize("what", BEFORE)
def test_a_search_for_directions_that_hangs_is_refused(tmp_path: Path, what: str) -> None:
    file = hanging_before(tmp_path / "study", *BEFORE[what][:2])
    with pytest.raises(InputError, match=rf"landscape origin: {BEFORE[what][2]}.*: it had not ended after") as caught:
        run(Study.load(file), Site(executor="serial", shard_timeout=0.5), tmp_path / "run")
    assert "in waits_for_ever" in caught.value.traceback


@pytest.mark.thorough
def test_gradients_that_hang_while_they_are_timed_are_refused(tmp_path: Path) -> None:
    """`plan` asks for them at other points than the trial before it."""
    file = hanging(tmp_path / "study")
    task = file.with_name("task.py")
    when = """any(f.name == "_rate_of_gradients" for f in __import__("traceback").extract_stack())"""
    task.write_text(task.read_text().replace("abs(x - 0.75) < 0.1 and abs(y) < 0.1", when))
    file.write_text(file.read_text() + "confirm: true\n")
    with pytest.raises(InputError, match=r"landscape origin: some gradients: it had not ended after 10 s") as caught:
        estimate(Study.load(file), Site(executor="serial", shard_timeout=0.5), tmp_path / "run")
    assert "in waits_for_ever" in caught.value.traceback


@pytest.mark.thorough
@pytest.mark.parametrize("what", ["check", "plan", "run"])
def test_a_task_that_never_returns_is_refused(tmp_path: Path, what: str) -> None:
    file = wells(tmp_path / "study", count=5)
    (tmp_path / "study/task.py").write_text("import time\n\ndef task(n, tilt):\n    time.sleep(1000)\n")
    words = ("--executor", "serial", "--out", tmp_path / "run") if what == "run" else ()
    done = command(what, file, "--set-site", "shard_timeout=0.1", *words, cwd=tmp_path)
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert "loading the task, its data and the checkpoint: it had not ended after 2 s (site.shard_timeout)" in said
    assert 'task.py", line 4, in task; mend what hangs in the task, or give it more time' in said


def test_it_is_told_that_loading_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(work_hangs, "TOLD_AFTER", 0.0)
    (item,) = Plan.of(Study.load(wells(tmp_path / "study")), Site(), tmp_path / "run").landscapes
    with loading_in_time(item):
        while not caplog.messages:
            time.sleep(0.01)
    said = "landscape origin: loading the task, its data and the checkpoint takes long, and is waited for"
    assert caplog.messages == [said]


def test_what_was_left_before_a_change_refuses_nothing(tmp_path: Path) -> None:
    """Where nothing has changed it refuses once; what was mended goes on at once."""
    file, folder = wells(tmp_path / "study"), tmp_path / "run"

    def item(**site: object) -> Landscape:
        return Plan.of(Study.load(file), Site.model_validate(site), folder).landscapes[0]

    def left(item: Landscape) -> None:
        # as another process does when it is ended
        Place(left_of(item, item.inside.resume / item.name), "loading: ").leave("it hung")

    left(item())
    with pytest.raises(InputError, match=r"origin: loading: it hung; mend .*, and run the same command again: a proc"):
        load(item())
    load(item())
    left(item())
    load(item(shard_timeout=100.0))
    left(item())
    task = file.with_name("task.py")
    task.write_text(task.read_text() + "\n")
    load(item())
    assert not list((folder / "resume").iterdir())


def test_what_was_left_in_another_users_folder_is_read_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item,) = Plan.of(Study.load(wells(tmp_path / "study")), Site(), tmp_path / "run").landscapes
    name = item.inside.resume / item.name
    before = Place(name.with_name(f"{name.name}.{'0' * 16}.hung"), "")
    place = Place(left_of(item, name), "loading: ")
    before.leave("it hung before a change")
    place.leave("it hung")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as theirs:
        theirs.setattr(Path, "rename", refuse)
        theirs.setattr(Path, "unlink", refuse)
        assert left_of(item, name) == place.file
        assert place.taken() == "loading: it hung\n"
    assert place.taken() == "loading: it hung\n"
    assert before.file.exists()
    assert not place.file.exists()


@pytest.mark.thorough
def test_a_proof_that_hangs_after_a_failed_shard_is_refused(tmp_path: Path) -> None:
    """It asks whether the device is in order, which may be why it does not answer."""
    proves = """any(f.name == "prove" for f in __import__("traceback").extract_stack()) and waits_for_ever()"""
    file = hanging(tmp_path / "study")
    task = file.with_name("task.py")
    text = task.read_text().replace("            waits_for_ever()\n", "            raise ValueError('here')\n")
    task.write_text(text.replace("        value = made", f"        {proves}\n        value = made"))
    with pytest.raises(InputError, match=r"losses that were recorded .*: it had not ended after 10 s") as caught:
        run(Study.load(file), Site(executor="serial", shard_points=5, shard_timeout=0.5), tmp_path / "run")
    assert "in waits_for_ever" in caught.value.traceback


def hanging_before(folder: Path, directions: str, when: str, how: str = "time.sleep(1000)") -> Path:
    """A loss that hangs before there are shards."""
    file = hanging(folder, how)
    task = folder / "task.py"
    task.write_text(task.read_text().replace("abs(x - 0.75) < 0.1 and abs(y) < 0.1", when))
    known = "{kind: file, file: axes.pt, n: 2, normalization: unit}"
    assert known in file.read_text()
    file.write_text(file.read_text().replace(known, f"{{{directions}}}"))
    return file


@pytest.mark.processes
def test_a_search_for_directions_that_holds_the_lock_is_refused_by_the_next(tmp_path: Path) -> None:
    """Its process is killed; who does the same next knows why."""
    file = hanging_before(tmp_path / "study", "kind: hessian, n: 2", SEARCHES, HOLDS)
    options = ("--set-site", "shard_timeout=0.5", "--set-site", "workers=2")
    for _ in range(3):  # where its process is the only one, the same command goes on
        done = process("run", file, "--out", tmp_path / "run", *options)
        if done.returncode == 2:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.returncode == 2
    assert "the search for directions: it had not ended after 10 s (site.shard_timeout), and was here" in done.stderr
    assert "mend what hangs in the task, or give it more time" in done.stderr
    assert "in waits_for_ever" in (tmp_path / "run/logs/run.log").read_text()


def test_what_was_left_is_for_one_of_those_who_ask_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path / "why", "the search: ")
    assert place.taken() is None
    place.leave("it hangs")
    assert place.taken() == "the search: it hangs\n"
    monkeypatch.setattr(Path, "exists", lambda self: True)  # it was there a moment ago
    assert place.taken() is None


def test_how_long_a_shard_may_take() -> None:
    assert Limit(Site(shard_timeout=7.5), 1000).seconds == 7.5
    own = Limit(Site(), 2.0)
    assert own.seconds == FLOOR
    own = Limit(Site(), 100.0)
    assert own.seconds == 2000  # until the first one is known
    for took in (50.0, 70.0, 60.0):
        own.took(took)
    assert own.seconds == 1200
    assert Limit(Site(), 100.0, 3).seconds == 6000  # as much work as three
    for wrong in (0, -1, float("inf"), "never"):
        with pytest.raises(ValueError, match="shard_timeout"):
            Site(shard_timeout=wrong)  # type: ignore[arg-type]


@pytest.mark.thorough
def test_a_lease_is_renewed_only_while_its_holder_gets_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    working = True
    own = Leases(tmp_path, lifetime=0.4, working=lambda: working)
    with own.hold("a") as mine:
        assert mine
        time.sleep(1)
        assert list(own.held()) == ["a"]
        working = False
        time.sleep(1)
        assert own.held() == {}
        with Leases(tmp_path, lifetime=0.4).hold("a") as others:
            assert others


def test_what_ends_in_time_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "TICK", 0.01)
    limit = Limit(Site(shard_timeout=0.2), 0)
    for _ in range(5):
        with watched(limit, NOWHERE):
            assert in_time()
    before = signal.getsignal(signal.SIGVTALRM)
    os.kill(os.getpid(), signal.SIGVTALRM)  # comes too late, after the end: nobody is raised at
    assert before not in (signal.SIG_DFL, signal.SIG_IGN)
    with pytest.raises(Hung, match="test_what_ends_in_time"), watched(limit, NOWHERE):
        time.sleep(10)
    assert in_time()


def test_who_waits_for_a_processor_is_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of the lowest priority on a busy machine was taken for one that hangs."""
    busy = [True]
    monkeypatch.setattr(watch, "TICK", 0.01)
    monkeypatch.setattr(watch, "without_processor", lambda process, task: time.monotonic() if busy[0] else 0.0)
    with watched(Limit(Site(shard_timeout=0.2), 0), NOWHERE):
        time.sleep(0.8)
        assert in_time()
    busy[0] = False
    with pytest.raises(Hung), watched(Limit(Site(shard_timeout=0.2), 0), NOWHERE):
        time.sleep(10)


def test_the_system_counts_how_long_a_thread_waits_for_a_processor() -> None:
    assert 0 < without_processor(os.getpid(), threading.get_native_id()) < 1e6
    assert without_processor(os.getpid(), 1 << 22) == 0


@pytest.mark.processes
def test_another_thread_is_not_interrupted_but_left() -> None:
    """As Dask's workers do: the shard is quarantined, and its process ends."""
    script = """
import threading, time
from pathlib import Path
from landscaper_hpc import Site
from landscaper_hpc.work.watch import Limit, watched
from landscaper_hpc.work.watchdog import Place, without_processor
def shard():
    with watched(Limit(Site(shard_timeout=0.2), 0), Place(Path("/dev/stdout"), "")):
        time.sleep(100)
thread = threading.Thread(target=shard)
thread.start()
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 75
    assert "in shard" in done.stdout
    (said,) = done.stderr.splitlines()
    assert "cannot be interrupted" in said
    assert said.endswith("in shard")  # one line, which says where


@pytest.mark.processes
def test_a_process_that_is_stopped_or_waits_is_not_late(tmp_path: Path) -> None:
    """A signal stops it alone, for longer than it may take; then, with nothing under way, it is left alone."""
    script = f"""
import time
from landscaper_hpc.work import watchdog
own = watchdog.Watchdog()
own.begin(0, -watchdog.LAST + 1, watchdog.Place({str(tmp_path / "why")!r}, ""))
print("begun", flush=True)
time.sleep(0.5)
own.end()
time.sleep(4)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        time.sleep(4)
        process.send_signal(signal.SIGCONT)
        assert process.wait(60) == 0
    assert not (tmp_path / "why").exists()
