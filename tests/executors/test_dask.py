"""Dask: the contract of executors, workers and schedulers that die, and the bytes of a serial run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

pytest.importorskip("distributed", reason="the extra `dask` is not installed")

from forked import Forked
from studies import Gate, contents, divided, need_jobqueue, network

from landscaper_hpc import InputError, Study
from landscaper_hpc.executors import WorkerLost
from landscaper_hpc.executors.dask import DaskMapper, Given, TaskSize, refuse_other_versions
from landscaper_hpc.orchestrate import run
from landscaper_hpc.progress import Progress
from landscaper_hpc.study.site import Site
from landscaper_hpc.work import group
from tests.executors.test_executors import (  # the contract: collected here again, with this module's `executor`
    Item,
    test_anything_else_names_the_item_and_the_cause,
    test_bad_input_keeps_its_sentence,
    test_closing_lets_running_tasks_finish_and_starts_no_more,
    test_every_item_runs_once_and_is_yielded_once,
    test_progress_comes_back_with_its_item,
    touch,
)

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]  # each process imports a lot

__all__ = [
    "test_anything_else_names_the_item_and_the_cause",
    "test_bad_input_keeps_its_sentence",
    "test_closing_lets_running_tasks_finish_and_starts_no_more",
    "test_every_item_runs_once_and_is_yielded_once",
    "test_progress_comes_back_with_its_item",
]


class Dask:
    """A scheduler and two workers, each a process of its own, that talk TLS."""

    def __init__(self, folder: Path) -> None:
        from distributed.security import Security

        security = Security.temporary()
        self.file = folder / "scheduler.json"
        self.tls = {
            f"DASK_DISTRIBUTED__COMM__TLS__{role}": str(folder / role)
            for role in (
                "CA_FILE",
                *(f"{who}__{what}" for who in ("CLIENT", "SCHEDULER", "WORKER") for what in ("CERT", "KEY")),
            )
        }
        for role in self.tls:
            name = role.removeprefix("DASK_DISTRIBUTED__COMM__TLS__")
            (folder / name).write_text(getattr(security, f"tls_{name.lower().replace('__', '_')}"))
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []
        self.begin()

    def begin(self) -> None:
        """Begin, or after a kill begin again; at another port."""
        self.close()
        self.file.unlink(missing_ok=True)
        self.scheduler = self.start(
            "scheduler", "--host=127.0.0.1", "--port=0", "--protocol=tls", f"--scheduler-file={self.file}"
        )
        wait_for(lambda: self.file.exists() and self.file.read_text().endswith("}"))
        self.workers = [self.start_worker(), self.start_worker()]

    def replace_ended(self) -> None:
        """As whoever starts workers does."""
        self.workers = [each if each.poll() is None else self.start_worker() for each in self.workers]

    def start_worker(self) -> subprocess.Popen[str]:
        return self.start("worker", "--no-nanny", "--nthreads=1", f"--scheduler-file={self.file}", "--death-timeout=10")

    def start(self, what: str, *options: str) -> subprocess.Popen[str]:
        with (self.file.parent / f"{what}.log").open("ab") as stderr:
            process = Forked(
                ["--dashboard-address=127.0.0.1:0", *options],
                f"distributed.cli.dask_{what}",
                env={
                    **os.environ,
                    **self.tls,
                    "PYTHONPATH": ":".join(str(Path(__file__).parents[i]) for i in range(3)),
                },
                cwd=self.file.parent,
                stderr=stderr,
            )
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    with closing(Dask(tmp_path_factory.mktemp("dask"))) as made, pytest.MonkeyPatch.context() as patch:
        configure(patch, made)
        yield made


def configure(patch: pytest.MonkeyPatch, dask: Dask) -> None:
    """What a user's own configuration of Dask says of certificates; read when dask is imported, so once more here."""
    import dask as library

    for name, value in dask.tls.items():
        patch.setenv(name, value)
    library.config.refresh()


