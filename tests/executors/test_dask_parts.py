"""What of Dask needs no other process: a scheduler and a worker in this one, how many jobs there are, what is said."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("distributed", reason="the extra `dask` is not installed")

from distributed import Client, LocalCluster
from distributed.comm.core import CommClosedError
from studies import need_jobqueue

from landscaper_hpc import InputError
from landscaper_hpc.executors.dask import DaskMapper, TaskSize, regardless_of_loss
from landscaper_hpc.study.site import Site
from landscaper_hpc.work.campaign import Campaign
from tests.executors.test_executors import Item, bad_input, touch


class Inside:
    """A scheduler and a worker that are threads of this process."""

    def connect(self) -> Client:
        self.cluster = LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, protocol="inproc://", dashboard_address=None
        )
        return Client(self.cluster, set_as_default=False)

    def tend(self, present: int, unfinished: float) -> None:
        assert present == 1

    def close(self, client: Client) -> None:
        client.close()
        self.cluster.close()


def test_items_are_done_and_what_one_raises_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landscaper_hpc.executors.dask_worker.claim_local_rank", lambda: None)  # for a process's life
    items = [Item(tmp_path, i) for i in range(7)]
    with closing(DaskMapper(Inside())) as mapper:
        assert sorted(item.number for item in mapper.map_unordered(touch, items)) == list(range(7))
        with pytest.raises(InputError, match="key: is wrong"):
            list(mapper.map_unordered(bad_input, items))


def test_whoever_joins_in_the_place_of_a_lost_worker_is_asked_for_its_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        "landscaper_hpc.executors.dask.refuse_other_versions", lambda client: asked.append(there.copy())
    )
    mapper, there = (
        DaskMapper(SimpleNamespace(tend=lambda present, unfinished: None)),
        {"tls://n1:1": 1, "tls://n2:1": 1},
    )
    mapper._client = SimpleNamespace(ncores=lambda: there)  # type: ignore[assignment]
    for left, joined in ((None, None), ("tls://n1:1", None), (None, "tls://n3:1"), (None, None)):
        there = {name: 1 for name in (*there, joined) if name not in (left, None)}
        mapper._tended = -math.inf
        mapper._tend(0)
    assert asked == [{"tls://n1:1": 1, "tls://n2:1": 1}, {"tls://n2:1": 1, "tls://n3:1": 1}]


def test_a_process_ends_when_the_scheduler_it_was_to_join_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed.core import Status

    from landscaper_hpc.executors import dask_gone

    ended = threading.Event()
    server: Any = SimpleNamespace(status=Status.init, scheduler=SimpleNamespace(address="tcp://127.0.0.1:9"))

    def leave(code: int) -> None:
        assert code == 1
        server.status = Status.closed
        ended.set()

    monkeypatch.setattr(dask_gone, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(dask_gone, "GONE_SECONDS", 0.05)
    monkeypatch.setattr(dask_gone.os, "_exit", leave)
    dask_gone.dask_setup(server)
    assert ended.wait(240)


def test_quick_items_go_together_and_slow_ones_alone() -> None:
    times = itertools.chain(range(9), [100])
    size = TaskSize(clock=lambda: next(times))
    assert size.now(2) == 1
    found = []
    for finished in (10**6,) * 7:
        size.finished = finished
        found.append(size.now(2))
    assert found == [2, 4, 8, 16, 32, 64, 64]
    size.finished = 1
    assert size.now(2) == 1


def test_a_connection_that_closes_before_tls_begins_is_a_loss() -> None:
    """As tornado says it: seen where a scheduler was killed while its client connected anew, in `Client.close`."""
    with regardless_of_loss():
        raise ValueError("IOStream is not idle; cannot convert to SSL")
    with regardless_of_loss():
        raise CommClosedError("gone")
    with pytest.raises(ValueError, match="something else"), regardless_of_loss():
        raise ValueError("something else")


def test_a_scheduler_of_one_srun_closes_when_its_client_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    from landscaper_hpc.executors import dask_gone

    monkeypatch.setattr(dask_gone, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(dask_gone, "GONE_SECONDS", 0.05)
    said: list[str] = []

    async def close(reason: str) -> None:
        said.append(reason)

    async def story() -> None:
        scheduler: Any = SimpleNamespace(clients={"fire-and-forget": 0, "ours": 1}, close=close)
        watch = asyncio.create_task(dask_gone.close_without_client(scheduler, start_seconds=240))
        await asyncio.sleep(0.5)
        assert not said
        del scheduler.clients["ours"]
        await watch

    asyncio.run(story())
    assert said == ["the client is gone"]


@pytest.mark.parametrize(
    ("scheduler", "sentence"),
    [
        ("127.0.0.1:9", r"dask.scheduler: no Dask scheduler answers at 127.0.0.1:9 \(.*\); start it"),
        ("nowhere/scheduler.json", "dask.scheduler: there is no file nowhere/scheduler.json"),
        (None, "executor dask: there is no sbatch here"),
    ],
)
def test_no_scheduler_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str | None, sentence: str
) -> None:
    from landscaper_hpc.executors.dask_slurm import dask_mapper

    monkeypatch.setattr("landscaper_hpc.executors.dask.CONNECT_SECONDS", 1)
    monkeypatch.setenv("PATH", str(tmp_path))
    site = Site.model_validate({"executor": "dask", "dask": {"scheduler": scheduler}})
    with closing(dask_mapper(site, Campaign(tmp_path, ()))) as executor, pytest.raises(InputError, match=sentence):
        list(executor.map_unordered(touch, [Item(tmp_path, 0)]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("walltime", ["0:04:00", "6:00:00", "2-00:00:00"])
def test_workers_of_a_job_end_before_it_does(walltime: str) -> None:
    need_jobqueue()
    from landscaper_hpc.executors.dask_slurm import lifetime

    slurm = Site.model_validate({"slurm": {"walltime": walltime}}).slurm
    (_, mean, _, stagger) = lifetime(slurm)
    seconds, vary = (float(text.removesuffix("s")) for text in (mean, stagger))
    assert slurm.seconds / 3 < seconds - vary < seconds + vary <= slurm.seconds - slurm.warning_s


class Cluster:
    """What `Jobs` asks of dask-jobqueue's cluster, with all its jobs at work."""

    def __init__(self, jobs: int) -> None:
        self.worker_spec = {str(i): {} for i in range(jobs)}
        self.scheduler = SimpleNamespace(
            workers={i: SimpleNamespace(name=f"{i}-0", processing={}) for i in range(jobs)}
        )

    def scale(self, jobs: int) -> None:
        self.__init__(jobs)  # type: ignore[misc]

    def scale_down(self, names: list[str]) -> None:
        self.__init__(len(self.worker_spec) - len(names))  # type: ignore[misc]

    def sync(self, function: Callable[[list[str]], None], names: list[str]) -> None:
        function(names)


