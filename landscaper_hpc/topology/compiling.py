"""The first run on a machine compiles all kernels, which takes longer than a small study: a process beside shares that.

It begins at the end of what a landscape's numbers need, so that it meets the run, which begins at the start, half-way;
kernels have a lock each (see `kernels.compiled`).
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numba
import numpy as np

from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.topology.kernels.compiled import cache_folder


def marker() -> Path:
    """The file that is there once `compile_all`, or whoever had it done beside, came to its end on this host, for this
    installation."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    stamps = [[str(file), file.stat().st_mtime_ns, file.stat().st_size] for file in files]
    return cache_folder() / f"all_{canonical_sha256([numba.__version__, stamps])[:16]}"


def is_compiled() -> bool:
    """Whether that is so."""
    return marker().exists()


@contextmanager
def compiled_beside(tell: Callable[[str], object]) -> Iterator[None]:
    """Where this host has not compiled everything yet, tell so, and have it done by another process, which ends with
    this at the latest; by one at a time, whoever began it. What was needed inside is compiled then, and the next one
    needs little else."""
    with ExitStack() as stack:
        if not is_compiled():
            tell("compiling what merge trees need, once on this machine: up to a minute, beside the rest")
            with suppress(OSError):  # another process is at it, or there is no room for one: nothing waits for it
                lock = stack.enter_context((cache_folder() / "lock_all").open("a"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "landscaper_hpc.topology.compiling"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[lock.fileno()],
                )
                stack.callback(process.wait)
                stack.callback(process.kill)
        yield
        _mark()


def compile_all() -> None:
    """Compile or load all that the numbers of a landscape need, what is needed last first."""
    from landscaper_hpc.topology import contour, topopy
    from landscaper_hpc.topology.blocks import distributed
    from landscaper_hpc.topology.merge import merge_tree
    from landscaper_hpc.topology.profile import landscape_profile

    topopy.compile_kernels()
    contour.compile_kernels()
    distributed.compile_kernels("axis", np.dtype(np.float64))
    field = np.array([[0.0, 3.0], [2.0, 1.0]])
    landscape_profile(field, merge_tree(field, labels=True))
    _mark()


def _mark() -> None:
    with suppress(OSError):  # a full disk: it is done again next time
        marker().touch()


if __name__ == "__main__":
    compile_all()
