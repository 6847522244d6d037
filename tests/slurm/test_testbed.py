"""That the test cluster is one: what Slurm does on it when all is well and when it is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.slurm.cluster import ASKING, NODES, SlurmCluster, wait_until

# Counts in a file of its own per job and node, so that a copy of the job elsewhere can be told from it. Ends by itself.
BEATING = """
n=0
while [ $n -lt 6000 ] && [ ! -e stop ]; do
    n=$((n + 1))
    echo $n > beat.$SLURM_JOB_ID.$SLURMD_NODENAME.new
    mv beat.$SLURM_JOB_ID.$SLURMD_NODENAME.new beat.$SLURM_JOB_ID.$SLURMD_NODENAME
    sleep 0.1
done
"""


def beats(folder: Path, job: int, node: str) -> int:
    file = folder / f"beat.{job}.{node}"
    return int(file.read_text()) if file.exists() else 0


def wait_for_beats(folder: Path, job: int, node: str) -> None:
    """The job is alive on that node: it counts on."""
    before = beats(folder, job, node)
    wait_until(f"job {job} goes on on {node}", lambda: beats(folder, job, node) > before + 1)


def wait_for_other_node(cluster: SlurmCluster, job: int, nodes: list[str]) -> str:
    """Where the requeued copy of the job runs."""

    def elsewhere() -> str | None:
        node = cluster.node_of(job)
        return None if node in nodes else node

    return wait_until(f"a copy of job {job}", elsewhere, 120, ASKING)


# ---- when all is well ------------------------------------------------------------------------------------------------


def test_all_nodes_are_idle(cluster: SlurmCluster) -> None:
    assert cluster.node_states() == {f"n{i}": "idle" for i in range(1, NODES + 1)}
    assert set(cluster.run("sinfo", "-hN", "-o", "%c %G").stdout.split("\n")) == {"8 gpu:4", ""}


def test_an_array_runs_on_all_nodes_at_once(cluster: SlurmCluster, tmp_path: Path) -> None:
    script = (
        "touch on.$SLURMD_NODENAME; for i in {1..600}; do [ $(ls on.* | wc -l) = 4 ] && exit; sleep 0.1; done; exit 1"
    )
    job = cluster.sbatch(script, "--array=0-3", "--exclusive", cwd=tmp_path)
    for i in range(4):
        cluster.wait_for_state(f"{job}_{i}", "COMPLETED")


def test_srun_places_tasks_on_two_nodes(cluster: SlurmCluster) -> None:
    out = cluster.srun(
        "-N2", "--ntasks-per-node=2", "bash", "-c", "echo $SLURM_PROCID $SLURM_LOCALID $(hostname) $SLURMD_NODENAME"
    )
    tasks = sorted(line.split() for line in out.splitlines())
    assert [t[:2] for t in tasks] == [["0", "0"], ["1", "1"], ["2", "0"], ["3", "1"]]
    assert all(host == node for _, _, host, node in tasks)
    assert len({host for _, _, host, _ in tasks}) == 2


def test_tasks_see_their_gpus(cluster: SlurmCluster) -> None:
    show = ("bash", "-c", "echo $CUDA_VISIBLE_DEVICES")
    assert cluster.srun("-N2", "--ntasks-per-node=1", "--gpus-per-node=4", *show).split() == ["0,1,2,3"] * 2
    assert sorted(cluster.srun("-N1", "-n4", "--gpus-per-task=1", *show).split()) == ["0", "1", "2", "3"]
    assert cluster.srun("-n1", *show).split() == []


def test_a_failure_is_in_the_accounts(cluster: SlurmCluster, tmp_path: Path) -> None:
    job = cluster.sbatch("exit 7", cwd=tmp_path)
    wait_until("accounts", lambda: cluster.accounts(job) == ["FAILED"])
    assert "7:0" in cluster.run("sacct", "-Xn", "-j", str(job), "-o", "ExitCode").stdout


def test_a_client_is_the_command_itself(cluster: SlurmCluster) -> None:
    client = cluster.start_client("sleep", "600")
    wait_until("sleep", lambda: Path(f"/proc/{client.pid}/comm").read_text() == "sleep\n")
    client.terminate()
    assert client.wait(10) == -15
    assert cluster.run("bash", "-c", "exit 5", check=False).returncode == 5


def test_preemption_requeues(cluster: SlurmCluster, tmp_path: Path) -> None:
    job = cluster.sbatch(BEATING, "--exclusive", "--nodes=4", cwd=tmp_path)
    node = cluster.wait_for_node(job)
    urgent = cluster.sbatch("true", "--partition=urgent", "--exclusive", "--nodes=4", cwd=tmp_path)
    cluster.wait_for_state(urgent, "COMPLETED")
    assert node == "n[1-4]"
    cluster.wait_for_state(job, "RUNNING")
    assert cluster.job(job)["Restarts"] == "1"
    assert cluster.accounts(job)[0] == "PREEMPTED"


# ---- nothing leaves --------------------------------------------------------------------------------------------------

_CALL = """
import errno, socket
for address in "192.0.2.1", "198.51.100.1", "2001:db8::1":
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(family, kind) as s:
            s.settimeout(5)
            print(errno.errorcode[s.connect_ex((address, 9))])
