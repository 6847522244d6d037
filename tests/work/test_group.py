"""Studies of a model that several processes hold together, against the same model in one."""

from __future__ import annotations

import json
import logging
import multiprocessing as mp
import os
import signal
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from kinds import slow
from studies import DIVIDED, contents, divided

from landscaper_hpc import InputError, Site, Study, open_landscape, run
from landscaper_hpc.errors import TaskFailed
from landscaper_hpc.objective import determinism
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.work import confirming, group
from landscaper_hpc.work.error_bars import Groups
from landscaper_hpc.work.identity import provenance
from landscaper_hpc.work.preloaded import start_loading
from landscaper_hpc.work.worker import Stop

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module", autouse=True)
def _followers_are_forked_from_what_has_loaded_fsdp() -> None:
    """As those of a worker are: what another file's tests have begun here has not."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    start_loading(together=True)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return divided(tmp_path_factory.mktemp("group")).parent


def study(base: Path, shard: str = "0.*", more: str = "") -> Study:
    file = base / f"study.{abs(hash((shard, more)))}.yaml"
    file.write_text(DIVIDED.replace("SHARD", repr(shard) + more))
    return Study.load(file)


def site(size: int, executor: str = "serial") -> Site:
    return Site(executor=executor, workers=1, gpus_per_model=size, shard_points=3)


def losses(folder: Path) -> np.ndarray:
    return np.asarray(zarr.open_group(folder / "study.zarr", mode="r", path="a")["loss"][:])


@pytest.fixture(scope="module")
def alone(base: Path) -> np.ndarray:
    run(study(base), site(1), base / "alone")
    return losses(base / "alone")


@pytest.fixture(scope="module")
def two(base: Path) -> np.ndarray:
    run(study(base), site(2), base / "two")
    return losses(base / "two")


def test_losses_are_those_of_the_whole_model(base: Path, alone: np.ndarray, two: np.ndarray) -> None:
    np.testing.assert_allclose(two, alone, rtol=1e-13)


@pytest.mark.parametrize(("rank", "executor"), [(0, "local"), slow(1, "local"), (1, "mpi")])
def test_a_group_that_loses_a_process_begins_anew_with_the_same_bytes(
    base: Path,
    two: np.ndarray,
    rank: int,
    executor: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Stop, "install", lambda stop: None)  # the signals of this process are pytest's
    folder = base / f"killed{rank}{executor}"
    if executor == "mpi":  # what is lost is lost in the midst of shards
        run(study(base), site(2, executor), folder, stage="prepare")
    (base / f"kill.{rank}").touch()
    with caplog.at_level(logging.WARNING):
        run(study(base), site(2, executor), folder)
    assert not (base / f"kill.{rank}").exists()
    lost = "have lost rank 1, which was ended by signal 9" if rank else "a worker process died"
    assert lost in caplog.text
    assert np.array_equal(losses(folder), two)


def test_the_lowest_part_is_found_by_a_group_that_loses_a_process_too(
    base: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stop, "install", lambda stop: None)
    lowest = Study.load(base / "study.yaml", ["grid.count=9", "scope.share=0.3", "scope.descents=3"])
    found = []
    for size, executor in ((1, "serial"), (2, "mpi")):
        folder = base / f"lowest{size}{executor}"
        if executor == "mpi":
            run(lowest, site(size, executor), folder, stage="prepare")
            (base / "kill.1").touch()
        with caplog.at_level(logging.WARNING):
            run(lowest, site(size, executor), folder)
        found.append(open_landscape(folder).lowest_values())
    assert not (base / "kill.1").exists()
    assert "have lost rank 1, which was ended by signal 9" in caplog.text
    (points, alone), (again, killed) = found
    assert len(points) < 81
    assert np.array_equal(again, points)
    np.testing.assert_allclose(killed, alone, rtol=1e-13)


def test_scattered_points_have_the_losses_of_the_whole_model(base: Path) -> None:
    scattered = Study.load(base / "study.yaml", ["sampling.points=8", "sampling.minima=0"])
    found = []
    for size in (1, 2):
        run(scattered, site(size), base / f"scattered{size}")
        answer = open_landscape(base / f"scattered{size}").answer("sampling", scattered.asked()["sampling"])
        assert answer is not None
        found.append(answer.arrays)
    assert np.array_equal(found[0]["points"], found[1]["points"])
    np.testing.assert_allclose(found[1]["losses"], found[0]["losses"], rtol=1e-13)


TWO_MINIMA = ("grid.count=5", "grid.range=30", "error_bars=true", "confirm.minima=2")


def answers(folder: Path, asked: Study) -> dict[str, dict[str, np.ndarray]]:
    store = open_landscape(folder)
    return {name: store.whole_answer(name, wanted).arrays for name, wanted in asked.asked().items()}


def test_what_is_asked_of_a_landscape_is_that_of_the_whole_model(
    base: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a group that loses a process as a minimum is followed, too."""
    monkeypatch.setattr(Stop, "install", lambda stop: None)
    asked = Study.load(base / "study.yaml", TWO_MINIMA)
    run(asked, site(1), base / "asked1")
    gradients, calls = confirming._InTime.gradients, list[int]()

    def killed(surface: confirming._InTime, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        calls.append(len(points))
        if len(calls) == 5:
            (base / "kill.1").touch()
        return gradients(surface, points)

    monkeypatch.setattr(confirming._InTime, "gradients", killed)
    with caplog.at_level(logging.WARNING):
        run(asked, site(2, "mpi"), base / "asked2")
    assert not (base / "kill.1").exists()
    assert "have lost rank 1, which was ended by signal 9" in caplog.text
    alone, two = answers(base / "asked1", asked), answers(base / "asked2", asked)
    bars, of_two = alone["error_bars"], two["error_bars"]
    assert bars["units"] == of_two["units"] == 17  # examples, of four batches
    assert len(bars["minima"]) > 1
    for name in ("difference", "standard_error", "p_value"):
        np.testing.assert_allclose(of_two[name], bars[name], rtol=1e-11, atol=1e-300)
    ends, of_two = alone["confirmed"], two["confirmed"]
    assert len(ends["points"]) > 1
    assert np.array_equal(of_two["kinds"], ends["kinds"])
    np.testing.assert_allclose(of_two["points"], ends["points"], atol=1e-5)
    np.testing.assert_allclose(of_two["values"], ends["values"], rtol=1e-10)
    np.testing.assert_allclose(of_two["eigenvalues"], ends["eigenvalues"], rtol=1e-5)
    assert "by_differences" in of_two
    assert "by_differences" not in ends


@pytest.mark.slow
def test_every_group_gives_the_same_bytes_and_has_its_own_reference_in_float64(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stop, "install", lambda stop: None)
    asked = Study.load(base / "study.yaml", [*TWO_MINIMA, "precision=float32"])
    computed, calls = Groups.computed, list[int]()

    def killed(batch: Groups, *given: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:  # the reference is loaded
            (base / "kill.1").touch()
        return computed(batch, *given)

    run(asked, site(1), base / "single1")
    run(asked, site(2), base / "single2")
    with monkeypatch.context() as patch:
        patch.setattr(Groups, "computed", killed)
        run(asked, site(2, "mpi"), base / "single2mpi")
    assert not (base / "kill.1").exists()
    alone, two, again = (answers(base / name, asked) for name in ("single1", "single2", "single2mpi"))
    for name in two:
        assert all(values.tobytes() == again[name][key].tobytes() for key, values in two[name].items())
    assert np.array_equal(two["error_bars"]["minima"], alone["error_bars"]["minima"])
    np.testing.assert_allclose(two["error_bars"]["standard_error"], alone["error_bars"]["standard_error"], rtol=1e-3)


@pytest.mark.parametrize(
    "kind", ["plane, through: [b0.pt, b1.pt]", slow("trajectory, n: 2, trajectory: [b0.pt, b1.pt, b2.pt]")]
)
def test_directions_through_checkpoints_and_where_these_lie(tmp_path: Path, kind: str) -> None:
    file = divided(tmp_path)
    weights, generator = torch.load(tmp_path / "a.pt"), torch.Generator().manual_seed(0)
    for i in range(3):
        other = {name: w + 0.1 * torch.randn(w.shape, generator=generator) for name, w in weights.items()}
        torch.save(other, tmp_path / f"b{i}.pt")
    text = file.read_text().replace("random, n: 2, normalization: layer", f"{kind}, normalization: unit")
    file.write_text(text.replace("range: 0.5", "range: 20") + "trajectory: [b0.pt, b2.pt]\n")
    of_checkpoints, found = Study.load(file), []
    for size in (1, 2):
        run(of_checkpoints, site(size), tmp_path / f"run{size}")
        found.append((losses(tmp_path / f"run{size}"), *answers(tmp_path / f"run{size}", of_checkpoints).values()))
    (alone, places), (two, of_two) = found
    np.testing.assert_allclose(two, alone, rtol=1e-13)
    for name, values in places.items():
        np.testing.assert_allclose(of_two[name], values, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shard", ["0.*", slow("tensor")])
def test_what_the_ranks_round_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: str) -> None:
    monkeypatch.setattr(Stop, "install", lambda stop: None)
    divided(tmp_path)
    task = tmp_path / "task.py"
    task.write_text(task.read_text().replace("(model(batch[0]) - batch[1])", "(model(batch[0]).float() - batch[1])"))
    file = tmp_path / "study.yaml"
    file.write_text(DIVIDED.replace("SHARD", repr(shard)))
    run(Study.load(file, ["precision=float64"]), site(2, "mpi"), tmp_path / "run", stage="prepare")
    store = open_landscape(tmp_path / "run")
    assert store.precision == "float32"
    (notice,) = [one for one in store.attributes["notices"] if "rounds" in one]
    assert "to float32 (task.py, line " in notice


def test_followers_leave_it_to_their_leader_what_a_scheduler_tells_all_processes(
    base: Path, two: np.ndarray, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(mp.current_process()._config, "daemon", True)  # type: ignore[attr-defined] (as Dask's workers)
    monkeypatch.setattr("landscaper_hpc.orchestrate.end_group", lambda: None)  # as in a worker that goes on
    run(study(base), site(2), base / "warned")
    assert group._group is not None
    ((follower, _),) = group._group._members
    for number in (signal.SIGUSR2, signal.SIGTERM):
        os.kill(follower.pid, number)
    with caplog.at_level(logging.WARNING):
        run(study(base), site(2), base / "warned again")
    assert "have lost" not in caplog.text
    assert group._group is not None
    assert group._group._members[0][0] is follower
    group.end()
    assert not follower.is_alive()
    assert np.array_equal(losses(base / "warned again"), two)


def test_what_another_run_of_this_process_has_left_takes_part_in_none(
    base: Path, alone: np.ndarray, two: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose model one process holds waited for the other one of the run before for ever."""
    with monkeypatch.context() as patch:
        patch.setattr("landscaper_hpc.orchestrate.end_group", lambda: None)
        run(study(base), site(2), base / "left")
        assert group._group is not None
    run(study(base), site(1), base / "alone again")
    assert group._group is None
    assert np.array_equal(losses(base / "alone again"), alone)
    run(study(base), site(2), base / "two again")
    assert group._group is None
    assert np.array_equal(losses(base / "two again"), two)


FAULTY = """
import sys
import time

_loss, _task, calls = loss, task, 0


def fail(where):
    if where == WHERE and rank() in RANKS and (where == "task" or calls == CALL):
        WHAT


def task(**options):
    fail("task")
    made = _task(**options)
    made.model[1].register_forward_pre_hook(lambda *_: fail("model"))
    return made


def loss(model, batch):
    global calls
    calls += 1
    fail("begin")
    found = _loss(model, batch)
    fail("end")
    if rank() in RANKS and float(found.detach().sum()) > ABOVE:
        raise ValueError("a mistake")
    return found
"""
CHECK, AWAY, RECORDED, EVALUATED = 1, 7, 33, 89  # calls: of the checkpoint's loss, displaced, on the grid, for shards
ABOVE = 58  # which is exceeded at one corner of the grid
MISTAKE, EXIT = "raise ValueError('a mistake')", "sys.exit(3)"


def faulty(
    base: Path, folder: Path, where: str, ranks: tuple[int, ...], call: int, what: str, above: float = 1e9
) -> Study:
    words = {"WHERE": repr(where), "RANKS": repr(ranks), "CALL": str(call), "WHAT": what, "ABOVE": str(above)}
    code = FAULTY
    for word, value in words.items():
        code = code.replace(word, value)
    (folder / "task.py").write_text((base / "task.py").read_text() + code)
    (folder / "a.pt").write_bytes((base / "a.pt").read_bytes())
    (folder / "study.yaml").write_text(DIVIDED.replace("SHARD", "'0.*'"))
    return Study.load(folder / "study.yaml")


@pytest.mark.parametrize(
    ("where", "ranks", "call", "what", "said"),
    [
        ("task", (1,), 0, MISTAKE, r"ValueError: a mistake \(on rank 1\)"),
        slow("end", (1,), CHECK, MISTAKE, r"ValueError: a mistake \(on rank 1\)"),
        ("begin", (1,), AWAY, MISTAKE, r"ValueError: a mistake \(on rank 1\)"),
        slow("begin", (0,), AWAY, MISTAKE, r"ValueError: a mistake \(on rank 0\)"),
        ("begin", (2,), AWAY, MISTAKE, r"ValueError: a mistake \(on rank 2\)"),
        ("end", (1,), AWAY, EXIT, r"called sys.exit\(3\) .*\(on rank 1\)"),
        slow("begin", (1,), RECORDED, "raise KeyboardInterrupt", r"raised KeyboardInterrupt .*\(on rank 1\)"),
    ],
)
def test_what_one_rank_raises_ends_all_with_one_sentence(
    base: Path, tmp_path: Path, where: str, ranks: tuple[int, ...], call: int, what: str, said: str
) -> None:
    with pytest.raises(InputError, match=said) as refused:
        run(faulty(base, tmp_path, where, ranks, call, what), site(max(2, *ranks) + (2 in ranks)), tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert "task.py" in refused.value.traceback
    assert group.rank is None
    assert not (tmp_path / "run" / "study.zarr").exists()


@pytest.mark.parametrize(
    ("where", "ranks", "call"),
    [("end", (1,), AWAY), slow("model", (1,), RECORDED), ("model", (0, 1), RECORDED)],
)
def test_ranks_go_on_where_one_raises_what_may_be_raised_there(
    base: Path, two: np.ndarray, tmp_path: Path, where: str, ranks: tuple[int, ...], call: int
) -> None:
    """What FSDP had gathered for a forward pass that was broken off was what the next point was computed with."""
    run(faulty(base, tmp_path, where, ranks, call, MISTAKE), site(2), tmp_path / "run")
    assert np.array_equal(losses(tmp_path / "run"), two)


def test_a_shard_that_fails_on_one_rank_is_quarantined_and_the_group_goes_on(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    join, began = group._join, list[int]()
    monkeypatch.setattr(group, "_join", lambda number, *given: began.append(number) or join(number, *given))
    with pytest.raises(TaskFailed, match=r"quarantined[^$]*ValueError: a mistake \(on rank 1\)") as failed:
        run(faulty(base, tmp_path, "", (1,), 0, "pass", above=ABOVE), site(2), tmp_path / "run")
    assert failed.value.sentence.endswith("ValueError: a mistake (on rank 1)")
    assert len(began) == 1
    store = LandscapeStore(tmp_path / "run" / "study.zarr", "a")
    assert store.n_done() == store.n_shards() - 1


KEPT = """
_loss, kept, calls = loss, [], 0


def loss(model, batch):
    global calls
    found = _loss(model, batch)
    calls += WHERE
    kept.append(float(found.detach().mean()))
    return WHAT
"""


@pytest.mark.parametrize(
    ("where", "what", "said"),
    [
        ("True", "found / kept[0]", "depends on where it was called before: it is .* after other calls"),
        ("rank() == 1", "found * (1.0 if calls < 40 else 2.0)", "changes from call to call"),
    ],
)
def test_what_a_loss_keeps_on_ranks_is_not_used_or_refused(
    base: Path, tmp_path: Path, where: str, what: str, said: str
) -> None:
    """Neither was found out: losses of a sharded model are not listened to."""
    code = KEPT.replace("WHERE", where).replace("WHAT", what)
    (tmp_path / "task.py").write_text((base / "task.py").read_text() + code)
    (tmp_path / "a.pt").write_bytes((base / "a.pt").read_bytes())
    (tmp_path / "study.yaml").write_text(DIVIDED.replace("SHARD", "'0.*'"))
    with pytest.raises(InputError, match=said):
        run(Study.load(tmp_path / "study.yaml"), site(2), tmp_path / "run")


LISTED = """
_task, _loss, listed = task, loss, []


def task(**options):
    made = _task(**options)
    listed.extend(made.model.parameters())
    return made


def loss(model, batch):
    return _loss(model, batch) + 0.1 * sum(p.square().sum() for p in listed)
"""


@pytest.mark.parametrize("shard", ["0.*", slow("tensor")])
def test_parameters_that_a_task_has_listed_before_they_were_divided_are_refused(tmp_path: Path, shard: str) -> None:
    """They stay where they were: the landscape was that of a loss with a constant in it."""
    file = divided(tmp_path)
    (tmp_path / "task.py").write_text((tmp_path / "task.py").read_text() + LISTED)
    file.write_text(file.read_text().replace("'0.*'", repr(shard)))
    with pytest.raises(InputError, match=r"the loss reads 0\.0\.0\.\w+, .*not from the model that it is called with"):
        run(Study.load(file), site(2), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_shard_that_hangs_on_one_rank_is_quarantined_with_where_it_was(base: Path, tmp_path: Path, rank: int) -> None:
    hangs = faulty(base, tmp_path, "begin", (rank,), EVALUATED, "time.sleep(1000)")
    with pytest.raises(TaskFailed, match=r"1 shard hung (?s:.*)was here: File .*task.py"):
        run(hangs, site(2).model_copy(update={"shard_timeout": 20.0}), tmp_path / "run")


LATE = """
import landscaper_hpc.directions.lanczos as lanczos

lanczos.SECONDS_BETWEEN_SAVES = 0
_loss, _calls = loss, 0


def loss(model, batch):
    global _calls
    marked, saved = Path(__file__).with_name(f"late.{rank()}"), list(Path(__file__).parent.glob("again/resume/*.rank1"))
    _calls += bool(saved)
    if marked.exists() and _calls > 40:
        marked.write_bytes(saved[0].read_bytes().partition(b"\\n")[0])
        marked.rename(marked.with_suffix(".killed"))
        os.kill(os.getpid(), signal.SIGKILL)
    return _loss(model, batch)
"""


def test_a_search_for_directions_that_loses_a_rank_goes_on_from_what_all_have_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = divided(tmp_path)
    (tmp_path / "task.py").write_text((tmp_path / "task.py").read_text() + LATE)
    file.write_text(file.read_text().replace("{kind: random, n: 2, normalization: layer}", "{n: 2, basis: 12}"))
    reported: list[int] = []
    monkeypatch.setattr("landscaper_hpc.work.tasks.getting_on", lambda _, progress: lambda i, of: reported.append(i))
    run(Study.load(file), site(2), tmp_path / "once")
    all_products = reported.copy()
    reported.clear()
    (tmp_path / "late.1").touch()
    run(Study.load(file), site(2), tmp_path / "again")
    assert json.loads((tmp_path / "late.killed").read_text())["products"] > 3
    assert max(all_products) == max(reported)
    assert reported.count(1) == 1  # the first product was not made again
    assert contents(tmp_path / "again") == contents(tmp_path / "once")


def test_what_another_thread_of_one_rank_draws_is_looked_into_by_all(
    base: Path, two: np.ndarray, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    called, looks = determinism._called_twice, []

    def as_if_a_thread_drew(value: Callable[[], float]) -> tuple[list[float], list[str]]:
        looks.append(value)
        found, drawn = called(value)
        return found, ["random", "numpy.random"] if len(looks) in (1, 2) else drawn

    monkeypatch.setattr(determinism, "_called_twice", as_if_a_thread_drew)  # in rank 0 alone
    run(study(base), site(2), base / "drawn")
    assert len(looks) > 3
    assert "have lost" not in caplog.text
    assert np.array_equal(losses(base / "drawn"), two)


def test_a_process_that_ends_as_it_starts_is_told_and_not_waited_for(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As all do of a program that starts a run without `if __name__ == "__main__"`."""
    monkeypatch.setattr(group, "_follow", os.abort)
    with pytest.raises(InputError, match=r"have lost rank 1, which was ended .*, 3 times in a row"):
        run(study(base), site(2), tmp_path / "run")
    assert group.rank is None


def test_another_number_of_processes_is_refused_unless_it_is_accepted(base: Path, two: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"begun with gpus_per_model 2, and here is gpus_per_model 1.*accept-versions"):
        LandscapeStore(base / "two" / "study.zarr", "a").admit(provenance(site(1)), False)


def test_tensor_parallel_parts_give_the_same(base: Path, alone: np.ndarray) -> None:
    run(study(base, "tensor"), site(2), base / "tensor")
    np.testing.assert_allclose(losses(base / "tensor"), alone, rtol=1e-12)


@pytest.mark.parametrize(
    ("shard", "more", "said"),
    [
        ("none", "", "does not say how its model is sharded"),
        ("1.*", "", "names no module"),
        ("whole", "", "leaves .* whole on every rank"),
        ("0.*", ", skew: true", "the ranks of a group differ in data: rank 1"),
    ],
)
def test_what_cannot_be_held_together_is_refused(base: Path, shard: str, more: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        run(study(base, shard, more), site(2), base / f"refused{abs(hash(said))}")
    assert "\n" not in str(refused.value)
    assert group.rank is None
