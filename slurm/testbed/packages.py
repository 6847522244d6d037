"""Slurm and what it needs, from Debian's packages."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from errors import Refused, TestbedError

PACKAGES = [
    "slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge", "slurmdbd", "mariadb-server",
    "slurm-wlm-mysql-plugin", "libpmix2", "iproute2", "util-linux",
]  # fmt: skip
_PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb-install-db", "sbatch", "ip", "nsenter")
_POLICY = Path("/usr/sbin/policy-rc.d")


def refuse_where_impossible() -> None:
    _refuse_other_systems()
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        raise Refused(f"{', '.join(missing)} not found; `testbed install` installs what is needed")


def install() -> None:
    """Idempotent. No service is started, neither now nor by these packages. One at a time: while another one unpacks
    them, the programs are there and not yet what they need."""
    _refuse_other_systems()
    lock = os.open(_POLICY.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install()
    finally:
        os.close(lock)


def _install() -> None:
    if not all(map(shutil.which, _PROGRAMS)) or not _pmix() or _unfinished():
        if shutil.which("apt-get") is None:
            raise Refused("apt-get not found; only Debian and its relatives are supported")
        _apt("update")
        made = not _POLICY.exists()
        if made:
            _POLICY.write_text("#!/bin/sh\nexit 101\n")
            _POLICY.chmod(0o755)
        try:
            _apt("install", "--yes", "--no-install-recommends", *PACKAGES)
        finally:
            if made:
                _POLICY.unlink()
    for library in _pmix():
        name = library.with_name("libpmix.so")  # Slurm opens it by the name that only the -dev package brings
        if not name.exists():
            name.symlink_to(library.name)


def _refuse_other_systems() -> None:
    if os.uname().sysname != "Linux":
        raise Refused("the test cluster needs Linux namespaces")
    if os.getuid() != 0:
        raise Refused("the test cluster needs root: every node has its own network and processes")
    if shutil.which("unshare") is None:
        raise Refused("unshare not found; it is in Debian's util-linux")
    namespaces = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc"]
    done = subprocess.run(["unshare", *namespaces, "true"], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise Refused(f"root may not make namespaces here ({done.stderr.strip()}); a container needs --privileged")


def _pmix() -> list[Path]:
    return sorted(Path("/usr/lib").glob("*/pmix2/lib/libpmix.so.2"))


def _unfinished() -> bool:
    """Whether dpkg has begun with one of the packages, and neither finished nor removed it."""
    if shutil.which("dpkg-query") is None:
        return False
    ask = ["dpkg-query", "--show", "--showformat=${db:Status-Status}\n", *PACKAGES]
    states = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=False).stdout.split()
    return not {*states} <= {"installed", "not-installed", "config-files"}


def _apt(*arguments: str) -> None:
    command = ["apt-get", "-qq", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired:
        raise TestbedError(f"{' '.join(command[:6])} took longer than 10 minutes") from None
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()[-1:]
        raise TestbedError(f"apt-get {arguments[0]} failed: {' '.join(reasons)}")
