"""Dask on the test cluster: jobs by dask-jobqueue and the tasks of one srun, with everything that can die killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from studies import contents, network

pytest.importorskip("dask_jobqueue", reason="the extra `dask` is not installed")

from landscaper_hpc import Study
from landscaper_hpc.orchestrate import run
from landscaper_hpc.study.site import Site
from tests.slurm.cluster import ROOT, SlurmCluster, wait_until

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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    file = network(folder / "study", slow=0.1)
    (file.parent / "site.yaml").write_text(SITE.replace("PYTHON", sys.executable))
    (folder / "ch-run").write_text(CONTAINER)
    (folder / "ch-run").chmod(0o755)
    run(Study.load(file, [RANDOM]), Site(executor="serial", shard_points=5), folder / "run")
    return file, contents(folder / "run")


def start(cluster: SlurmCluster, file: Path, folder: Path, *srun: str) -> subprocess.Popen[str]:
    """A run as a client of the cluster; what it says goes to `said`."""
    command = [sys.executable, "-m", "landscaper_hpc.cli", "run", file, "--set", RANDOM, "--out", folder / "run & go"]
    command += ["--site", file.parent / "site.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{file.parents[1]}:{os.environ['PATH']}"}
    with (folder / "said").open("w") as said:
        return cluster.start_client(*srun, *map(str, command), stderr=said, stdout=said, env=environment)


def wait_for_shards(folder: Path, count: int) -> None:
    wait_until(f"{count} shards", lambda: len(list(folder.glob("run*/study.zarr/*/done/c.*"))) >= count, 300)


def processes(folder: Path) -> list[psutil.Process]:
    """Those that work for the study: they, or what started them, have its folder on the command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(folder) in word for p in (process, *process.parents()) for word in p.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def task(folder: Path, rank: int) -> psutil.Process:
    """The process that is this task of the srun."""
    (found,) = (p for p in processes(folder) if p.environ().get("SLURM_PROCID") == str(rank))
    return found


def test_jobs_come_and_go_and_the_bytes_are_those_of_one_process(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, expected = undisturbed
    client = start(cluster, file, tmp_path)
    wait_for_shards(tmp_path, 2)
    keys = tmp_path / "run & go/dask"
    assert {path.stat().st_mode & 0o077 for path in (keys, *keys.iterdir())} == {0}
    said = [answer for process in processes(tmp_path) for answer in knocked(process)]
    assert len(said) >= 3  # the scheduler, a worker and its nanny: no dashboard among them, and all want certificates
    assert set(said) == {"wants a certificate"}

    client.kill()
    client.wait()
    wait_until("the jobs have ended by themselves", lambda: not jobs(cluster), 300)

    client = start(cluster, file, tmp_path)
    done = len(list(tmp_path.glob("run*/study.zarr/*/done/c.*")))
    wait_for_shards(tmp_path, done + 2)
    cluster.run("scancel", jobs(cluster)[0])
    workers = [p for p in processes(tmp_path) if "spawn_main" in " ".join(p.cmdline())]
    for worker in workers[-1:]:
        worker.kill()
    assert client.wait(timeout=600) == 0, (tmp_path / "said").read_text()
    assert contents(tmp_path / "run & go") == expected
    wait_until("no job is left", lambda: not jobs(cluster), 60)
    inside = (file.parents[1] / "started").read_text().splitlines()
    assert len(inside) >= 4  # jobs
    assert all(f"--bind={tmp_path / 'run & go'}:" in line and f"--bind={file.parent}:" in line for line in inside)


def knocked(process: psutil.Process) -> list[str]:
    """What a stranger on the same node hears at each port that the process has open to other nodes."""
    node = ("nsenter", f"--target={process.pid}", "--net")  # from elsewhere its connections cannot be seen
    argv = [*node, sys.executable, "-c", KNOCK, str(process.pid)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{process.cmdline()}: {done.stderr}"
    return done.stdout.splitlines()


def jobs(cluster: SlurmCluster) -> list[str]:
    return cluster.run("squeue", "--noheader", "--name=landscape-dask", "--format=%i").stdout.split()


@pytest.mark.slow
def test_one_srun_and_its_tasks_may_die(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, expected = undisturbed
    srun = ("srun", "-I20", "-N2", "-n4", "--mem-per-cpu=900", "--kill-on-bad-exit=0")
    client = start(cluster, file, tmp_path, *srun)
    wait_for_shards(tmp_path, 2)
    task(tmp_path, 0).send_signal(signal.SIGKILL)  # the scheduler
    assert client.wait(timeout=600) != 0
    said = (tmp_path / "said").read_text()
    assert "Dask's scheduler, the first task of this srun, does not answer" in said
    assert "everything finished so far is kept" in said

    done = len(list(tmp_path.glob("run*/study.zarr/*/done/c.*")))
    client = start(cluster, file, tmp_path, *srun)
    wait_for_shards(tmp_path, done + 2)
    task(tmp_path, 3).send_signal(signal.SIGKILL)  # a worker
    client.wait(timeout=600)
    assert contents(tmp_path / "run & go") == expected, (tmp_path / "said").read_text()


def test_a_job_that_slurm_refuses_is_one_sentence(
    cluster: SlurmCluster, undisturbed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, _ = undisturbed
    site = tmp_path / "site.yaml"
    site.write_text(SITE.replace("partition: main", "partition: nowhere"))
    command = ("-m", "landscaper_hpc.cli", "run", file, "--set", RANDOM, "--site", site, "--out", tmp_path / "run")
    done = cluster.run(sys.executable, *map(str, command), env={"PYTHONPATH": str(ROOT)}, check=False, seconds=300)
    assert done.returncode == 2
    assert "slurm: sbatch refused a job of Dask's workers" in done.stderr.splitlines()[-1]
    assert "invalid partition" in done.stderr
    assert "Traceback" not in done.stderr
