"""That the test cluster comes and goes without a trace, however it is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kinds import slow
from tests.slurm.cluster import TESTBED, SlurmCluster, wait_until


def marked(state: Path) -> list[str]:
    """What still runs of the test cluster."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"@{state}\0".encode() in (entry / "environ").read_bytes():
                    found.append(f"{entry.name} {(entry / 'comm').read_text().strip()}")
            except OSError:
                continue
    return found


def assert_no_trace(state: Path) -> None:
    assert marked(state) == []
    assert not state.exists()
    assert str(state) not in Path("/proc/mounts").read_text()


def refused(*command: str) -> str:
    """The one line of a command that must be refused."""
    done = subprocess.run([str(TESTBED), *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture
def another(testbed: SlurmCluster) -> Iterator[SlurmCluster]:
    """A cluster of the test's own, not up yet."""
    made = SlurmCluster(testbed.state.with_name(testbed.state.name + "-another"))
    yield made
    made.down()


def test_a_cluster_that_is_up_is_not_started_again(cluster: SlurmCluster) -> None:
    line = refused("--state", str(cluster.state), "up")
    assert f"this test cluster is up already; `testbed --state {cluster.state} down` ends it" in line
    assert cluster.status()["up"]


def test_two_clusters_side_by_side(cluster: SlurmCluster, another: SlurmCluster, tmp_path: Path) -> None:
    temporary = Path("/tmp") / f"#sql-temptable-{os.getpid()}.MAI"  # as of the database of another machine-wide one
    temporary.touch()
    another.up()
    temporary.unlink()
    theirs, ours = (c.sbatch("sleep 1000", cwd=tmp_path) for c in (another, cluster))
    elsewhere = another.wait_for_node(theirs)
    cluster.crash(cluster.wait_for_node(ours))
    assert another.wait_for_node(theirs) == elsewhere
    another.down()
    assert_no_trace(another.state)
    assert cluster.status()["up"]


def test_wrong_requests_are_refused_in_one_line(cluster: SlurmCluster, tmp_path: Path) -> None:
    here = ("--state", str(cluster.state))
    assert "there is no node 9" in refused(*here, "crash", "9")
    assert "between 1 and 64" in refused(*here, "up", "--nodes=0")
    assert "no such command: no-such-command" in refused(*here, "run", "no-such-command")
    assert "there is no test cluster in" in refused("--state", str(tmp_path), "run", "true")
    assert "inside a test cluster" in cluster.run(str(TESTBED), "down", check=False).stderr
    (tmp_path / "precious").touch()
    cluster.down()
    assert "not an empty folder" in refused("--state", str(tmp_path), "up")
    assert (tmp_path / "precious").exists()


def test_down_leaves_no_trace(cluster: SlurmCluster, tmp_path: Path) -> None:
    cluster.sbatch("sleep 1000", cwd=tmp_path)
    cluster.run("bash", "-c", "sleep 1000 > /dev/null 2>&1 &")
    cluster.unplug("n1")
    cluster.kill_slurmd("n2")
    cluster.down()
    assert_no_trace(cluster.state)
    cluster.down()  # and once more: nothing to do


@pytest.mark.parametrize(
    "progress", ["this-is-a-test-cluster", slow("controller/slurmctld.pid"), slow("nodes/n2/boot_id")]
)
def test_up_after_a_killed_up(another: SlurmCluster, progress: str) -> None:
    up = subprocess.Popen([str(TESTBED), "--state", str(another.state), "up"], start_new_session=True)
    wait_until(progress, (another.state / progress).exists, 300, 0.005)
    up.kill()
    assert up.wait(10) == -signal.SIGKILL
    another.up()
    assert set(another.node_states().values()) == {"idle"}
    another.down()
    assert_no_trace(another.state)


def test_it_ends_with_its_owner(another: SlurmCluster) -> None:
    owner = subprocess.Popen(["sleep", "1000"])
    another.testbed("up", "--nodes=1", f"--owner={owner.pid}", seconds=240)
    assert another.status()["up"]
    owner.kill()
    owner.wait(10)
    wait_until("the end of the cluster", lambda: not marked(another.state), 60)
    assert_no_trace(another.state)


def test_not_for_ordinary_users() -> None:
    somebody = ["unshare", "--user"] if os.getuid() == 0 else []
    command = [*somebody, sys.executable, str(TESTBED), "up"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == "testbed: the test cluster needs root: every node has its own network and processes\n"


def test_of_several_installations_at_once_one_works_and_the_others_wait(testbed: SlurmCluster, tmp_path: Path) -> None:
    """The programs are all there, and are not ready before dpkg says so."""
    fakes = {
        "dpkg-query": f"[ -e {tmp_path}/ready ] && echo installed || echo unpacked",
        "apt-get": f"echo begins >> {tmp_path}/log; sleep 1; echo ends >> {tmp_path}/log\n"
        f"case $* in *install*) touch {tmp_path}/ready;; esac",
    }
    for name, text in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    begun = [subprocess.Popen([str(TESTBED), "install"], env=environment) for _ in range(3)]
    assert [each.wait(60) for each in begun] == [0, 0, 0]
    assert (tmp_path / "log").read_text().split() == ["begins", "ends"] * 2  # `update` and `install`
