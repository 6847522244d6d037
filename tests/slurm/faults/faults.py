"""The faults, each a function that lets it happen at a random moment and then does what a user would: run it again.

A function returns when the study has come through; that its bytes are right is checked by who called it.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import psutil

from tests.slurm.cluster import wait_until
from tests.slurm.faults.scene import SHARDS, Missed, Scene

Fault = Callable[[Scene], None]
FAULTS: dict[str, Fault] = {}


def fault(words: str) -> Callable[[Fault], Fault]:
    def add(function: Fault) -> Fault:
        FAULTS[function.__name__] = function
        function.__doc__ = words
        return function

    return add


# ---- processes -------------------------------------------------------------------------------------------------------


@fault("`kill -9` of a worker of a local pool")
def pool_worker(scene: Scene) -> None:
    client = scene.start()

    def kill() -> None:
        try:
            children = psutil.Process(client.pid).children()
            (server,) = [p for p in children if "forkserver" in " ".join(p.cmdline())]
            scene.random.choice(server.children()).kill()
        except (psutil.NoSuchProcess, ValueError, IndexError):
            raise Missed from None

    scene.strike(kill)
    assert client.wait(300) == 0, scene.words()


@fault("`kill -9` of one of three evaluating jobs' processes")
def job_worker(scene: Scene) -> None:
    scene.slow = 0.4
    scene.stage("prepare")
    jobs = [scene.evaluating_job() for _ in range(3)]

    def kill() -> None:
        workers = wait_until("workers", lambda: scene.processes(str(scene.out), "evaluate"))
        scene.random.choice(workers).kill()

    scene.strike(kill)
    ends = [scene.cluster.wait_for_state(job, "COMPLETED", "FAILED", seconds=400) for job in jobs]
    assert sorted(ends) == ["COMPLETED", "COMPLETED", "FAILED"], f"{ends} {scene.words()}"
    assert scene.done() == SHARDS
    scene.stage("finish")


@fault("`kill -9` of the orchestrator with a local pool")
def orchestrator(scene: Scene) -> None:
    client = scene.start()
    scene.strike(client.kill)
    client.wait()
    scene.go()


@fault("two orchestrators in one folder")
def two_orchestrators(scene: Scene) -> None:
    """The second is refused; where the file system has no locks both work, and do no harm."""
    scene.slow = 0.4
    first = scene.start()
    scene.strike(lambda: None)
    assert scene.start().wait(120) == 2
    assert "another run is at work there" in scene.words()
    (scene.out / ".lock").unlink()
    second = scene.start()
    assert [first.wait(300), second.wait(300)] == [0, 0], scene.words()


@fault("an MPI rank killed in topology")
def topology_rank(scene: Scene) -> None:
    """All ranks stop with an error within 30 s; running it again works."""
    scene.slow = 0.0
    field = scene.folder / "field.npy"
    np.save(field, np.round(np.random.default_rng(3).random((40, 40, 40, 40)), 4))
    command = ["landscaper-hpc", "topology", str(field), "--json", "--threads=1", "--connectivity=full"]
    on_ranks = ["srun", "-I20", "-N2", "-n4", "--mpi=pmi2", "--kill-on-bad-exit=1", *command]

    def found(text: str) -> dict[str, object]:
        keys = ("shape", "n_minima", "n_saddles", "smad", "smad_raw", "range", "persistence")
        return {key: json.loads(text)[key] for key in keys}

    def ranks() -> list[psutil.Process]:
        return scene.processes(str(field))

    expected = found(scene.cluster.run(*command, seconds=300, env=scene.environment).stdout)
    seconds = scene.random.uniform(0.6, 2)  # of a rank's own work: imports, reading, blocks, stitching
    client = scene.cluster.start_client(
        *on_ranks, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=scene.environment
    )
    try:
        victim = scene.random.choice(wait_until("four ranks", lambda: r if len(r := ranks()) == 4 else None, 120))

        def late() -> bool:
            try:
                return sum(victim.cpu_times()[:2]) >= seconds
            except psutil.NoSuchProcess:
                return True

        wait_until("the moment", late, 300, 0.02)
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            raise Missed from None
        client.communicate(timeout=30)
    finally:
        client.kill()
        client.wait()
    assert client.returncode != 0
    assert not ranks()
    again = scene.cluster.run(*on_ranks, seconds=300, env=scene.environment)
    assert found(again.stdout) == expected
    scene.go()  # a study as well


@fault("`kill -9` of a Dask worker of two jobs")
def dask_worker(scene: Scene) -> None:
    client = scene.start(site="dask")

    def kill() -> None:
        workers = wait_until("workers", lambda: scene.processes("distributed.cli.dask_worker"), 120)
        scene.random.choice(workers).kill()

    scene.strike(kill)
    assert client.wait(400) == 0, scene.words()


@fault("`kill -9` of Dask's scheduler")
def dask_scheduler(scene: Scene) -> None:
    """The run ends with an error; the same command again goes on."""
    launcher = ("srun", "-I20", "-N2", "-n4", "--mem-per-cpu=900", "--kill-on-bad-exit=1")
    client = scene.start(site="dask", launcher=launcher)

    def kill() -> None:
        found = []
        for process in scene.processes(str(scene.out)):
            with suppress(psutil.NoSuchProcess):
                if process.environ().get("SLURM_PROCID") == "0":
                    found.append(process)
        (scheduler,) = found
        scheduler.kill()

    scene.strike(kill)
    assert client.wait(120) != 0
    assert scene.start(site="dask", launcher=launcher).wait(400) == 0, scene.words()


@fault("`kill -9` of the client that submitted job arrays")
def submitting_client(scene: Scene) -> None:
    client = scene.start(site="slurm")
    scene.strike(client.kill)
    client.wait()
    assert scene.start(site="slurm").wait(400) == 0, scene.words()


# ---- nodes and network -----------------------------------------------------------------------------------------------


@fault("a whole node crashes")
def node(scene: Scene) -> None:
    job = scene.allocation("--nodes=2", "--ntasks-per-node=1")
    nodes = scene.nodes(job)
    scene.strike(lambda: scene.cluster.crash(scene.random.choice(nodes)))
    scene.completed(job)
    assert scene.restarts(job) == 1


@fault("`kill -9` of slurmd: the orphan goes on beside its requeued copy")
def slurmd(scene: Scene) -> None:
    scene.slow = 0.7  # so that they meet
    job = scene.allocation("--nodes=1", "--ntasks-per-node=2")
    (where,) = scene.nodes(job)
    scene.strike(lambda: scene.cluster.kill_slurmd(where))
    wait_until("the copy", lambda: scene.restarts(job), 120)
    scene.completed(job)


@fault("`kill -9` of slurmd under an evaluating job: two writers at once")
def slurmd_evaluating(scene: Scene) -> None:
    scene.slow = 0.5
    scene.stage("prepare")
    job = scene.evaluating_job()
    (where,) = scene.nodes(job)
    scene.strike(lambda: scene.cluster.kill_slurmd(where))
    wait_until("the copy", lambda: scene.restarts(job), 120)
    scene.completed(job)
    scene.stage("finish")


@fault("a node's network is unplugged, and plugged in again")
def network(scene: Scene) -> None:
    scene.slow = 0.3
    job = scene.allocation("--nodes=2", "--ntasks-per-node=1")
    where = scene.random.choice(scene.nodes(job))
    scene.strike(lambda: scene.cluster.unplug(where))
    if scene.random.random() < 0.7:  # else it is back before anyone gave it up
        wait_until("the copy", lambda: scene.restarts(job), 120)
        scene.wait_for(min(scene.done() + scene.random.randrange(10), SHARDS))
    scene.cluster.plug(where)
    scene.cluster.run("scontrol", "reconfigure")
    scene.completed(job)


@fault("`kill -9` of slurmctld, and its start")
def slurmctld(scene: Scene) -> None:
    job = scene.allocation("--nodes=2", "--ntasks-per-node=1")
    scene.cluster.wait_for_node(job)
    scene.cluster.wait_until_saved()
    scene.strike(lambda: scene.cluster.testbed("stop-controller", "--hard"))
    scene.wait_for(scene.random.randrange(scene.done(), SHARDS + 1))
    scene.cluster.testbed("start-controller")
    scene.completed(job)


@fault("a node crashes under job arrays")
def array_node(scene: Scene) -> None:
    client = scene.start(site="slurm")

    def crash() -> None:
        nodes = scene.cluster.run("squeue", "-h", "--states=RUNNING", "-o", "%N").stdout.split()
        if not nodes:
            raise Missed
        scene.cluster.crash(scene.random.choice(nodes))

    scene.strike(crash)
    assert client.wait(500) == 0, scene.words()


# ---- what Slurm does to jobs -----------------------------------------------------------------------------------------


@fault("the time limit: `--signal` before it, and a requeue")
def time_limit(scene: Scene) -> None:
    scene.slow = 0.7  # longer than the limit
    job = scene.allocation(
        "--nodes=1", "--ntasks-per-node=1", "--time=2", f"--signal=USR2@{scene.random.randrange(10, 50)}"
    )
    scene.completed(job, 600)
    assert scene.restarts(job) >= 1


@fault("`scontrol requeue`")
def requeue(scene: Scene) -> None:
    job = scene.allocation("--nodes=2", "--ntasks-per-node=1")
    scene.cluster.wait_for_node(job)
    scene.strike(lambda: scene.cluster.run("scontrol", "requeue", str(job)))
    scene.completed(job)
    assert scene.restarts(job) == 1


def preempt(scene: Scene) -> None:
    urgent = scene.cluster.sbatch("true", "--partition=urgent", "--exclusive", "--nodes=4", cwd=scene.folder)
    scene.cluster.wait_for_state(urgent, "COMPLETED")


@fault("preemption by an urgent job")
def preemption(scene: Scene) -> None:
    job = scene.allocation("--nodes=2", "--ntasks-per-node=1")
    scene.cluster.wait_for_node(job)
    scene.strike(lambda: preempt(scene))
    scene.completed(job)
    assert scene.restarts(job) >= 1


@fault("preemption of job arrays by an urgent job")
def array_preemption(scene: Scene) -> None:
    client = scene.start(site="slurm")
    scene.strike(lambda: preempt(scene))
    assert client.wait(500) == 0, scene.words()


@fault("`scancel`, then submitted again")
def scancel(scene: Scene) -> None:
    job = scene.allocation("--nodes=2", "--ntasks-per-node=1")
    scene.strike(lambda: scene.cluster.run("scancel", str(job)))
    scene.cluster.wait_for_state(job, "CANCELLED")
    scene.completed(scene.allocation("--nodes=1", "--ntasks-per-node=2"))


# ---- files -----------------------------------------------------------------------------------------------------------

_SMALL_DISK = """
mount -t tmpfs -o size={size}k none {disk} || exit 99
{command}
echo "full $?"
mount -o remount,size=99m {disk} || exit 99
{command} || exit
cp -a {disk}/run {out}
"""


@fault("the disk is full; space is made and the same command run again")
def full_disk(scene: Scene) -> None:
    scene.slow = 0.0
    disk = scene.folder / "disk"
    disk.mkdir()
    ways = (["--executor", "local"], ["--executor", "mpi"], ["--executor", "serial"])
    words = scene.command(*scene.random.choice(ways))
    words[words.index(str(scene.out))] = str(disk / "run")
    needed = sum(-(-file.stat().st_size // 4096) * 4 for file in scene.undisturbed.run.rglob("*") if file.is_file())
    size = scene.random.randrange(8, needed * 9 // 10)
    script = _SMALL_DISK.format(size=size, disk=disk, command=" ".join(words), out=scene.out)
    done = scene.cluster.run(
        *("srun", "-I20", "-n1", "--mem=2000", "unshare", "--mount", "sh", "-c", script),
        seconds=300,
        env=scene.environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "full 0" in done.stdout:
        raise Missed
    assert "full 2" in done.stdout, f"{size} kB: {done.stdout}{done.stderr}"
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr, done.stderr


def _damage(scene: Scene) -> None:
    """One chunk that is done is torn, loses a bit, or is lost."""
    done = sorted(scene.out.glob("study.zarr/[!.]*/done/*/c.*"))
    if not done:
        raise Missed
    entry = scene.random.choice(done)
    chunk = entry.parents[2] / "loss" / entry.name.removesuffix(".0")
    content = bytearray(chunk.read_bytes())
    match scene.random.choice(["torn", "flipped", "lost"]):
        case "torn":
            chunk.write_bytes(content[: scene.random.randrange(len(content))])
        case "flipped":
            bit = scene.random.randrange(8 * len(content))
            content[bit // 8] ^= 1 << bit % 8
            chunk.write_bytes(content)
        case "lost":
            chunk.unlink()


def _log(scene: Scene) -> str:
    return (scene.out / "logs/run.log").read_text()


@fault("a chunk is torn, loses a bit or is lost while others are written")
def damage(scene: Scene) -> None:
    job = scene.allocation("--nodes=2", "--ntasks-per-node=1")
    scene.wait_for(1)
    scene.strike(lambda: _damage(scene))
    scene.completed(job)
    assert "1 shards were torn or altered" in _log(scene)


@fault("the same in a finished study, which is then run again")
def damage_later(scene: Scene) -> None:
    scene.slow = 0.0
    scene.go()
    _damage(scene)
    assert not scene.bytes_equal()
    scene.go()
    assert "1 shards were torn or altered" in _log(scene)


@fault("stale leases by clocks that are off: leases of the living are taken over")
def clocks(scene: Scene) -> None:
    scene.slow = 0.4
    scene.stage("prepare")
    leases = scene.out / "leases"
    leases.mkdir()
    for name in "one", "two":  # of workers that died, by clocks hours ahead and behind
        lease = leases / f"{name}.{scene.random.randrange(9)}.{scene.random.randrange(3)}"
        lease.write_text("gone.1.x")
        os.utime(lease, (time.time() + scene.random.choice([-1, 1]) * scene.random.uniform(100, 1e5),) * 2)
    jobs = [scene.evaluating_job() for _ in range(3)]

    def shift() -> None:
        stamp = time.time() + scene.random.choice([-1, 1]) * scene.random.uniform(100, 1e5)
        for lease in leases.glob("[!.]*"):
            try:
                os.utime(lease, (stamp, stamp))
            except FileNotFoundError:
                continue

    for _ in range(5):
        scene.wait_for(min(SHARDS, scene.done() + scene.random.randrange(6)))
        shift()
    for job in jobs:
        scene.completed(job)
    assert scene.done() == SHARDS
    scene.stage("finish")
