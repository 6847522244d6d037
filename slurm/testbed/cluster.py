"""The cluster: one network without a way out, the daemons in it, and nodes that can lose power, cable or slurmd."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any, NoReturn

import settings
from errors import Refused, TestbedError
from processes import Process, belonging, end, end_all, marked, of, processes, wait_for

_OWN_FILE = "this-is-a-test-cluster"
_HERE = Path(__file__).parent
_NODE_NAMESPACES = ("--net", "--mount", "--uts", "--ipc", "--pid")
_CLIENT_NAMESPACES = ("--net", "--mount", "--uts")


class Cluster:
    """A cluster whose files are all in `state`. Whether it is up is read from the running processes each time."""

    def __init__(self, state: Path) -> None:
        self.state = state.absolute()
        if any(c.isspace() or c in "%,[]@" for c in str(self.state)) or len(str(self.state)) > 80:
            raise Refused(f"--state {self.state}: use a path of at most 80 characters without blanks and % , [ ] @")

    # ---- up and down ----------------------------------------------------------------------------------------------

    def up(self, nodes: int, owner: int | None = None) -> float:
        """Start everything; returns after how many seconds all nodes were idle."""
        if not 1 <= nodes <= 64:
            raise Refused(f"--nodes {nodes}: between 1 and 64")
        if owner is not None and _birth(owner) is None:
            raise Refused(f"--owner {owner}: there is no such process")
        self._refuse_foreign_folder()
        with self._alone(10):
            if self._in_use():
                raise Refused(f"this test cluster is up already; `testbed --state {self.state} down` ends it")
            return self._up(nodes, owner)

    def _up(self, nodes: int, owner: int | None) -> float:
        self._down()  # what a killed `up` or a killed owner left
        begin = time.monotonic()
        self._make_folders(nodes, owner)
        try:
            if owner is not None:
                self._start("keeper", [sys.executable, str(_HERE / "keeper.py"), str(self.state), str(owner)])
            self._start_network(nodes)
            self._start_daemons()
            for node in range(1, nodes + 1):
                self._start_node(node)
            wait_for("all nodes idle", lambda: self._node_states() == dict.fromkeys(self._names(), "idle"), 90, 0.1)
            (self.state / "ready").touch()
        except BaseException as error:
            logs = self._last_words() if isinstance(error, TestbedError) else ""
            self._down()
            if isinstance(error, TestbedError):
                raise TestbedError(f"{error}; nothing is left running{logs}") from error
            raise
        return time.monotonic() - begin

    def down(self, wait: float = 60) -> int:
        """End every process and remove the folder; how many processes there were."""
        with self._alone(wait):
            return self._down()

    def _down(self) -> int:
        ended = end_all(lambda: belonging(self.state))
        if (self.state / _OWN_FILE).exists():
            for entry in self.state.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry)
                elif entry.name != _OWN_FILE:
                    entry.unlink()
            shutil.rmtree(self.state)  # what tells that it is ours goes last
        return ended

    def _in_use(self) -> bool:
        """Up, and wanted by someone: an owner that lives, or nobody in particular."""
        if not (self.state / "ready").exists() or self._anchor_or_none() is None:
            return False
        pid, _, birth = (self.state / "owner").read_text().partition(" ")
        return not pid or _birth(int(pid)) == birth

    @contextmanager
    def _alone(self, seconds: float) -> Iterator[None]:
        """One change at a time. The name vanishes with the process that holds it, however that ends."""
        with socket.socket(socket.AF_UNIX) as name:
            deadline = time.monotonic() + seconds
            while True:
                try:
                    name.bind(f"\0landscaper-hpc-testbed@{self.state}")
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise Refused("another testbed command is at work; try again when it is done") from None
                    time.sleep(0.1)
            yield

    def _refuse_foreign_folder(self) -> None:
        """`down` removes the folder, so it must be ours."""
        folder = self.state
        if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or folder.stat().st_uid != os.getuid())):
            raise Refused(f"--state {folder}: is not a folder of this user; name another one")
        if folder.exists() and any(folder.iterdir()) and not (folder / _OWN_FILE).exists():
            raise Refused(f"--state {folder}: is not an empty folder; name another one")

    def _make_folders(self, nodes: int, owner: int | None) -> None:
        try:
            self.state.mkdir(mode=0o755, parents=True, exist_ok=True)
            (self.state / _OWN_FILE).touch()
        except OSError as error:
            raise Refused(f"--state {self.state}: {error.strerror}") from None
        (self.state / "owner").write_text("" if owner is None else f"{owner} {_birth(owner)}")
        (self.state / "nodes.txt").write_text(str(nodes))
        (self.state / "hosts").write_text(settings.hosts(nodes))
        for name in ("etc", "log", "controller", "munge", "database", "database.tmp", "gpus"):
            (self.state / name).mkdir()
        (self.state / "munge").chmod(0o755)
        key = self.state / "munge/key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(1024))
        for i in range(settings.GPUS):  # character devices, since Slurm refuses files: /dev/null's numbers
            os.mknod(self.state / f"gpus/nvidia{i}", 0o20666, os.makedev(1, 3))
        for node in range(1, nodes + 1):
            for name in ("spool", "tmp"):
                (self.state / f"nodes/n{node}/{name}").mkdir(parents=True)

    # ---- the controller's side --------------------------------------------------------------------------------------

    def _start_network(self, nodes: int) -> None:
        """One bridge in a namespace of its own: no interface of the machine is in it, so nothing can leave."""
        script = f"""
            mount -t tmpfs -o mode=755 tmpfs {self.state}/etc
            mount -t tmpfs -o mode=755 tmpfs {self.state}/database
            mount --bind {self.state}/hosts /etc/hosts
            echo controller > /proc/sys/kernel/hostname
            [ ! -e /proc/sys/net/ipv6 ] || echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
            ip link set lo up
            ip link add cluster type bridge
            ip address add {settings.CONTROLLER}/24 dev cluster
            ip link set cluster up
            exec sleep infinity"""
        self._start("network", ["unshare", "--net", "--mount", "--uts", "sh", "-ec", script])
        wait_for("the network", lambda: self._anchor_or_none() is not None, 20, 0.02)
        # seen by the cluster's own processes only: no other process of this machine can even learn where Slurm is
        folder = Path(f"/proc/{self._anchor().pid}/root{self.state}/etc")
        for name, text in settings.files(self.state, nodes).items():
            (folder / name).write_text(text)
        (folder / "slurmdbd.conf").chmod(0o600)

    def _start_daemons(self) -> None:
        state = self.state
        munge = ["munged", "--foreground", f"--key-file={state}/munge/key", f"--socket={state}/munge/socket"]
        munge += [f"--{what}-file={state}/munge/{what}" for what in ("pid", "seed")]
        self._start("munged", self._enter(*munge))
        make = ["mariadb-install-db", f"--defaults-file={state}/etc/mariadb.cnf", "--user=root", "--skip-test-db"]
        make += ["--skip-name-resolve", "--auth-root-authentication-method=normal", f"--datadir={state}/database"]
        done = self._client(*make, seconds=120)
        if done.returncode:
            said = (done.stderr + done.stdout).splitlines()
            reasons = [line for line in said if "ERROR" in line] or said[-1:]
            raise TestbedError(f"mariadb-install-db failed: {'; '.join(map(str.strip, reasons))}")
        self._start("mariadbd", self._enter("mariadbd", f"--defaults-file={state}/etc/mariadb.cnf"))
        wait_for("munged", lambda: _answers(state / "munge/socket"), 30)
        wait_for("mariadbd", lambda: _answers(state / "database.socket"), 60)
        self._start("slurmdbd", self._enter("slurmdbd", "-D"), SLURM_CONF=f"{state}/etc/slurm.conf")
        wait_for("slurmdbd", lambda: self._client("sacctmgr", "-nP", "list", "cluster").returncode == 0, 60)
        self._client("sacctmgr", "-i", "add", "cluster", "test", seconds=30)
        self._start_controller()

    def start_controller(self) -> None:
        with self._existing():
            if not self._slurmctld():
                self._start_controller()

    def _start_controller(self) -> None:
        self._start("slurmctld", self._enter("slurmctld", "-D"))
        wait_for("slurmctld", lambda: " UP" in self._client("scontrol", "ping").stdout, 30)

    def stop_controller(self, hard: bool = False) -> None:
        with self._existing():
            for process in self._slurmctld():
                end(process, SIGKILL if hard else SIGTERM)
            wait_for("the end of slurmctld", lambda: not self._slurmctld(), 30)

    def _slurmctld(self) -> list[Process]:
        return [p for p in of(self.state) if p.part == "slurmctld"]

    # ---- nodes ------------------------------------------------------------------------------------------------------

    def start(self, node: int) -> None:
        """Bring back a crashed node, or the slurmd of one that has lost only that."""
        with self._existing(node):
            init = self._init(node)
            if init is None:
                self._cable("delete", node)
                self._start_node(node)
            elif not self._slurmd(node):
                self._start(f"n{node}", _nsenter(init, _NODE_NAMESPACES, "slurmd", "-N", f"n{node}"))
            wait_for(f"slurmd of n{node}", lambda: bool(self._slurmd(node)), 20)

    def _start_node(self, node: int) -> None:
        name = f"n{node}"
        (self.state / f"nodes/{name}/boot_id").write_text(_random_uuid())
        script = f"""
            mount --bind {self.state}/nodes/{name}/boot_id /proc/sys/kernel/random/boot_id
            mount -t tmpfs tmpfs /dev/shm
            echo {name} > /proc/sys/kernel/hostname
            ip link set lo up
            for i in {{1..500}}; do ip link show eth0 > /dev/null 2>&1 && break; sleep 0.02; done
            ip address add {settings.address(node)}/24 dev eth0
            ip link set eth0 up
            slurmd -D -N {name} &
            sleep infinity &
            while true; do wait -n || true; done"""
        unshare = ["unshare", *_NODE_NAMESPACES, "--fork", "--kill-child", "--mount-proc", "bash", "-ec", script]
        self._start(name, self._enter(*unshare))
        wait_for(f"the namespaces of {name}", lambda: self._init(node) is not None, 20, 0.02)
        init = self._init(node)
        assert init is not None
        to_node = ("type", "veth", "peer", "name", "eth0", "netns", str(init.pid))
        self._cable("add", node, "master", "cluster", "up", *to_node)

    def crash(self, node: int) -> None:
        """The cable first, so that not even a closing packet gets out, as when the power goes."""
        with self._existing(node):
            init = self._powered(node)
            self._cable("set", node, "down")
            end_all(lambda: [p for p in processes() if p.network == init.network])
            end_all(lambda: [p for p in of(self.state) if p.part == f"n{node}"])
            self._cable("delete", node)

    def kill_slurmd(self, node: int) -> None:
        with self._existing(node):
            self._powered(node)
            end_all(lambda: self._slurmd(node))

    def unplug(self, node: int) -> None:
        with self._existing(node):
            self._powered(node)
            self._cable("set", node, "down")

    def plug(self, node: int) -> None:
        with self._existing(node):
            self._powered(node)
            self._cable("set", node, "up")

    def _cable(self, action: str, node: int, *options: str) -> None:
        done = self._client("ip", "link", action, f"cable{node}", *options)
        if done.returncode and action != "delete":
            raise TestbedError(f"ip link {action} cable{node}: {done.stderr.strip()}")

    def _init(self, node: int) -> Process | None:
        """The first process of the node's own pid namespace."""
        return next((p for p in of(self.state) if p.part == f"n{node}" and p.nested and p.inner == 1), None)

    def _powered(self, node: int) -> Process:
        init = self._init(node)
        if init is None:
            raise Refused(f"n{node} has crashed; `testbed start {node}` brings it back")
        return init

    def _slurmd(self, node: int) -> list[Process]:
        return [p for p in of(self.state) if p.part == f"n{node}" and p.name == "slurmd"]

    # ---- clients and status -----------------------------------------------------------------------------------------

    def run(self, argv: list[str], on: int | None = None) -> NoReturn:
        """Become a client; the pid stays the same unless it is started `on` a node, which has pids of its own."""
        self._anchor()
        command = ["env", f"--chdir={Path.cwd()}", *argv]
        if on is None:
            command = self._enter(*command)
        else:
            self._check_node(on)
            command = _nsenter(self._powered(on), _NODE_NAMESPACES, *command)
        os.execvpe(command[0], command, self._environment("client"))

    def status(self) -> dict[str, Any]:
        if self._anchor_or_none() is None:
            return {"up": False, "state": str(self.state)}
        everything = of(self.state)
        links = self._client("ip", "-o", "link").stdout
        slurm = self._node_states()
        nodes = {
            name: {
                "power": self._init(i) is not None,
                "cable": f" cable{i}@" in links and "state UP" in links.split(f" cable{i}@")[1].split("\n")[0],
                "slurmd": bool(self._slurmd(i)),
                "slurm": slurm.get(name, "unknown"),
            }
            for i, name in enumerate(self._names(), 1)
        }
        owner = (self.state / "owner").read_text().split()
        return {
            "up": (self.state / "ready").exists(),
            "state": str(self.state),
            "owner": int(owner[0]) if owner else None,
            "controller": any(p.part == "slurmctld" for p in everything),
            "processes": len(everything),
            "nodes": nodes,
        }

    def describe(self, status: dict[str, Any]) -> str:
        if "nodes" not in status:
            return f"there is no test cluster in {self.state}"
        lines = [f"state {self.state}, {status['processes']} processes" + ("" if status["up"] else "; not fully up")]
        lines += ["controller " + ("up" if status["controller"] else "down")]
        for name, node in status["nodes"].items():
            faults = [text for key, text in _FAULTS.items() if not node[key]]
            lines.append(f"{name} {node['slurm']}" + (f" ({faults[0]})" if faults else ""))
        return "\n".join(lines)

    def _node_states(self) -> dict[str, str]:
        done = self._client("sinfo", "-hN", "-p", "main", "-o", "%N %T", seconds=10)
        return dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)

    def _names(self) -> list[str]:
        return [f"n{i}" for i in range(1, int((self.state / "nodes.txt").read_text()) + 1)]

    # ---- processes --------------------------------------------------------------------------------------------------

    def _environment(self, part: str) -> dict[str, str]:
        return {**marked(part, self.state), "SLURM_CONF": f"{self.state}/etc/slurm.conf"}

    def _start(self, part: str, command: list[str], **variables: str) -> None:
        with (self.state / f"log/{part}.err").open("ab") as log:
            subprocess.Popen(
                command,
                env={**self._environment(part), **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )

    def _client(self, *command: str, seconds: float = 15) -> subprocess.CompletedProcess[str]:
        """A short command of our own among the clients; one that hangs counts as failed."""
        argv = self._enter(*command)
        environment = self._environment("client")
        try:
            return subprocess.run(
                argv, env=environment, capture_output=True, text=True, timeout=seconds, check=False, cwd="/"
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, 124, "", f"{command[0]} did not end within {seconds:.0f} s")

    def _enter(self, *command: str) -> list[str]:
        return _nsenter(self._anchor(), _CLIENT_NAMESPACES, *command)

    def _anchor(self) -> Process:
        anchor = self._anchor_or_none()
        if anchor is None:
            raise Refused(f"there is no test cluster in {self.state}; `testbed up` starts one")
        return anchor

    def _anchor_or_none(self) -> Process | None:
        """The process that holds the controller's namespaces, once they are furnished."""
        return next((p for p in of(self.state) if p.part == "network" and p.name == "sleep"), None)

    @contextmanager
    def _existing(self, node: int | None = None) -> Iterator[None]:
        with self._alone(30):
            self._anchor()
            if node is not None:
                self._check_node(node)
            yield

    def _check_node(self, node: int) -> None:
        if f"n{node}" not in self._names():
            raise Refused(f"there is no node {node}; there are 1 to {len(self._names())}")

    def _last_words(self) -> str:
        logs = sorted((self.state / "log").glob("*"))
        words = [(log.name, log.read_text(errors="replace").splitlines()[-4:]) for log in logs]
        return "".join(f"\n--- {name}\n" + "\n".join(lines) for name, lines in words if lines)


_FAULTS = {"power": "crashed", "cable": "unplugged", "slurmd": "without slurmd"}


def keep(state: Path, owner: int) -> None:
    """Wait until the owner has ended, then take the cluster down."""
    try:
        handle = os.pidfd_open(owner)
        select.select([handle], [], [])
    except ProcessLookupError:
        pass
    Cluster(state).down(wait=600)


def _nsenter(target: Process, namespaces: tuple[str, ...], *command: str) -> list[str]:
    return ["nsenter", "--target", str(target.pid), *namespaces, "--", *command]


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def _birth(pid: int) -> str | None:
    """When the process was started, in clock ticks since boot; None where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _random_uuid() -> str:
    return Path("/proc/sys/kernel/random/uuid").read_text()
