"""Compilation, once per node: kernels are cached on disk, and whoever compiles holds a lock.

numba's cache has no lock of its own: two processes that compile at the same time can leave an index that names the
other's code. So the cache of each host is a folder of its own, also where the home directory is shared between nodes,
and processes of one host that run the same installation take turns; numba keeps the code of others apart.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba.extending import intrinsic

from landscaper_hpc.digests import canonical_sha256

numba_config: Any = numba.config


@lru_cache(maxsize=1)
def cache_folder() -> Path:
    """$NUMBA_CACHE_DIR if it is set; otherwise the user's cache folder; otherwise one for this user among the temporary
    files. Code is loaded from there: a folder of somebody else's is passed over, and one that cannot be written."""
    named = [Path(numba_config.CACHE_DIR)] if numba_config.CACHE_DIR else []
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    for folder in (*named, base / "landscaper-hpc" / f"numba-{socket.gethostname()}"):
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if folder.stat().st_uid == os.getuid():
                with tempfile.TemporaryFile(dir=folder):  # what may be written is not always what can
                    return folder
    folder = Path(tempfile.gettempdir()) / f"landscaper-hpc-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        folder = Path(tempfile.mkdtemp(prefix="landscaper-hpc-"))
    return folder


def jit(function: Any) -> Any:
    """Compile on first call, without the interpreter lock, cached in `cache_folder`."""
    before = numba_config.CACHE_DIR, numba_config.DISABLE_JIT
    # as Python, kernels would be of other arithmetic: NUMBA_DISABLE_JIT is for the user's own code
    numba_config.CACHE_DIR, numba_config.DISABLE_JIT = str(cache_folder()), 0
    try:
        compiled: Any = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    finally:
        numba_config.CACHE_DIR, numba_config.DISABLE_JIT = before
    save = compiled._cache.save_overload

    def save_if_possible(*what: Any) -> None:
        with suppress(OSError):  # a full disk: then it is compiled again next time
            save(*what)

    compiled._cache.save_overload = save_if_possible
    return compiled


def _lowest_bit(context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return numba.int64(numba.uint64), generate


lowest_bit: Any = intrinsic(_lowest_bit)
"""For compiled functions: the number of the lowest bit of a 64-bit word that is not zero."""


@contextmanager
def compiling() -> Iterator[None]:
    """Hold the lock on what this host's cache keeps of this installation."""
    installation = canonical_sha256(__file__)
    with ExitStack() as stack:
        with suppress(OSError):  # a file system without locks, or a full one: then without
            lock = stack.enter_context((cache_folder() / f"lock_{installation}").open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
