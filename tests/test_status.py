"""Status: rates from what workers tell of themselves, and errors with their logs."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import time
from collections import deque
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from forked import Forked
from studies import Gate, command, network, process, wells

from landscaper_hpc import InputError, Site, Study
from landscaper_hpc.executors import jobs
from landscaper_hpc.executors.jobs import Record, SlurmSilent
from landscaper_hpc.executors.local import SerialMapper
from landscaper_hpc.progress import Bars
from landscaper_hpc.status import failures, lines, logs_of, status
from landscaper_hpc.store.heartbeat import Heartbeat, State, at_work, rate_of, read_heartbeats
from landscaper_hpc.work.campaign import Plan
from landscaper_hpc.work.deal import Deal
from landscaper_hpc.work.preparation import prepare_all
from landscaper_hpc.work.tasks import evaluate_shard
from landscaper_hpc.work.worker import tour


@pytest.fixture
def half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A study with 2 of its 5 shards of 5 points done, one held, one failed, two live workers and one long dead."""
    monkeypatch.setattr(
        "landscaper_hpc.executors.jobs.ask_slurm", lambda *command: None
    )  # whether there is a Slurm or not
    plan = Plan.of(Study.load(wells(tmp_path / "study", count=5)), Site(shard_points=5), tmp_path / "run")
    with Bars() as bars:
        prepare_all(plan.landscapes, SerialMapper(), bars)
    (item,) = plan.landscapes
    tasks = list(plan.pending())
    for task in tasks[:2]:
        evaluate_shard(task, lambda done, total: None)
    (plan.folder / "leases").mkdir()
    (plan.folder / "leases" / tasks[2].key).write_text("here.1.x")
    for _ in range(3):
        item.failures.record(tasks[3].key, "shard on here, process 1, job 17 (15_2)\nArithmeticError: no value")
    now = time.time()
    workers = plan.folder / "logs/workers"
    for state in (
        State("n1", 1, "17", "cuda", now - 3600, now, 500, 5, "x", [(now - 100, 100, 1)]),
        State("n2", 2, "17", "cuda", now - 1800, now, 300, 3, "x", [(now - 50, 200, 2)]),
        State("n3", 3, "16", "cuda", now - 9000, now - 1800, 900, 9, "x", [(now - 9000, 0, 0)]),
    ):
        (workers / f"{state.host}.json").write_text(json.dumps(vars(state)))
    (workers / "torn.json").write_text('{"host": ')
    for own in workers.glob("*.[0-9]*.json"):
        own.unlink()  # of this process
    return plan


@pytest.mark.parametrize(("queue", "nodes"), [("5\n17\n", 2), ("5\n18_1\n", 0), (None, 2)])
def test_workers_of_a_job_that_slurm_knows_no_more_have_ended(
    half_done: Plan, monkeypatch: pytest.MonkeyPatch, queue: str | None, nodes: int
) -> None:
    monkeypatch.setattr("landscaper_hpc.executors.jobs.ask_slurm", lambda *command: queue)
    found = status(half_done.folder)
    assert len(found["nodes"]) == nodes


def test_counts_rates_and_hours(half_done: Plan) -> None:
    found = status(half_done.folder)
    assert (found["shards"], found["shards_done"], found["running"], found["pending"]) == (5, 2, 1, 1)
    assert list(found["failed"]) == ["origin.3.0"]
    assert found["points_per_second"] == pytest.approx(4 + 2)
    assert found["shards_per_minute"] == pytest.approx(60 * (4 / 100 + 1 / 50))
    assert found["seconds_left"] == pytest.approx(15 / 6)
    assert [(n["host"], n["points_per_second"]) for n in found["nodes"]] == [
        ("n1", pytest.approx(4)),
        ("n2", pytest.approx(2)),
    ]
    assert found["gpu_hours"] == pytest.approx(1 + 0.5 + 2)
    text = "\n".join(lines(found, half_done.folder))
    assert "shards: 2 done, 1 running, 1 pending, 1 failed" in text
    assert "ArithmeticError: no value" in text
    said = json.loads(command("status", half_done.folder, "--json").stdout)
    assert said["shards_done"] == 2


def test_an_error_and_its_logs(half_done: Plan) -> None:
    folder = half_done.folder
    (folder / "jobs").mkdir()
    for name in ("15_2_0_log.err", "16_0_log.err", "jobs.json"):
        (folder / "jobs" / name).touch()
    (error,) = failures(folder, "origin.3.0").values()
    assert logs_of(folder, error) == [folder / "jobs/15_2_0_log.err", folder / "logs/run.log"]
    with pytest.raises(InputError, match=r"origin\.0\.0: has not failed; what has: origin\.3\.0"):
        failures(folder, "origin.0.0")
    assert command("status", folder, "origin.3.0").returncode == 2


