"""Workers that share a store through leases, end before their time is up, and quarantine shards that fail."""

from __future__ import annotations

import multiprocessing as mp
import os
import platform
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from studies import command, contents, network, wells

import landscaper_hpc.work.worker as own
from landscaper_hpc import Site, Study, run
from landscaper_hpc.errors import InputError, RankLost, Stopped, TaskFailed
from landscaper_hpc.executors.local import SerialMapper
from landscaper_hpc.executors.mpi import run_on_ranks
from landscaper_hpc.files import beside
from landscaper_hpc.parallel.comm import SerialComm
from landscaper_hpc.progress import Bars
from landscaper_hpc.store.heartbeat import read_heartbeats
from landscaper_hpc.store.leases import Leases
from landscaper_hpc.study.study import Checkpoint
from landscaper_hpc.work.campaign import Campaign, Plan
from landscaper_hpc.work.landscape import Landscape, ShardItem
from landscaper_hpc.work.preloaded import start_loading
from landscaper_hpc.work.preparation import prepare_all
from landscaper_hpc.work.shared_directions import SharedDirections
from landscaper_hpc.work.stages import topology, verified
from landscaper_hpc.work.worker import Stop, work
from tests.kinds import thorough

SITE = Site(executor="serial", shard_points=5)

FAILING = """

good = task

def task(bad=True, **options):
    made = good(**options)
    def loss(model, data):
        value = made.loss(model, data)
        if bad and float(model.x[0]) > 0.9:
            raise ArithmeticError("no value here")
        return value
    return Task(made.model, loss, made.data)
"""


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with a study, its stores without any loss in `run`, and what an undisturbed run leaves."""
    folder = tmp_path_factory.mktemp("ready")
    study = Study.load(network(folder / "study"))
    run(study, SITE, folder / "undisturbed")
    undisturbed = contents(folder / "undisturbed")
    shutil.rmtree(folder / "undisturbed")
    with Bars() as bars:
        prepare_all(Plan.of(study, SITE, folder / "run").landscapes, SerialMapper(), bars)
    return folder, undisturbed


@pytest.fixture
def prepared(tmp_path: Path, ready: tuple[Path, dict[str, str]]) -> tuple[Plan, dict[str, str]]:
    """A study with its stores ready and no loss in them, and what an undisturbed run leaves."""
    folder, undisturbed = ready
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return Plan.of(Study.load(tmp_path / "study/study.yaml"), SITE, tmp_path / "run"), undisturbed


@pytest.mark.thorough
def test_the_process_that_found_the_directions_goes_on_without_loading_again(
    prepared: tuple[Plan, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, expected = prepared
    plan = Plan.of(copied.study, SITE, copied.folder.parent / "another")
    with Bars() as bars:
        prepare_all(plan.landscapes, SerialMapper(), bars)
    last = plan.landscapes[-1]

    def loads(landscape: Landscape) -> None:
        raise AssertionError(f"{landscape} is loaded again")

    monkeypatch.setattr("landscaper_hpc.work.loaded.load", loads)
    assert work([last])
    monkeypatch.undo()
    assert work(plan.landscapes)
    assert finish(plan) == expected


def finish(plan: Plan) -> dict[str, str]:
    assert verified(plan.landscapes)
    with Bars() as bars:
        for item in plan.landscapes:
            topology(item, bars)
    plan.write_results()
    return contents(plan.folder)


def one_worker(folder: Path, place: int, places: int, counts: mp.SimpleQueue) -> None:  # type: ignore[type-arg]
    plan = Plan.of(Study.load(folder.parent / "study/study.yaml"), SITE, folder)
    done: list[str] = []
    work(plan.landscapes, place=place, places=places, on_done=lambda t: done.append(t.key))
    counts.put(done)


@pytest.mark.processes
def test_workers_share_the_shards_and_take_over_from_the_dead(
    prepared: tuple[Plan, dict[str, str]],
) -> None:
    plan, expected = prepared
    folder = plan.folder
    (folder / "leases").mkdir()
    for key in ("trained.0.0", "untrained.3.1"):  # of workers that were killed
        (folder / "leases" / key).write_text("gone.1.x")
        os.utime(folder / "leases" / key, (0, time.time() - 100))
    start_loading()
    context = mp.get_context("forkserver")
    counts = context.SimpleQueue()
    workers = [context.Process(target=one_worker, args=(folder, i, 3, counts)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    done = [key for _ in workers for key in counts.get()]
    assert len(done) == len(set(done)) == sum(item.open().n_shards() for item in plan.landscapes)
    assert finish(plan) == expected
    assert not (folder / "leases").exists()


@pytest.mark.thorough
def test_no_lease_is_taken_for_what_others_have_done_since(
    prepared: tuple[Plan, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many workers each would else take and give back the lease of every shard."""
    (*_, item), taken = prepared[0].landscapes, list[str]()
    hold = Leases.hold
    monkeypatch.setattr(Leases, "hold", lambda leases, key: taken.append(key) or hold(leases, key))

    def others_go_on(task: ShardItem) -> None:
        store = item.open()
        for shard in store.pending():
            store.write(shard, np.zeros(shard.size))

    assert work([item], on_done=others_go_on)
    assert len(taken) == 1
    assert item.open().n_shards() > 2


