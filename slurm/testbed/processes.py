"""The processes of a test cluster, found by a mark in their environment; no pid is ever remembered.

Everything the cluster starts carries `LANDSCAPER_TESTBED_PART=<part>@<state folder>` and hands it down, and every
network namespace of the cluster is made by such a process. So what belongs to it can be told, and ended, whatever
happened to the program that started it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from errors import TestbedError

MARK = "LANDSCAPER_TESTBED_PART"


@dataclass(frozen=True)
class Process:
    """`part` is "" in processes that carry no mark; `inner` is the pid in the process's own pid namespace."""

    pid: int
    name: str
    part: str
    state: str
    network: str
    inner: int
    nested: bool


def marked(part: str, state: Path) -> dict[str, str]:
    """This process's environment with the mark and without traces of another Slurm."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SRUN_", "PMI_", "PMIX_"))}
    return {**clean, MARK: f"{part}@{state}"}


def inside() -> bool:
    return MARK in os.environ


def processes(state: Path | None = None) -> Iterator[Process]:
    """All living processes that can be looked at; of one cluster only, those that carry its mark."""
    ours = None if state is None else os.fsencode(f"@{state}")
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                if ours is None or ours in Path(entry.path, "environ").read_bytes():  # a first look: most do not
                    yield _look(int(entry.name))


def _look(pid: int) -> Process:
    folder = Path(f"/proc/{pid}")
    network = str((folder / "ns/net").readlink())  # zombies have none: OSError
    fields = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
    chain = fields["NSpid"].split()
    mark = next(
        (e for e in (folder / "environ").read_bytes().split(b"\0") if e.startswith(MARK.encode() + b"=")), b"=@"
    )
    part, _, state = os.fsdecode(mark).split("=", 1)[1].partition("@")
    return Process(pid, fields["Name"], part, state, network, int(chain[-1]), len(chain) > 1)


def of(state: Path) -> list[Process]:
    """The processes that carry the mark of this cluster."""
    return [p for p in processes(state) if p.state == str(state)]


def belonging(state: Path) -> list[Process]:
    """Those that carry the mark and whatever else lives in the cluster's networks."""
    everyone = list(processes())
    ours = [p for p in everyone if p.state == str(state)]
    networks = {p.network for p in ours} - {str(Path("/proc/self/ns/net").readlink())}
    return [p for p in everyone if (p.state == str(state) or p.network in networks) and p.pid != os.getpid()]


def end(process: Process, sign: signal.Signals = signal.SIGKILL) -> None:
    """Signal exactly this process; a pid that has become another process's is left alone."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        now = _look(process.pid)
        if (now.name, now.part, now.network) == (process.name, process.part, process.network):
            signal.pidfd_send_signal(handle, sign)
    except OSError:
        pass  # it has ended meanwhile
    finally:
        os.close(handle)


def end_all(find: Callable[[], list[Process]], seconds: float = 30) -> int:
    """Kill what `find` finds until it finds nothing twice; how many processes that were."""
    ended: set[int] = set()
    clean = 0
    deadline = time.monotonic() + seconds
    while clean < 2:
        found = find()
        clean = 0 if found else clean + 1
        for process in found:
            end(process)
            ended.add(process.pid)
        if time.monotonic() > deadline:
            raise TestbedError("these processes do not end: " + ", ".join(f"{p.pid} ({p.name})" for p in found))
        time.sleep(0.02)
    return len(ended)


def wait_for(what: str, ready: Callable[[], bool], seconds: float, interval: float = 0.05) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TestbedError(f"{what}: not after {seconds:.0f} s")
        time.sleep(interval)