def test_a_heartbeat_says_what_its_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landscaper_hpc.store.heartbeat.BETWEEN_WRITES", 0.0)
    own = Heartbeat(tmp_path, "cpu")
    own.beat("a.0.0", 3)
    own.shard_done(10)
    own.beat("a.1.0", 4)
    (state,) = read_heartbeats(tmp_path)
    assert (state.points, state.shards, state.current) == (14, 1, "a.1.0")
    own.still()  # of a shard it tells itself
    assert read_heartbeats(tmp_path)[0].current == "a.1.0"
    own.begin_phase("directions of a")
    before = read_heartbeats(tmp_path)[0].now
    own.still()  # with every call of the loss: a phase may last long without a step
    (state,) = read_heartbeats(tmp_path)
    assert (state.current, state.phase) == ("directions of a", True)
    assert state.now > before
    (tmp_path / "full").write_text("no folder")
    Heartbeat(tmp_path / "full", "cpu").beat("a.0.0")  # cannot be written, and nobody minds


def test_the_log_of_a_job_has_a_line_of_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("landscaper_hpc.store.heartbeat.BETWEEN_WRITES", 0.0)
    Heartbeat(tmp_path, "cpu").beat("a.0.0", 1)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    for rank in ("0", "1"):  # one of a node
        monkeypatch.setenv("SLURM_LOCALID", rank)
        own = Heartbeat(tmp_path, "cpu")
        own.shard_done(1000)
        own.beat("a.1.0", 4)
        own.beat("a.1.0", 5)  # at once, and not twice
    (line,) = capsys.readouterr().err.splitlines()
    assert "1 shards, 1,004 points" in line
    assert line.endswith("at a.1.0")


@pytest.mark.processes
def test_who_works_on_it_still() -> None:
    """Of killed and ended ones nothing counts, though they were heard of a moment ago."""
    now, here, pids = time.time(), platform.node(), str(Path("/proc/self/ns/pid").readlink())
    gone = subprocess.Popen(["true"])
    gone.wait()
    rows = {
        "of another host": (State("n1", 1, None, "cpu", now, now), True),
        "of another host, long silent": (State("n1", 2, None, "cpu", now, now - 100), False),
        "whose clock is an hour ahead": (State("n1", 6, None, "cpu", now, now + 3600, ahead=3600), True),
        "whose clock was, long silent": (State("n1", 7, None, "cpu", now, now + 3500, ahead=3600), False),
        "whose clock is an hour behind": (State("n1", 8, None, "cpu", now, now - 3600, ahead=-3600), True),
        "this process": (State(here, os.getpid(), None, "cpu", now, now - 100, pids=pids), True),
        "a process that is gone": (State(here, gone.pid, None, "cpu", now, now, pids=pids), False),
        "a process that has its number by now": (State(here, os.getpid(), None, "cpu", 1e9, now, pids=pids), False),
        "it says so": (State("n1", 3, None, "cpu", now, now, ended=True), False),
        "of a container on this host": (State(here, gone.pid, None, "cpu", now, now, pids="pid:[1]"), True),
        "of a job that has ended": (State("n1", 4, "15_2", "cpu", now, now), False),
        "of a job that was started again, before": (State("n1", 5, "16", "cpu", now, now, restart=0), False),
        "of a job that was started again, now": (State("n2", 5, "16", "cpu", now, now, restart=1), True),
    }
    found = at_work([state for state, _ in rows.values()], over={"15_2"})
    assert {what: state in found for what, (state, _) in rows.items()} == {what: yes for what, (_, yes) in rows.items()}


def test_a_rate_begins_when_all_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1000.0
    monkeypatch.setattr("landscaper_hpc.store.heartbeat.BETWEEN_WRITES", 0.0)
    for name in ("time", "monotonic"):
        monkeypatch.setattr(f"landscaper_hpc.store.heartbeat.time.{name}", lambda: clock)
    own = Heartbeat(tmp_path, "cpu")
    own.begin_phase("directions of a")
    (state,) = read_heartbeats(tmp_path)
    assert (state.current, state.phase, state.marks) == ("directions of a", True, [])
    clock += 500
    own.beat("a.0.0")
    own.ready()
    clock += 10
    own.beat("a.0.0", 70)
    (state,) = read_heartbeats(tmp_path)
    assert rate_of(state.marks, state.now, state.points) == pytest.approx(7)
    assert not state.phase
    own.end()
    assert read_heartbeats(tmp_path)[0].ended


