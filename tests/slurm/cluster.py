"""The test cluster as tests see it. Whatever talks to Slurm does so through `run` or `start_client`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
TESTBED = ROOT / "slurm/testbed/testbed"
NODES = 4
ASKING = 1.0
"""Seconds between two questions to Slurm, each of which starts processes."""
_PYTHON = (sys.executable, "-S")
"""What the testbed imports is in the standard library: no package is looked for."""
_CLIENTS = ("sacct", "scancel", "scontrol", "sinfo", "squeue")
"""Short commands that tests give often; what begins with others goes the way of a user, by `testbed run`."""

T = TypeVar("T")


class NotPossible(Exception):
    """This machine cannot have a test cluster; the message says why."""


def wait_until(what: str, look: Callable[[], T | None], seconds: float = 60, interval: float = 0.2) -> T:
    """What `look` returns, once that is true; a test fails that waits longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(interval)


class SlurmCluster:
    def __init__(self, state: Path) -> None:
        self.state = state
        self._network: str | None = None

    # ---- the cluster itself -----------------------------------------------------------------------------------------

    def install(self) -> None:
        done = self._testbed("install", seconds=900)
        if done.returncode:
            raise NotPossible(done.stderr.strip().removeprefix("testbed: "))

    def up(self) -> None:
        """It ends with this process, however that ends."""
        self.testbed("up", f"--nodes={NODES}", f"--owner={os.getpid()}", seconds=240)

    def down(self) -> None:
        self.testbed("down", seconds=120)

    def testbed(self, *command: str, seconds: float = 60) -> str:
        """A command of slurm/testbed/testbed; its output."""
        done = self._testbed(*command, seconds=seconds)
        assert done.returncode == 0, f"testbed {' '.join(command)}: {done.stderr}{done.stdout}"
        return done.stdout

    def crash(self, node: str) -> None:
        self.testbed("crash", node.removeprefix("n"))

    def start(self, node: str) -> None:
        self.testbed("start", node.removeprefix("n"))

    def kill_slurmd(self, node: str) -> None:
        self.testbed("kill-slurmd", node.removeprefix("n"))

    def unplug(self, node: str) -> None:
        self.testbed("unplug", node.removeprefix("n"))

    def plug(self, node: str) -> None:
        self.testbed("plug", node.removeprefix("n"))

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self._testbed("status", "--json").stdout))

    def restore(self) -> None:
        """No jobs, no faults, all nodes idle. A node that had a fault is power-cycled, so that no orphan is left."""
        status = self.status()
        if not status["up"]:
            self.up()
            return
        states = {name: node["slurm"] for name, node in status["nodes"].items()}
        if not status["controller"]:
            self.testbed("start-controller")
        for name, node in status["nodes"].items():
            if node["slurm"].startswith("drain"):  # Slurm's own doing, as when a job was started twice
                self.run("scontrol", "update", f"nodename={name}", "state=resume")
            if not (node["power"] and node["cable"] and node["slurmd"]):
                if node["power"]:
                    self.crash(name)
                self.start(name)
                states.clear()  # Slurm may not have noticed yet
        idle = {f"n{i}": "idle" for i in range(1, NODES + 1)}

        def clean() -> bool:
            queued = self.run("squeue", "-h", "-o", "%i", check=False).stdout
            if queued.strip():
                self.run("scancel", "--user=root", "--quiet", check=False)
                self.run("scancel", "--user=root", "--quiet", "--signal=KILL", check=False)
                states.clear()
            seen = states.copy() or self.node_states()
            states.clear()  # what is not idle yet is looked at anew
            return not queued.strip() and seen == idle

        wait_until("no jobs and all nodes idle", clean, 120, ASKING)

    # ---- clients ----------------------------------------------------------------------------------------------------

    def run(
        self,
        *command: str,
        seconds: float = 60,
        check: bool = True,
        on: int | None = None,
        text: str | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a client of the cluster (or `on` a node, past Slurm) with `text` as its input."""
        done = subprocess.run(
            self._command(command, on),
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            check=False,
        )
        assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.returncode}\n{done.stderr}{done.stdout}"
        return done

    def start_client(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """A client that goes on; its pid is the command's own. `options` are Popen's."""
        return subprocess.Popen(self._command(command), text=True, **options)

    def sbatch(self, script: str, *options: str, cwd: Path, env: Mapping[str, str] | None = None) -> int:
        """Submit the text of a bash script; the job's id."""
        text = script if script.startswith("#!") else f"#!/bin/bash\n{script}\n"
        return int(self.run("sbatch", "--parsable", *options, text=text, cwd=cwd, env=env).stdout)

    def srun(self, *command: str, seconds: float = 60, **options: Any) -> str:
        return self.run("srun", "-I20", *command, seconds=seconds, **options).stdout

    # ---- what Slurm says --------------------------------------------------------------------------------------------

    def job(self, job: int | str) -> dict[str, str]:
        """The fields of `scontrol show job`; {} where the controller does not answer."""
        text = self.run("scontrol", "-o", "show", "job", str(job), check=False).stdout
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def node_of(self, job: int | str) -> str | None:
        """The node on which the job runs, once it does."""
        fields = self.job(job)
        return fields["NodeList"] if fields.get("JobState") == "RUNNING" else None

    def wait_for_node(self, job: int | str, seconds: float = 60) -> str:
        return wait_until(f"job {job} runs", lambda: self.node_of(job), seconds, ASKING)

    def wait_for_state(self, job: int | str, *states: str, seconds: float = 60) -> str:
        with self.story_of(job):
            return wait_until(
                f"job {job} is {' or '.join(states)}",
                lambda: s if (s := self.job(job).get("JobState", "")) in states else None,
                seconds,
                ASKING,
            )

    @contextmanager
    def story_of(self, job: int | str) -> Iterator[None]:
        """A failure within is told with what Slurm knows of the job and the end of what it printed."""
        try:
            yield
        except AssertionError as error:
            fields = self.job(job)
            output = Path(fields.get("StdOut", "/nowhere"))
            printed = output.read_text(errors="replace")[-3000:] if output.is_file() else "no output"
            raise AssertionError(f"{error}\n{fields}\n{printed}") from None

    def accounts(self, job: int | str) -> list[str]:
        """The states of all runs of the job in the accounting database, oldest first."""
        done = self.run("sacct", "-DXnP", "-j", str(job), "-o", "State", check=False)
        return [line.split()[0] for line in done.stdout.splitlines() if line]

    def node_states(self) -> dict[str, str]:
        done = self.run("sinfo", "-hN", "-p", "main", "-o", "%N %T", check=False)
        return dict(line.split() for line in done.stdout.splitlines())

    def wait_for_node_state(self, node: str, *states: str, seconds: float = 60) -> None:
        wait_until(f"{node} is {' or '.join(states)}", lambda: self.node_states().get(node) in states, seconds, ASKING)

    def wait_until_saved(self) -> None:
        """Until the controller has written down what it knows now; `stop-controller --hard` forgets the rest. It writes
        when something has changed: so something does."""
        now = time.time()
        job = self.run("squeue", "-h", "-o", "%i").stdout.split()[0]
        self.run("scontrol", "update", f"jobid={job}", "comment=saved")
        file = self.state / "controller/job_state"
        wait_until("the controller's state is saved", lambda: file.exists() and file.stat().st_mtime > now, 60)

    # ---- how ---------------------------------------------------------------------------------------------------------

    def _testbed(self, *command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        argv = [*_PYTHON, str(TESTBED), "--state", str(self.state), *command]
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
        )

    def _command(self, command: Sequence[str], on: int | None = None) -> list[str]:
        if on is None and command[0] in _CLIENTS and (network := self._in_network()):
            lead = ["nsenter", "--target", network, "--net", "--mount", "--uts", "--", "env", f"--chdir={Path.cwd()}"]
            return [*lead, f"SLURM_CONF={self.state}/etc/slurm.conf", *command]
        where = [] if on is None else [f"--on={on}"]
        return [*_PYTHON, str(TESTBED), "--state", str(self.state), "run", *where, "--", *command]

    def _in_network(self) -> str | None:
        """The process that holds the clients' network, as `testbed run` finds it: that starts Python and looks at all
        processes, which takes a tenth of a second of the processor, and tests ask Slurm hundreds of times."""
        if self._network is None or not _is_network(self._network, self.state):
            pids = (path.name for path in Path("/proc").iterdir() if path.name.isdigit())
            self._network = next((pid for pid in pids if _is_network(pid, self.state)), None)
        return self._network


def _is_network(pid: str, state: Path) -> bool:
    with suppress(OSError):
        mark = os.fsencode(f"LANDSCAPER_TESTBED_PART=network@{state}\0")
        folder = Path("/proc", pid)
        return mark in (folder / "environ").read_bytes() and (folder / "comm").read_text() == "sleep\n"
    return False