@pytest.fixture(scope="module")
def executor(dask: Dask) -> Iterator[DaskMapper]:
    with closing(DaskMapper(Given(str(dask.file)))) as made:
        yield made


@pytest.mark.slow
def test_a_model_that_several_processes_hold_gives_the_bytes_of_a_serial_run(dask: Dask, tmp_path: Path) -> None:
    """Also where one of them is killed."""
    file = divided(tmp_path)
    own = {"gpus_per_model": 2, "shard_points": 3}
    run(Study.load(file), Site(executor="serial", **own), tmp_path / "serial")
    group.end()
    (tmp_path / "kill.1").touch()
    run(Study.load(file), Site(executor="dask", dask={"scheduler": str(dask.file)}, **own), tmp_path / "run")
    assert not (tmp_path / "kill.1").exists()
    assert contents(tmp_path / "run") == contents(tmp_path / "serial")


class OtherVersions:
    """A client, as far as it tells of versions: its own, a scheduler's, a worker's."""

    def __init__(self, scheduler: dict[str, str | None], worker: dict[str, str | None]) -> None:
        own = {"python": "3.11.2.final.0", "dask": "2026.8.0", "distributed": "2026.8.0", "landscaper_hpc": "0.1.0"}
        self.found = {
            "client": {"packages": own},
            "scheduler": {"packages": {**own, "landscaper_hpc": None, **scheduler}},
            "workers": {"tls://n1:40001": {"packages": {**own, **worker}}},
        }

    def get_versions(self, packages: list[str]) -> dict[str, Any]:
        assert packages == ["landscaper_hpc"]
        return self.found


@pytest.mark.parametrize(
    ("scheduler", "worker", "said"),
    [
        ({"distributed": "2024.8.0"}, {}, "the scheduler has distributed 2024.8.0, and here is distributed 2026.8.0;"),
        (
            {},
            {"dask": None, "python": "3.12.1.final.0"},
            "tls://n1:40001 has dask None, Python 3.12, and here is dask 2",
        ),
        ({}, {"landscaper_hpc": None}, "the worker tls://n1:40001 has no landscaper_hpc; install the same there"),
        ({"python": "3.11.9.final.0"}, {"landscaper_hpc": "0.2.0"}, ""),  # numbers are proved by the store
    ],
)
def test_other_versions_are_refused(scheduler: dict[str, str | None], worker: dict[str, str | None], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)) if said else nullcontext():
        refuse_other_versions(OtherVersions(scheduler, worker))  # type: ignore[arg-type]


def dies_with_two_workers(item: Item, progress: Progress) -> None:
    """Kills the worker that does it, and the next one."""
    deaths = len(list(item.folder.glob("death*")))
    if item.number == 2 and deaths < 2:
        (item.folder / f"death{deaths}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    touch(item, progress)


def waits(item: Item, progress: Progress) -> None:
    (item.folder / f"began{item.number}").touch()
    wait_for((item.folder / "go").exists)
    touch(item, progress)


def local_rank(item: Item, progress: Progress) -> None:
    (item.folder / f"{os.getpid()}.{os.environ['LANDSCAPER_HPC_LOCAL_RANK']}").touch()
    wait_for(lambda: len(list(item.folder.iterdir())) == 2)


def test_each_process_of_a_node_has_a_rank_of_its_own(executor: DaskMapper, tmp_path: Path) -> None:
    list(executor.map_unordered(local_rank, [Item(tmp_path, i) for i in range(2)]))
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".0", ".1"]


def in_no_time(item: Item, progress: Progress) -> None:
    """The worker takes every task for one that has taken too long."""
    import landscaper_hpc.executors.dask_worker as here

    here.LONGEST_TASK_SECONDS = -1
    touch(item, progress)