@pytest.mark.thorough
def test_a_worker_is_known_before_it_loads(
    prepared: tuple[Plan, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed meanwhile, it was taken for alive as long as its lease was: nobody knew its process."""
    (*_, item), found = prepared[0].landscapes, list[set[str]]()

    def evaluate(task: ShardItem, progress: object) -> None:
        found.append({state.current for state in read_heartbeats(item.inside.workers) if state.pid == os.getpid()})
        raise Stopped

    monkeypatch.setattr(own, "evaluate_shard", evaluate)
    assert not work([item])
    assert f"loading of {item.name}" in found[0]


def test_a_worker_that_loses_those_beside_it_goes_on_but_not_for_ever(
    prepared: tuple[Plan, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (*_, item), fate = prepared[0].landscapes, iter([*"--+-+----"])

    def evaluate(task: ShardItem, progress: object) -> None:
        if next(fate) == "-":
            raise RankLost("the 2 processes have lost rank 1")
        item.open().write(task.shard, np.zeros(task.shard.size))

    monkeypatch.setattr(own, "evaluate_shard", evaluate)
    monkeypatch.setattr(own, "LIFETIME", 0)
    with pytest.raises(InputError, match=r"lost rank 1, 3 times in a row before finishing a task; .*gpus_per_model"):
        work([item])
    assert (next(fate, None), item.open().n_done()) == (None, 2)


@pytest.mark.thorough
@pytest.mark.parametrize("seconds", [thorough(0.0), 0.05])
def test_a_worker_whose_time_is_up_keeps_what_is_done(prepared: tuple[Plan, dict[str, str]], seconds: float) -> None:
    plan, expected = prepared
    rounds = 0
    while not work(plan.landscapes, stop=Stop(seconds or None if rounds else 0)):
        rounds += 1
    assert rounds >= 1
    assert finish(plan) == expected


@pytest.fixture
def handlers() -> Iterator[None]:
    """What answers signals is afterwards as it was."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.thorough
@pytest.mark.usefixtures("handlers")
def test_a_signal_ends_a_worker(prepared: tuple[Plan, dict[str, str]]) -> None:
    plan, expected = prepared
    stop = Stop()
    stop.install()
    done = []

    def on_done(task: object) -> None:
        done.append(task)
        os.kill(os.getpid(), signal.SIGUSR2)

    assert not work(plan.landscapes, stop=stop, on_done=on_done)
    assert len(done) == 1
    assert plan.landscapes[0].leases.held() == {}
    assert work(plan.landscapes)
    assert finish(plan) == expected


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(
    ("restarts", "signals", "grace", "shards", "error"),
    [
        (2, [], -1, 0, Stopped),
        (3, [], -1, 0, InputError),
        (3, [signal.SIGTERM], -1, 0, Stopped),  # preempted, however often: not the job's fault
        (3, [signal.SIGUSR2, signal.SIGTERM], -1, 0, InputError),  # the warning before the walltime, and its end
        (3, [signal.SIGUSR2], 20, 1, Stopped),  # the warning before anything was loaded: there is time for a short one
        (3, [signal.SIGTERM], 20, 0, Stopped),
    ],
)
def test_a_job_is_not_started_again_for_ever(
    prepared: tuple[Plan, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    restarts: int,
    signals: list[signal.Signals],
    grace: float,
    shards: int,
    error: type[BaseException],
) -> None:
    plan, _ = prepared
    campaign = Campaign(plan.folder, (plan,))
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    monkeypatch.setattr("landscaper_hpc.work.worker._GRACE", grace)  # below 0 all shards are long
    stop = Stop() if signals else Stop(0)
    stop.install()
    for number in signals:
        os.kill(os.getpid(), number)
    with pytest.raises(error):
        run_on_ranks(campaign, False, "evaluate", comm=SerialComm(), stop=stop)
    assert sum(item.open().n_done() for item in plan.landscapes) == shards


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("restarts", "number", "saved", "error"),
    [
        (2, signal.SIGUSR2, False, Stopped),
        (3, signal.SIGUSR2, False, InputError),
        (3, signal.SIGUSR2, True, Stopped),  # the next goes on from there
        (3, signal.SIGTERM, False, Stopped),
    ],
)
def test_a_job_whose_time_is_never_enough_for_directions_is_not_started_again_for_ever(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shared: bool,
    restarts: int,
    number: signal.Signals,
    saved: bool,
    error: type[BaseException],
) -> None:
    study = Study.load(wells(tmp_path / "study", count=5))
    campaign = Campaign.of(study, SITE, tmp_path / "run")
    resume = campaign.plans[0].inside.resume / "origin.0"
    function = "landscaper_hpc.work.preparation.prepare"
    if shared:
        directions = SharedDirections.of(study, tmp_path / "run/directions/0.safetensors", SITE, None)
        monkeypatch.setattr(Campaign, "shared", (directions,))
        resume = directions.file.with_name(".0.resume")
        function = "landscaper_hpc.work.shared_directions.SharedDirections.make"
    resume.parent.mkdir(parents=True)
    resume.write_text("as far as the last")
    os.utime(resume, (0, 0))

    def takes_long(*_: object) -> None:
        beside(resume).touch()  # of one that was killed
        if saved:
            resume.write_text("further")
        os.kill(os.getpid(), number)
        pytest.fail("the search went on")

    monkeypatch.setattr(function, takes_long)
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    stop = Stop()
    stop.at_once()
    with pytest.raises(error):
        run_on_ranks(campaign, False, "prepare", comm=SerialComm(), stop=stop)


class Two(SerialComm):
    """One of two ranks, which is never answered: more than there are landscapes."""

    size = 2


@pytest.mark.thorough
@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("comm", [thorough(SerialComm()), Two()])
@pytest.mark.parametrize(
    ("restarts", "number", "found", "error"),
    [
        (2, signal.SIGUSR2, False, Stopped),
        (3, signal.SIGUSR2, False, InputError),
        (3, signal.SIGUSR2, True, Stopped),
        (3, signal.SIGTERM, False, Stopped),
    ],
)
def test_a_job_that_gets_on_with_its_answers_is_started_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    comm: SerialComm,
    restarts: int,
    number: signal.Signals,
    found: bool,
    error: type[BaseException],
) -> None:
    file = wells(tmp_path / "study", count=5)
    file.write_text(file.read_text() + "confirm: true\n")
    campaign = Campaign.of(Study.load(file), SITE, tmp_path / "run")
    plan = campaign.plans[0]
    with Bars() as bars:
        prepare_all(plan.landscapes, SerialMapper(), bars)
        assert work(plan.landscapes)
        topology(plan.landscapes[0], bars)

    def takes_long(*_: object) -> None:
        if found:
            plan.inside.resume.mkdir(exist_ok=True)
            (plan.inside.resume / "batch").touch()
        os.kill(os.getpid(), number)
        pytest.fail("the work went on")

    for way in ("answer_all", "answer_by"):
        monkeypatch.setattr(f"landscaper_hpc.executors.mpi.{way}", takes_long)
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    with pytest.raises(error):
        run_on_ranks(campaign, comm=comm)


@pytest.mark.thorough
@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(
    ("restarts", "signals", "error"),
    [
        thorough(0, [signal.SIGUSR2], Stopped),
        (3, [signal.SIGUSR2], InputError),  # all shards were there, and once more there was no time for the tree
        thorough(3, [signal.SIGTERM], Stopped),
    ],
)
def test_a_job_whose_time_is_up_in_the_merge_tree_ends_there(
    prepared: tuple[Plan, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    restarts: int,
    signals: list[signal.Signals],
    error: type[BaseException],
) -> None:
    plan, expected = prepared
    campaign = Campaign(plan.folder, (plan,))
    assert work(plan.landscapes)
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))

    def takes_long(*_: object) -> None:
        for number in signals:
            os.kill(os.getpid(), number)
        pytest.fail("the work went on")

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr("landscaper_hpc.work.stages.topology", takes_long)
        run_on_ranks(campaign, comm=(comm := Ended()))
    assert list(map(type, comm.by)) == [error]  # others may wait for it in MPI, where they hear no signal
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    assert finish(plan) == expected


