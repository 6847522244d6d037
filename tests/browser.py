"""Chromium for tests: the one of this machine, or Debian's package where root may install it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 300


def chromium() -> str | None:
    """Where it is; None where it is not, and cannot be installed."""
    found = _found()
    if found is not None or os.getuid() != 0 or shutil.which("apt-get") is None:
        return found
    # the lock of slurm/testbed/packages.py: two of apt-get at once disturb each other
    lock = os.open(Path("/usr/sbin"), os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _found() is None:
            _apt("update")
            _apt("install", "--yes", "--no-install-recommends", "chromium")
    except (subprocess.SubprocessError, OSError):
        return None
    finally:
        os.close(lock)
    return _found()


def _found() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


def _apt(*arguments: str) -> None:
    command = ["apt-get", "-qq", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=_SECONDS)
