"""Studies of a model that several processes hold together, against the same model in one."""

from __future__ import annotations

import json
import logging
import multiprocessing as mp
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from studies import DIVIDED, contents, divided

from landscaper_hpc import InputError, Site, Study, run
from landscaper_hpc.objective import determinism
from landscaper_hpc.work import group
from landscaper_hpc.work.worker import Stop

pytestmark = pytest.mark.processes


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


@pytest.mark.parametrize(
    ("rank", "executor"), [(0, "local"), pytest.param(1, "local", marks=pytest.mark.slow), (1, "mpi")]
)
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


@pytest.mark.thorough
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


def test_another_number_of_processes_is_refused_unless_it_is_accepted(base: Path, two: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"begun with gpus_per_model 2, and here is gpus_per_model 1.*accept-versions"):
        from landscaper_hpc.store.landscape import LandscapeStore
        from landscaper_hpc.work.identity import provenance

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
    with pytest.raises(InputError, match=said):
        run(study(base, shard, more), site(2), base / f"refused{abs(hash(said))}")
    assert group.rank is None