class Ended(SerialComm):
    """Remembers by what all ranks were ended."""

    def __init__(self) -> None:
        self.by: list[BaseException] = []

    def abort(self, error: BaseException) -> None:
        self.by.append(error)
        raise error


def test_a_long_shard_is_dropped_and_a_short_one_finished() -> None:
    now = iter((0.0, 0.0, 1.0, 1.0, 1.0, 1.0))
    stop = Stop(seconds=0, clock=lambda: next(now))
    stop.check(0, 100)
    stop.check(90, 100)  # about 0.1 s left: finish
    with pytest.raises(Stopped):
        stop.check(1, 100)  # about 100 s left: drop
    Stop().check(1, 100)


@pytest.mark.thorough
@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("signals", [[signal.SIGUSR2], [signal.SIGTERM]])
def test_a_search_for_directions_ends_a_moment_after_the_warning_if_it_has_not_by_then(
    monkeypatch: pytest.MonkeyPatch, signals: list[signal.Signals]
) -> None:
    stop = Stop()
    stop.install()
    with stop.soon():
        time.sleep(0.7)
    with stop.soon():
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(0.7)  # a moment more, and it is done
    monkeypatch.setattr("landscaper_hpc.work.worker._GRACE", 1.0)
    again = Stop()
    again.install()
    with pytest.raises(Stopped), again.soon():
        for number in signals:
            os.kill(os.getpid(), number)
        time.sleep(30)