@pytest.mark.parametrize(("adaptive", "few"), [(True, 2), (False, 4)])
def test_there_are_as_many_jobs_as_there_is_work_for(tmp_path: Path, adaptive: bool, few: int) -> None:
    need_jobqueue()
    from landscaper_hpc.executors import dask_slurm

    site = Site.model_validate({"slurm": {"nodes": 4, "tasks_per_node": 2}, "dask": {"adaptive": adaptive}})
    now = 0.0
    jobs = dask_slurm.Jobs(site, Campaign(tmp_path, ()), queued=lambda: None, clock=lambda: now)
    jobs.cluster = cluster = Cluster(0)
    found = []
    for unfinished, idle in ((math.inf, 0), (3, 0), (3, 100), (100, 100)):
        now += idle
        jobs.tend(len(cluster.worker_spec), unfinished)
        found.append(len(cluster.worker_spec))
    assert found == [4, 4, few, 4]


def test_a_scheduler_that_closes_during_a_heartbeat_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    need_jobqueue()
    from landscaper_hpc.executors.dask_step import briefly

    log = logging.getLogger("landscaper_hpc.heartbeat")
    log.addFilter(briefly)
    for error in (CommClosedError("gone"), ZeroDivisionError("a fault")):
        try:
            raise error
        except Exception:
            log.exception("heartbeat")
    first, second = caplog.records
    assert first.exc_info is None
    assert second.exc_info is not None