"""


def test_no_packet_leaves(cluster: SlurmCluster) -> None:
    for on in None, *range(1, NODES + 1):
        routes = [line.split() for line in cluster.run("ip", "route", on=on).stdout.splitlines()]
        assert [route[0] for route in routes] == ["10.77.0.0/24"]
        assert "via" not in routes[0]
        links = re.findall(r"^\d+: ([^:@]+)[:@]", cluster.run("ip", "-o", "link", on=on).stdout, re.MULTILINE)
        ours = ["eth0"] if on else ["cluster", *(f"cable{i}" for i in range(1, NODES + 1))]
        assert sorted(links) == sorted(["lo", *ours])
        assert set(cluster.run("python3", "-c", _CALL, on=on).stdout.split()) == {"ENETUNREACH"}


def test_jobs_cannot_reach_out(cluster: SlurmCluster) -> None:
    assert set(cluster.srun("-N4", "python3", "-c", _CALL).split()) == {"ENETUNREACH"}


def test_the_configuration_is_not_seen_from_outside(cluster: SlurmCluster) -> None:
    assert list((cluster.state / "etc").iterdir()) == []
    assert cluster.run("cat", str(cluster.state / "etc/slurm.conf")).stdout.startswith("ClusterName=")


# ---- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_lost_nodes(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Without power, slurmd or cable a node is given up and its job requeued. Only a crash ends the old run."""
    jobs, nodes = [], []
    for _ in range(3):
        jobs.append(cluster.sbatch(BEATING, "--exclude=" + ",".join(nodes), cwd=tmp_path))
        nodes.append(cluster.wait_for_node(jobs[-1]))
        wait_for_beats(tmp_path, jobs[-1], nodes[-1])
    dark, deaf, cut = nodes
    cluster.crash(dark)
    cluster.kill_slurmd(deaf)
    cluster.unplug(cut)
    last = beats(tmp_path, jobs[0], dark)
    faults = cluster.status()["nodes"]
    for node, lost in zip(nodes, ("power", "slurmd", "cable"), strict=True):
        assert not faults[node][lost]
    assert faults[cut]["power"] and faults[cut]["slurmd"] and faults[deaf]["power"] and faults[deaf]["cable"]

    for job, node in zip(jobs, nodes, strict=True):
        other = wait_for_other_node(cluster, job, nodes)
        wait_for_beats(tmp_path, job, other)
        if node != dark:
            wait_for_beats(tmp_path, job, node)  # the orphan, beside its copy
        assert cluster.job(job)["Restarts"] == "1"
        wait_until("accounts", lambda j=job: cluster.accounts(j)[:1] == ["NODE_FAIL"])
    assert beats(tmp_path, jobs[0], dark) == last

    cluster.plug(cut)
    cluster.start(deaf)
    cluster.start(dark)
    cluster.run("scontrol", "reconfigure")  # Slurm asks lost nodes about once a minute; this asks at once
    for node in nodes:
        cluster.wait_for_node_state(node, "idle", seconds=120)
    for job, node in zip(jobs[1:], nodes[1:], strict=True):  # Slurm ends the orphans when it sees the nodes again
        wait_until(f"the end of the orphan on {node}", lambda j=job, n=node: _stands_still(tmp_path, j, n))
    (tmp_path / "stop").touch()
    for job in jobs:
        cluster.wait_for_state(job, "COMPLETED")


def _stands_still(folder: Path, job: int, node: str) -> bool:
    before = beats(folder, job, node)
    try:
        wait_until("one more beat", lambda: beats(folder, job, node) > before, 3)
    except AssertionError:
        return True
    return False


def test_jobs_outlive_the_controller(cluster: SlurmCluster, tmp_path: Path) -> None:
    job = cluster.sbatch(BEATING, cwd=tmp_path)
    node = cluster.wait_for_node(job)
    cluster.wait_until_saved()
    for options in ["--hard"], []:
        cluster.testbed("stop-controller", *options)
        assert not cluster.status()["controller"]
        assert cluster.run("scontrol", "ping", check=False).returncode != 0
        wait_for_beats(tmp_path, job, node)
        cluster.testbed("start-controller")
        cluster.wait_for_state(job, "RUNNING")
    (tmp_path / "stop").touch()
    cluster.wait_for_state(job, "COMPLETED")
    assert cluster.job(job)["Restarts"] == "0"