def test_a_task_that_takes_long_gives_back_the_rest(
    executor: DaskMapper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaskSize, "now", lambda size, workers: 5)
    items = [Item(tmp_path, i) for i in range(23)]
    seen: list[tuple[int, int]] = []
    finished = list(
        executor.map_unordered(in_no_time, items, lambda item, done, total: seen.append((item.number, done)))
    )
    assert sorted(finished, key=lambda item: item.number) == items
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {str(i): "x" for i in range(23)}
    assert sorted(seen) == [(i, done) for i in range(23) for done in (1, 2)]


def test_killed_workers_lose_only_their_tasks(tmp_path: Path) -> None:
    """Two workers die at a task, a third one does it: the map never learns of it."""
    with closing(Dask(tmp_path)) as dask, pytest.MonkeyPatch.context() as patch:
        configure(patch, dask)
        with closing(DaskMapper(Given(str(dask.file)))) as executor:
            items = [Item(tmp_path, i) for i in range(6)]
            finished = executor.map_unordered(dies_with_two_workers, items)
            first = next(finished)
            for worker in dask.workers:
                worker.wait(timeout=240)
            dask.start_worker()
            assert {first, *finished} == set(items)
    assert [(tmp_path / str(i)).exists() for i in range(6)] == [True] * 6


def test_a_lost_scheduler_is_one_sentence_and_a_new_one_goes_on(tmp_path: Path) -> None:
    with closing(Dask(tmp_path)) as dask, pytest.MonkeyPatch.context() as patch:
        configure(patch, dask)
        items = [Item(tmp_path, i) for i in range(3)]
        with closing(DaskMapper(Given(str(dask.file)))) as executor:
            finished = executor.map_unordered(waits, items)
            killer = Thread(target=lambda: (wait_for((tmp_path / "began0").exists), dask.scheduler.kill()))
            killer.start()
            with pytest.raises(WorkerLost, match="scheduler was lost"):
                list(finished)
            killer.join()
            (tmp_path / "go").touch()
            patch.setattr("landscaper_hpc.executors.dask.CONNECT_SECONDS", 1)
            with pytest.raises(InputError, match=r"no Dask scheduler answers at .*everything finished so far is kept"):
                list(executor.map_unordered(waits, items))
            dask.begin()
            patch.undo()
            configure(patch, dask)
            assert len(list(executor.map_unordered(waits, items))) == 3


HELD = """
import time
from pathlib import Path
Path("held").touch()
while True:
    time.sleep(1)
"""
SOON = """
from landscaper_hpc.executors import dask_gone
dask_gone.GONE_SECONDS, dask_gone.LOOK_SECONDS = 2, 0.1
dask_setup = dask_gone.dask_setup
"""


def test_a_worker_that_has_not_joined_ends_when_its_scheduler_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "held.py").write_text(HELD)
    (tmp_path / "soon.py").write_text(SOON)
    with closing(Dask(tmp_path)) as dask:
        options = ("--nthreads=1", f"--scheduler-file={dask.file}", "--preload-nanny=soon.py")
        # as an option, the nanny would import it too
        monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__PRELOAD", str(tmp_path / "held.py"))
        nanny = dask.start("worker", "--death-timeout=100000", *options)
        wait_for((tmp_path / "held").exists)
        time.sleep(5)  # not because its start takes long
        assert nanny.poll() is None
        dask.scheduler.kill()
        assert nanny.wait(timeout=240) == 1


TASK_OF_SRUN = """
import os, sys
from landscaper_hpc.executors import dask_gone
dask_gone.LOOK_SECONDS, dask_gone.patience = 0.1, lambda: float(os.environ["PATIENCE"])
from landscaper_hpc.cli import main
main()
"""


