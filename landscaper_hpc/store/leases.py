"""Who works on what, for workers that share nothing but a folder.

A lease saves double work and nothing else: a result is published whole and its bytes are the same whoever computed it,
so a lease that is lost, stale too early or held twice costs time and never a result.
"""

from __future__ import annotations

import os
import platform
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from landscaper_hpc.files import full_disk_refused

CONDUCTOR = ".front"
"""How leases of those end who conduct a search, and evaluate no shard by that."""

LIFETIME = 60.0
"""Seconds after its last renewal that a lease is taken to be a dead worker's. One whose holder was a process of this
machine that is no more is at once."""

_UNNAMED = 5.0
"""Seconds after which a lease that names no holder is one of a worker that was ended as it took it."""


class Leases:
    """Leases in `folder`, one file each. A holder renews its own four times in a lifetime, while it is `working`."""

    def __init__(self, folder: Path, lifetime: float = LIFETIME, working: Callable[[], bool] = lambda: True) -> None:
        self._folder = folder
        self._lifetime = lifetime
        self._working = working
        self._token = f"{platform.node()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self._mine: set[Path] = set()
        self._renewer: threading.Thread | None = None
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, key: str) -> Iterator[bool]:
        """Try to take the lease `key`; yields whether it is ours. Given back on exit, also on an exception."""
        lease = self._folder / key
        with full_disk_refused(lease):
            mine = self._take(lease)
        if not mine:
            yield False
            return
        with self._lock:
            self._mine.add(lease)
            if self._renewer is None:
                self._renewer = threading.Thread(target=self._renew, daemon=True)
                self._renewer.start()
        try:
            yield True
        finally:
            with self._lock:
                self._mine.discard(lease)
            if self._holder(lease) == self._token:
                lease.unlink(missing_ok=True)

    def held(self) -> dict[str, str]:
        """Key and holder (`host.pid.…`) of every lease that is not stale."""
        try:
            now = self._now()
        except OSError:  # no folder, or one that is only read
            now = time.time()
        found = {}
        for lease in self._folder.glob("[!.]*"):
            age = self._age(lease, now)
            if age is not None and not self._is_over(lease, age):
                found[lease.name] = self._holder(lease)
        return found

    def remove(self) -> None:
        """Remove the folder, when there is nothing left to hold."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _take(self, lease: Path) -> bool:
        while True:
            try:
                self._write(lease)
                return True
            except FileExistsError:
                try:
                    return self._take_over(lease)
                except FileNotFoundError:
                    return False  # all leases were removed: there is nothing left to do
            except FileNotFoundError:
                self._folder.mkdir(parents=True, exist_ok=True)

    def _take_over(self, lease: Path) -> bool:
        """Replace a stale lease by ours. The right to replace a holder is itself a lease, named after that holder."""
        holder = self._holder(lease)
        age = self._age(lease, self._now())  # after the holder: a lease replaced in between is fresh
        if age is None or not self._is_over(lease, age):
            return False
        right = lease.with_name(f".{lease.name.lstrip('.')}.{holder}")
        if not self._take(right):
            return False
        try:
            if self._holder(lease) != holder or not lease.exists():
                return False  # someone was quicker, and has given the right back
            mine = self._folder / f".mine.{self._token}.{threading.get_ident()}"
            self._write(mine)
            mine.replace(lease)
        finally:
            right.unlink(missing_ok=True)
        return True

    def _is_over(self, lease: Path, age: float) -> bool:
        unnamed = age >= _UNNAMED and not self._holder(lease)
        return age >= self._lifetime or unnamed or _is_dead(lease)

    def _write(self, lease: Path) -> None:
        holder = f"{self._token}\n{_here()} {_began(os.getpid())}".encode()
        made = os.open(lease, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        try:
            os.write(made, holder)
        except BaseException:  # no room, or a signal: nobody may wait for a holder that is not
            lease.unlink(missing_ok=True)
            raise
        finally:
            os.close(made)

    def _renew(self) -> None:
        """One thread for all leases, one after the other: to start one costs as much as a small shard."""
        while True:
            time.sleep(self._lifetime / 4)
            with self._lock:
                if not self._mine:
                    self._renewer = None
                    return
                held = list(self._mine) if self._working() else []
            for lease in held:
                with suppress(OSError):  # taken over by someone who found us too slow: no harm
                    os.utime(lease)

    def _now(self) -> float:
        """Now by the clock that stamps the leases, the file system's: that of this machine may be off."""
        probe = self._folder / f".now.{self._token}.{threading.get_ident()}"
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink(missing_ok=True)
        return now

    @staticmethod
    def _age(lease: Path, now: float) -> float | None:
        try:
            # a stamp from the future, by a clock that was off, ages like any other from the moment it is seen
            return abs(now - lease.stat().st_mtime)
        except FileNotFoundError:
            return None

    @staticmethod
    def _holder(lease: Path) -> str:
        try:
            return lease.read_text(errors="replace").partition("\n")[0]
        except FileNotFoundError:
            return ""


@cache
def _here() -> str:
    """This machine since it was started, and the namespace of its processes' numbers."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _began(process: int) -> str:
    """When a process was started, in ticks since the machine was; nothing for one that is no more."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]


def _is_dead(lease: Path) -> bool:
    """Whether the holder was a process of this machine, and is no more; nobody can tell of another machine's."""
    try:
        token, _, process = lease.read_text(errors="replace").partition("\n")
        here, _, began = process.rpartition(" ")
        return bool(_here()) and here == _here() and _began(int(token.rsplit(".", 2)[1])) != began
    except (OSError, ValueError, IndexError):
        return False