@pytest.mark.parametrize("off", [3600, -3600])
def test_a_clock_that_is_off_is_told_by_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: float) -> None:
    """Of a worker and of who looks, each by the time that the file system stamps on what it writes."""
    true = time.time
    monkeypatch.setattr("landscaper_hpc.store.heartbeat.time.time", lambda: true() + off)
    monkeypatch.setattr("landscaper_hpc.store.heartbeat.platform.node", lambda: "n1")
    Heartbeat(tmp_path, "cpu").begin_phase("directions of a")
    monkeypatch.setattr("landscaper_hpc.store.heartbeat.platform.node", lambda: "n2")
    for reader in (off, 0):
        monkeypatch.setattr("landscaper_hpc.store.heartbeat.time.time", lambda reader=reader: true() + reader)
        (state,) = read_heartbeats(tmp_path)
        assert state.ahead == pytest.approx(off - reader, abs=9)
        assert at_work([state], over=()) == [state]


@pytest.mark.parametrize("step", [7200, -7200])
def test_a_clock_that_is_set_while_one_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    """Set back, a rate was 10¹⁰ points/s; set forward, nobody seemed to work."""
    set_by, clock, began = 0.0, time.monotonic(), time.time()
    monkeypatch.setattr("landscaper_hpc.store.heartbeat.BETWEEN_WRITES", 0.0)
    monkeypatch.setattr("landscaper_hpc.store.heartbeat.time.monotonic", lambda: clock)
    monkeypatch.setattr("landscaper_hpc.store.heartbeat.time.time", lambda: began + clock - start + set_by)
    start = clock
    own = Heartbeat(tmp_path, "cpu")
    own.ready()
    clock += 10
    own.beat("a.0.0", 20)
    set_by = step
    clock += 10
    own.beat("a.0.0", 40)
    (state,) = read_heartbeats(tmp_path)
    assert rate_of(state.marks, state.now, state.points) == pytest.approx(2)
    assert state.began == pytest.approx(began + step)


@pytest.mark.parametrize("off", [7200, -7200])
def test_the_clock_of_a_file_server_does_not_end_a_worker_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    now, stamp = time.time(), Path.stat

    def stamped(path: Path, **more: Any) -> Any:
        found = stamp(path, **more)
        return os.stat_result((*found[:8], found.st_mtime + off, found.st_ctime))

    monkeypatch.setattr(Path, "stat", stamped)
    Heartbeat(tmp_path, "cpu").begin_phase("directions of a")
    (state,) = read_heartbeats(tmp_path)
    assert state.now >= now
    assert at_work([state], over=()) == [state]


def test_a_former_lease_of_a_dead_worker_is_not_running(half_done: Plan) -> None:
    now, lease = time.time(), half_done.folder / "leases/origin.2.0"
    lease.write_text("n4.long.name.7.abcdef12")
    assert status(half_done.folder)["running"] == 1
    state = State("n4.long.name", 7, None, "cpu", now, now, ended=True)
    (half_done.folder / "logs/workers/n4.json").write_text(json.dumps(vars(state)))
    assert status(half_done.folder)["held"] == {}


def test_the_same_error_is_told_once(half_done: Plan) -> None:
    (item,) = half_done.landscapes
    for key in ("origin.4.0", "origin.4.1"):
        item.failures.quarantine(key, f"shard {key} on there, process 2\nArithmeticError: no value")
    item.failures.quarantine("origin.5.0", "shard origin.5.0 on there, process 2\nValueError: other")
    said = command("status", half_done.folder, "--failed").stdout
    assert said.count("ArithmeticError") == said.count("ValueError") == 1
    assert "origin.3.0, origin.4.0, origin.4.1 (3 with the same error)" in said


def test_old_states_of_jobs_are_called_old(half_done: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*arguments: object, **more: object) -> None:
        raise SlurmSilent

    Record(half_done.folder).add("evaluate", "17", "x")
    monkeypatch.setattr(Record, "look", silent)
    said = command("status", half_done.folder).stdout
    assert "Slurm does not answer: what follows was so at 20" in said
    assert "job 17               evaluate  PENDING" in said