def ecc_error(*arguments: object) -> None:
    raise RuntimeError("CUDA error: uncorrectable ECC error encountered")


def nothing_but_nan(objective: object, directions: object, points: np.ndarray, *more: object) -> np.ndarray:  # type: ignore[type-arg]
    return np.full(len(points), np.nan)


@pytest.mark.thorough
@pytest.mark.parametrize("broken", [ecc_error, thorough(nothing_but_nan)])
def test_a_device_that_breaks_refuses_to_write_and_no_shard_is_blamed(
    prepared: tuple[Plan, dict[str, str]], monkeypatch: pytest.MonkeyPatch, broken: Callable[..., object]
) -> None:
    plan, expected = prepared
    item = plan.landscapes[0]
    with monkeypatch.context() as patch:
        with pytest.raises(InputError, match=rf"the checkpoint's loss .* on {platform.node()}, process {os.getpid()}"):
            work([item], on_done=lambda task: patch.setattr("landscaper_hpc.losses.evaluate.losses", broken))
        assert item.open().n_done() == 1
        assert item.leases.held() == {}
        assert not (plan.folder / "failed").exists()
    assert work(plan.landscapes)
    assert finish(plan) == expected


@pytest.mark.thorough
def test_failing_shards_are_quarantined_and_retried_on_demand(tmp_path: Path) -> None:
    file = wells(tmp_path / "study", count=5)
    undisturbed = wells(tmp_path / "good", count=5)
    good = (undisturbed.parent / "task.py").read_text() + FAILING
    (undisturbed.parent / "task.py").write_text(good.replace("bad=True", "bad=False"))
    (file.parent / "task.py").write_text(good.replace("bad=True", "bad=__import__('os').path.exists(FLAG)"))
    (file.parent / "task.py").write_text(f"FLAG = {str(tmp_path / 'flag')!r}\n" + (file.parent / "task.py").read_text())
    (tmp_path / "flag").touch()
    study = Study.load(file)
    for _ in range(2):  # a second run does not try again by itself
        with pytest.raises(
            TaskFailed,
            match=r"(?s)1 shard failed 3 times and is quarantined.*--retry-failed.*ArithmeticError: no value",
        ):
            run(study, SITE, tmp_path / "run")
    said = command("status", tmp_path / "run")
    assert "1 shard failed" in said.stdout
    assert "ArithmeticError: no value here" in said.stdout
    assert len(list((tmp_path / "run/failed").iterdir())) == 3
    store = Plan.of(study, SITE, tmp_path / "run").landscapes[0].open()
    assert store.n_done() == store.n_shards() - 1
    (tmp_path / "flag").unlink()
    done = command("run", file, "--out", tmp_path / "run", "--retry-failed", "--executor", "serial")
    assert done.returncode == 0, done.stderr
    run(Study.load(undisturbed), SITE, tmp_path / "undisturbed")
    found, expected = (open_loss(tmp_path / name) for name in ("run", "undisturbed"))
    assert found == expected


def open_loss(folder: Path) -> bytes:
    from landscaper_hpc import open_landscape

    return open_landscape(folder).loss().tobytes()


@pytest.mark.thorough
def test_a_worker_whose_numbers_differ_refuses_to_write(prepared: tuple[Plan, dict[str, str]], tmp_path: Path) -> None:
    """The canary: a checkpoint that is another one now gives another loss than the recorded."""
    from landscaper_hpc import InputError

    plan, _ = prepared
    item = plan.landscapes[0]
    shutil.copy(tmp_path / "study/made/trained.pt", tmp_path / "study/other.pt")
    other = item.study.model_copy(
        update={"checkpoints": [Checkpoint(name=item.name, file="other.pt", options=item.checkpoint.options)]}
    )
    impostor = Landscape(other, other.checkpoints[0], item.inside, item.site, run="impostor")
    with pytest.raises(InputError, match=r"was recorded when the study began"):
        work([impostor])
    assert item.open().n_done() == 0
