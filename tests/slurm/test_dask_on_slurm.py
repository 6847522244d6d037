"""Dask on the test cluster: jobs by dask-jobqueue and the tasks of one srun, with everything that can die killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from forked import forked_python
from studies import Gate, contents, need_jobqueue, network, only_trained

from landscaper_hpc import Study
from landscaper_hpc.orchestrate import run
from landscaper_hpc.study.site import Site
from tests.kinds import slow
from tests.slurm.cluster import ASKING, ROOT, SlurmCluster, wait_until


@pytest.fixture(autouse=True, scope="module")
def _jobqueue() -> None:
    need_jobqueue()


RANDOM = "directions={kind: random, n: 2}"
SITE = """
executor: dask
shard_points: 5
slurm: {partition: main, nodes: 2, tasks_per_node: 2, memory: 3000M, walltime: 0:20:00, warning_s: 60, python: PYTHON}
container: {runtime: charliecloud, image: an-image}
"""
# in the runtime's place: the machine itself is the image
CONTAINER = """#!/bin/bash
echo "$@" >> "$(dirname "$0")/started"
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""
KNOCK = """
import psutil, socket, ssl, sys
for connection in psutil.Process(int(sys.argv[1])).net_connections("tcp"):
    host, port = connection.laddr
    if connection.status != psutil.CONN_LISTEN or host == "127.0.0.1":
        continue
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        address = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        with context.wrap_socket(socket.create_connection((address, port), 30)) as server:
            server.recv(1)
        print("open to all:", host, port)
    except ssl.SSLError as error:
        print("wants a certificate" if error.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED" else error)
"""
GONE = 120
"""Seconds within which jobs end whose client is gone: a minute at most, or two on a machine that is busy."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    file = network(folder / "study", slow=0.02)
    only_trained(file)
    (file.parent / "site.yaml").write_text(SITE.replace("PYTHON", sys.executable))
    (folder / "ch-run").write_text(CONTAINER)
    (folder / "ch-run").chmod(0o755)
    run(Study.load(file, [RANDOM]), Site(executor="serial", shard_points=5), folder / "run")
    return file, contents(folder / "run")


def start(
    cluster: SlurmCluster,
    file: Path,
    folder: Path,
    *srun: str,
    tasks: int = 2,
    nodes: int = 2,
) -> subprocess.Popen[str]:
    """A run as a client of the cluster; what it says goes to `said`."""
    command = [
        forked_python(),
        "-m",
        "landscaper_hpc.cli",
        "run",
        file,
        "--set",
        RANDOM,
        "--out",
        folder / "run & go",
    ]
    command += ["--site", file.parent / "site.yaml"]
    command += ["--set-site", f"slurm.tasks_per_node={tasks}", "--set-site", f"slurm.nodes={nodes}"]
    (folder / "tmp").mkdir(exist_ok=True)
    (folder / "tmp/dask-scratch-space").touch()  # nobody can use the node's own folder for Dask
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{file.parents[1]}:{os.environ['PATH']}"}
    environment["TMPDIR"] = str(folder / "tmp")
    with (folder / "said").open("w") as said:
        return cluster.start_client(*srun, *map(str, command), stderr=said, stdout=said, env=environment)


def shards(folder: Path) -> int:
    return len(list(folder.glob("run*/study.zarr/[!.]*/done/*/c.*")))


def some_more_shards(gate: Gate, folder: Path, client: subprocess.Popen[str]) -> None:
    """Two more shards are done, and the others wait at the gate."""
    wanted = shards(folder) + 2

    def look() -> bool:
        assert client.poll() is None, (folder / "said").read_text()
        return shards(folder) >= wanted

    gate.until(f"{wanted} shards", look)


def processes(folder: Path) -> list[psutil.Process]:
    """Those that work for the study: they, or what started them, have its folder on the command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(folder) in word for p in (process, *process.parents()) for word in p.cmdline()):
                found.append(process)
        except psutil.Error:  # it has ended
            continue
    return found


def workers(folder: Path) -> list[psutil.Process]:
    """The processes that evaluate, which a job's nannies have started."""
    found = []
    for process in processes(folder):
        with suppress(psutil.Error):
            if "spawn_main" in " ".join(process.cmdline()):
                found.append(process)
    return found


def task(folder: Path, rank: int) -> psutil.Process:
    """The process that is this task of the srun."""
    found = []
    for process in processes(folder):
        with suppress(psutil.Error):
            if process.environ().get("SLURM_PROCID") == str(rank):
                found.append((process.create_time(), process))
    return min(found)[1]  # the others, it has started


def started(file: Path, folder: Path) -> list[str]:
    """The container's command line of each job of the test that has started."""
    said = file.parents[1] / "started"
    return [line for line in said.read_text().splitlines() if str(folder) in line] if said.exists() else []