def tasks_of_srun(file: Path, tasks: tuple[int, ...], patience: float) -> list[subprocess.Popen[str]]:
    """These of three: a scheduler, the program, a worker. Nobody can use the node's own folder for Dask."""
    need_jobqueue()
    folder = file.parent.with_name("tmp")
    folder.mkdir()
    (folder / "dask-scratch-space").touch()
    words = ["run", str(file), "--executor", "dask", "--out", str(file.parent.with_name("run"))]
    step = {"SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "3", "SLURM_STEP_NUM_TASKS": "3"}
    more = {"PATIENCE": str(patience), "TMPDIR": str(folder)}
    script = folder / "task_of_srun.py"
    script.write_text(TASK_OF_SRUN)
    return [
        Forked(
            [*words, "--set", "directions={kind: random, n: 2}"],
            script,
            env={**os.environ, **step, **more, "SLURM_PROCID": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in tasks
    ]


@pytest.mark.parametrize(("tasks", "said"), [((0, 2), "the client is gone"), ((1, 2), "has not made")])
def test_tasks_of_one_srun_end_soon_without_one_that_died_before_it_came(
    tmp_path: Path, tasks: tuple[int, ...], said: str
) -> None:
    """The program, or the scheduler."""
    begun = tasks_of_srun(network(tmp_path / "study"), tasks, patience=5)
    told = "".join(process.communicate(timeout=240)[1] for process in begun)
    assert said in told
    assert "Traceback" not in told


def test_ctrl_c_reaches_all_tasks_of_one_srun_and_the_program_decides(tmp_path: Path) -> None:
    file = network(tmp_path / "study", slow=0.02)
    shards = tmp_path / "run/study.zarr/untrained/done/sha256"
    with closing(Gate(file)) as gate:
        begun = tasks_of_srun(file, (0, 1, 2), patience=200)
        gate.until("a shard", lambda: list(shards.glob("c.*")))
        for process in begun:
            process.send_signal(signal.SIGINT)
        assert begun[1].stderr is not None
        while "Ctrl-C again" not in (line := begun[1].stderr.readline()):
            assert line
    told = [process.communicate(timeout=240)[1] for process in begun]
    assert [process.returncode for process in begun] == [0, 130, 0], told
    assert "everything finished so far is kept" in told[1]
    assert "Traceback" not in "".join(told)


@pytest.mark.slow  # the contract of executors stops and kills it, too
def test_a_study_has_the_bytes_of_a_serial_run_also_after_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    study = Study.load(network(tmp_path / "study", slow=0.02), ["directions={kind: random, n: 2}"])
    run(study, Site(executor="serial", shard_points=5), tmp_path / "serial")
    shards = tmp_path / "dask/study.zarr/untrained/done/sha256"
    gate = Gate(tmp_path / "study/study.yaml")
    with closing(Dask(tmp_path)) as dask:
        configure(monkeypatch, dask)
        site = Site.model_validate({"executor": "dask", "shard_points": 5, "dask": {"scheduler": str(dask.file)}})

        def kill(patch: pytest.MonkeyPatch) -> None:
            gate.until("two shards", lambda: len(list(shards.glob("c.*"))) >= 2)
            dask.workers[0].kill()
            gate.until("four shards", lambda: len(list(shards.glob("c.*"))) >= 4)
            patch.setattr("landscaper_hpc.executors.dask.CONNECT_SECONDS", 1)  # nobody will answer
            dask.scheduler.kill()

        with monkeypatch.context() as patch:
            killer = Thread(target=kill, args=(patch,))
            killer.start()
            with pytest.raises(InputError, match="no Dask scheduler answers"):
                run(study, site, tmp_path / "dask")
            killer.join()
        gate.close()
        assert "Traceback" not in capfd.readouterr().err
        dask.begin()
        run(study, site, tmp_path / "dask")
    assert contents(tmp_path / "dask") == contents(tmp_path / "serial")


def test_the_package_starts_without_dask() -> None:
    script = "import sys, landscaper_hpc.orchestrate; sys.exit(any(m in sys.modules for m in ('dask', 'distributed')))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def wait_for(condition: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