def test_watching_ends_where_slurm_is_silent_and_no_worker_tells_of_itself(
    half_done: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that were at work when Slurm answered last may be over."""
    looks: list[float] = []

    def looked(seconds: float) -> None:
        looks.append(seconds)
        assert len(looks) < 9

    monkeypatch.setattr("landscaper_hpc.commands.status.time", SimpleNamespace(sleep=looked))
    record = Record(half_done.folder)
    for number in "17", "18":
        record.add("evaluate", number, "x")
    for state in half_done.folder.glob("logs/workers/*.json"):
        state.unlink()
    (half_done.folder / "leases/origin.2.0").unlink()
    assert record.last()[0].active
    said = command("status", half_done.folder, "--watch").stdout
    assert "Slurm does not answer: what follows was so at 20" in said
    assert " 0 running" in said
    told = "no worker tells of itself, and Slurm does not answer whether one will: look again when it does"
    assert said.splitlines()[-1] == told


def test_what_only_the_accounts_tell_is_called_old(half_done: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accounts of a controller that is gone go on to say that its jobs run."""
    record = Record(half_done.folder)
    record.add("evaluate", "17", "x")
    line = f"17|{jobs.name(half_done.folder, 'evaluate')}|RUNNING|0:0|100||n1|None\n"
    monkeypatch.setattr("landscaper_hpc.executors.jobs.ask_slurm", lambda *words: line if words[0] == "sacct" else None)
    assert status(half_done.folder)["at_work"]
    for state in half_done.folder.glob("logs/workers/*.json"):
        state.unlink()
    (half_done.folder / "leases/origin.2.0").unlink()
    found = status(half_done.folder)
    assert not found["at_work"]
    said = list(lines(found, half_done.folder))
    assert "Slurm does not answer: what follows is what the accounts heard last" in said
    assert said[-1].startswith("no worker tells of itself, and Slurm does not answer")


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_after_its_end_nobody_works_on_it(tmp_path: Path, number: signal.Signals) -> None:
    file = network(tmp_path / "study", slow=0.001)
    words = ["run", str(file), "--out", str(tmp_path / "run"), "--workers", "2", "--set-site", "shard_points=5"]
    with closing(Gate(file)) as gate:
        run = Forked(words, start_new_session=True, stderr=subprocess.DEVNULL)
        gate.until("a shard is done", lambda: list(tmp_path.glob("run/study.zarr/[!.]*/done/*/c.*")))
        found = status(tmp_path / "run")
        assert found["at_work"]
        assert found["running"] in (1, 2)  # the second process begins where the first does not end soon
        run.send_signal(number)
        if number == signal.SIGKILL:
            run.wait()
        else:
            gate.until("it ends", lambda: run.poll() is not None)
    said = process("status", tmp_path / "run", "--watch", cwd=tmp_path).stdout
    assert " 0 running" in said
    assert "points/s" not in said.splitlines()[-3]
    line = next(line for line in said.splitlines() if line.startswith("nobody works on it"))
    told = f"nobody works on it; go on with: cd {Path.cwd()} && landscaper-hpc {' '.join(words)}"
    assert told in said.splitlines(), line  # on one line, to be given again


def test_ctrl_c_leaves_what_was_seen_last(half_done: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("landscaper_hpc.commands.status.time", SimpleNamespace(sleep=pressed))
    done = command("status", half_done.folder, "--watch")
    assert done.returncode == 130, done.stderr
    assert "2/5 shards" in done.stdout


def test_workers_begin_apart_and_visit_every_landscape() -> None:
    assert list(tour(1, 2, 4)) == [(0, 0.5)]
    assert [next(iter(tour(100, place, 4))) for place in range(4)] == [(25 * place, 0.0) for place in range(4)]
    assert [next(iter(tour(2, place, 4))) for place in range(4)] == [(0, 0.0), (0, 0.5), (1, 0.0), (1, 0.5)]
    for place in range(3):
        assert sorted(number for number, _ in tour(7, place, 3)) == list(range(7))
    assert list(tour(0, 1, 3)) == []


def test_a_deal_keeps_workers_at_their_rows() -> None:
    rows = [[f"{row}{i}" for i in range(3)] for row in "abc"]
    urgent: deque[str] = deque()
    deal = Deal(map(iter, rows), urgent)  # type: ignore[arg-type]
    assert [deal.take(0), deal.take(1), deal.take(0), deal.take(1)] == ["a0", "b0", "a1", "b1"]
    urgent.append("now")  # type: ignore[arg-type]
    assert [deal.take(1), deal.take(1), deal.take(1), deal.take(0)] == ["now", "b2", "c0", "a2"]
    assert sorted([deal.take(0), deal.take(2)]) == ["c1", "c2"]  # both help with what is left
    assert deal.take(0) is None
    urgent.append("late")  # type: ignore[arg-type]
    assert deal.take(0) == "late"
