"""Ends a process whose shard hangs while it holds the interpreter's lock, as compiled code may: none of its own threads
runs then, so that nothing in it can tell (`watch` is for all else).

A process of its own looks every second into memory that the two share at what is under way, and since when. Where the
other one was silent too long it has it write down where it is, which needs no lock, leaves that where the next process
finds it, and kills it. It ends with the other one.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import re
import select
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

HUNG = "it had not ended after"
GRACE = 10.0
"""Seconds after which what was interrupted, and has not ended, ends with its process, by its own hand …"""
LAST = 2 * GRACE  # … and after which it is killed
_TICK = 1.0
_WHERE = int(signal.SIGRTMIN) + 7
_SIZE = 1 << 16
_HEAD = struct.Struct("=qdqI")  # the number of what is watched, 0: nothing; its seconds, its thread, the place's length
# Slurm and terminals send these to all processes, and they are the other's to answer
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT}


class Place(NamedTuple):
    """Where it is left why something hung, behind the words `before`: the file is made, or gets more lines."""

    file: Path
    before: str

    def leave(self, why: str) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{self.before}{why.rstrip()}\n")

    def taken(self) -> str | None:
        """What was left there, for one of those who ask at once; None where there is nothing, and for the others."""
        if not self.file.exists():
            return None
        mine = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        try:
            self.file.rename(mine)
        except FileNotFoundError:
            return None
        except OSError:  # another user's: it stays, for whoever it may be mended by
            return self.file.read_text(encoding="utf-8", errors="replace")
        why = mine.read_text(encoding="utf-8", errors="replace")
        mine.unlink()
        return why


def sentence(seconds: float, stack: str) -> str:
    """That something hung, and where, in one line; its stack in those below."""
    place = next((line.strip() for line in reversed(stack.splitlines()) if line.startswith("  File ")), "nowhere")
    return f"{HUNG} {seconds:.0f} s (site.shard_timeout), and was here: {place}\n{stack}"


def say(why: str) -> None:
    """On standard error that the process ends, in one line."""
    first = why.splitlines()[0]
    ends = "its process ends (where nothing replaces it, the same command goes on without the shard)"
    with suppress(Exception):
        print(f"landscaper-hpc: a shard hangs and cannot be interrupted, so {ends}: {first}", file=sys.stderr)


class Watchdog:
    """The end in the process that is watched. Where none can be started, nothing is watched."""

    def __init__(self) -> None:
        self._number = 0
        shared = os.memfd_create("watched")
        os.ftruncate(shared, _SIZE)
        self._shared = mmap.mmap(shared, _SIZE)
        theirs, alive = os.pipe()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # which it inherits
        try:
            with suppress(OSError):
                numbers = (os.getpid(), shared, theirs)
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", __file__, *map(str, numbers)],
                    pass_fds=numbers[1:],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
                self._process.returncode = 0  # it is never waited for: it ends after this one
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(shared)
            os.close(theirs)
        faulthandler.register(_WHERE, alive, all_threads=True)

    def begin(self, thread: int, seconds: float, place: Place) -> None:
        """What is watched from now on: how long it may take, and where it is left if it takes longer."""
        self._number += 1
        content = json.dumps([os.fsdecode(place.file), place.before]).encode()[: _SIZE - _HEAD.size]
        self._shared[_HEAD.size : _HEAD.size + len(content)] = content
        self._shared[: _HEAD.size] = _HEAD.pack(self._number, seconds, thread, len(content))

    def end(self) -> None:
        """Nothing is watched."""
        self._shared[:8] = bytes(8)


def main(process: int, shared: int, alive: int) -> None:
    """Look until the process has ended, which closes its end of the pipe `alive`."""
    slot, last, silent, had = mmap.mmap(shared, _SIZE, prot=mmap.PROT_READ), 0, 0.0, 0.0
    while os.getppid() == process and not select.select([alive], [], [], _TICK)[0]:
        number, seconds, thread, length = _HEAD.unpack_from(slot)
        before, had = had, without_processor(process, process)
        if not number or number != last:
            last, silent = number, 0.0
        elif not _is_stopped(process):
            silent += max(0.0, _TICK - (had - before))
        if silent <= seconds + LAST:
            continue
        told = _stacks(process, alive)
        if _HEAD.unpack_from(slot)[0] == number:
            place = json.loads(slot[_HEAD.size : _HEAD.size + length])
            why = sentence(seconds, _stack(told, thread))
            with suppress(OSError):
                Place(Path(place[0]), place[1]).leave(why)
            say(why)
            os.kill(process, signal.SIGKILL)
        os.kill(process, signal.SIGCONT)  # the signal woke it up after all


def _stacks(process: int, alive: int) -> str:
    """The stacks of all threads of the process, which is stopped then."""
    os.kill(process, _WHERE)
    told = b""
    while select.select([alive], [], [], 0.5 if told else 5.0)[0] and (more := os.read(alive, 1 << 16)):
        told += more
    os.kill(process, signal.SIGSTOP)  # what the signal woke up must not go on to another shard before it is killed
    return told.decode(errors="replace")


def _stack(told: str, thread: int) -> str:
    """A thread's stack as `errors.user_stack` gives it, from that of all threads."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from landscaper_hpc.errors import is_users

    found = re.search(rf"hread 0x0*{thread:x} .*\n((?:  File .*\n)*)", told)
    frames: list[Any] = re.findall(r'  File "(.*)", line (\d+) in (.*)', found[1] if found else "")[::-1]
    kept = [frame for frame in frames if is_users(frame[0])] or frames
    return "".join(f'  File "{file}", line {line}, in {name}\n' for file, line, name in kept)


def without_processor(process: int, thread: int) -> float:
    """Seconds that a thread was ready to run and others had the processor; 0 where the system does not count them."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{process}/task/{thread}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def _is_stopped(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    return False


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