@pytest.mark.parametrize("killed", [False, slow(True)])  # which loses only its task: so in tests/executors
def test_jobs_come_and_go_and_the_bytes_are_those_of_one_process(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], gate: Gate, tmp_path: Path, killed: bool
) -> None:
    file, expected = undisturbed
    client = start(cluster, file, tmp_path, tasks=1, nodes=1)
    some_more_shards(gate, tmp_path, client)
    wait_until("its job has started", lambda: len(started(file, tmp_path)) == 1)
    keys = tmp_path / "run & go/dask"
    assert {path.stat().st_mode & 0o077 for path in (keys, *keys.iterdir())} == {0}
    said = [answer for process in processes(tmp_path) for answer in knocked(process)]
    assert len(said) >= 3  # the scheduler, a worker and its nanny: no dashboard among them, and all want certificates
    assert set(said) == {"wants a certificate"}

    client.kill()
    client.wait()
    wait_until("it has ended by itself, at a shard that takes for ever", lambda: not jobs(cluster), GONE, ASKING)

    client = start(cluster, file, tmp_path, tasks=1)
    some_more_shards(gate, tmp_path, client)
    wait_until("both jobs have started", lambda: len(started(file, tmp_path)) == 3)
    ended = jobs(cluster)[0]
    cluster.run("scancel", ended)
    wait_until("one has ended", lambda: ended not in jobs(cluster), interval=ASKING)
    if killed:
        wait_until("a worker of another", lambda: workers(tmp_path))[-1].kill()
    gate.close()
    assert client.wait(timeout=600) == 0, (tmp_path / "said").read_text()
    assert contents(tmp_path / "run & go") == expected
    wait_until("no job is left", lambda: not jobs(cluster), GONE, ASKING)
    binds = f"--bind={tmp_path / 'run & go'}:", f"--bind={file.parent}:"
    assert all(bind in line for line in started(file, tmp_path) for bind in binds)


@pytest.mark.parametrize(
    "moment",
    [
        slow("a job starts"),  # as in tests/executors, where a worker has not joined when its scheduler is gone
        slow("a nanny has registered"),
        slow("a worker has joined"),  # as above, where the workers are at a shard
    ],
)
def test_jobs_end_soon_whenever_their_client_is_killed(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], gate: Gate, tmp_path: Path, moment: str
) -> None:
    logs = tmp_path / "run & go/logs"

    def said(words: str) -> bool:
        return any(words in log.read_text() for log in logs.glob("dask-*.out"))

    came: dict[str, Callable[[], object]] = {
        "a job starts": lambda: started(undisturbed[0], tmp_path),
        "a nanny has registered": lambda: said("Start Nanny at"),
        "a worker has joined": lambda: said("Registered to"),
    }
    client = start(cluster, undisturbed[0], tmp_path, tasks=1)
    wait_until(moment, came[moment], 300, 0.01)
    client.kill()
    client.wait()
    wait_until("the jobs have ended by themselves", lambda: not jobs(cluster), GONE, ASKING)


def knocked(process: psutil.Process) -> list[str]:
    """What a stranger on the same node hears at each port that the process has open to other nodes."""
    node = ("nsenter", f"--target={process.pid}", "--net")  # from elsewhere its connections cannot be seen
    argv = [*node, sys.executable, "-c", KNOCK, str(process.pid)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not process.is_running(), f"{process}: {done.stderr}"
    return done.stdout.splitlines()


def jobs(cluster: SlurmCluster) -> list[str]:
    return cluster.run("squeue", "--noheader", "--name=landscape-dask", "--format=%i").stdout.split()


SRUN = ("srun", "-I20", "-N2", "-n4", "--mem-per-cpu=900", "--kill-on-bad-exit=0")


@pytest.mark.slow
def test_one_srun_and_its_tasks_may_die(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], gate: Gate, tmp_path: Path
) -> None:
    file, expected = undisturbed
    client = start(cluster, file, tmp_path, *SRUN)
    some_more_shards(gate, tmp_path, client)
    task(tmp_path, 0).send_signal(signal.SIGKILL)  # the scheduler
    assert client.wait(timeout=GONE) != 0
    said = (tmp_path / "said").read_text()
    assert "Dask's scheduler, the first task of this srun, does not answer" in said
    assert "everything finished so far is kept" in said

    client = start(cluster, file, tmp_path, *SRUN)
    some_more_shards(gate, tmp_path, client)
    task(tmp_path, 3).send_signal(signal.SIGKILL)  # a worker
    gate.close()
    client.wait(timeout=600)
    assert contents(tmp_path / "run & go") == expected, (tmp_path / "said").read_text()


@pytest.mark.slow
def test_one_srun_ends_soon_without_its_program(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], gate: Gate, tmp_path: Path
) -> None:
    client = start(cluster, undisturbed[0], tmp_path, *SRUN)
    some_more_shards(gate, tmp_path, client)
    task(tmp_path, 1).send_signal(signal.SIGKILL)
    assert client.wait(timeout=GONE) != 0


def test_a_job_that_slurm_refuses_is_one_sentence(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, _ = undisturbed
    site = tmp_path / "site.yaml"
    site.write_text(SITE.replace("partition: main", "partition: nowhere"))
    command = ("-m", "landscaper_hpc.cli", "run", file, "--set", RANDOM, "--site", site, "--out", tmp_path / "run")
    done = cluster.run(forked_python(), *map(str, command), env={"PYTHONPATH": str(ROOT)}, check=False, seconds=300)
    assert done.returncode == 2
    assert "slurm: sbatch refused a job of Dask's workers" in done.stderr.splitlines()[-1]
    assert "invalid partition" in done.stderr
    assert "Traceback" not in done.stderr
