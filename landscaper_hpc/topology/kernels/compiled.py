"""Compilation, once per node: kernels are cached on disk, and whoever compiles one holds its lock; who loads, none.

numba's cache has no lock of its own: two processes that compile a kernel at the same time can leave an index that names
the other's code. So the cache of each host is a folder of its own, also where the home directory is shared between
nodes, and its processes take turns, kernel by kernel.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numba
from llvmlite import ir
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from landscaper_hpc.digests import canonical_sha256

numba_config: Any = numba.config


@lru_cache(maxsize=1)
def cache_folder() -> Path:
    """$NUMBA_CACHE_DIR if it is set; otherwise the user's cache folder; otherwise one for this user among the temporary
    files. Code is loaded from there: a folder that is somebody else's, or that others may write to, is passed over, and
    one that cannot be written."""
    named = [Path(numba_config.CACHE_DIR)] if numba_config.CACHE_DIR else []
    # which expands to nothing where nobody knows of this user's home
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111
    usual = [base / "landscaper-hpc" / f"numba-{socket.gethostname()}"] if base.is_absolute() else []
    for folder in (*named, *usual):
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_ours_alone(folder):
                with tempfile.TemporaryFile(dir=folder):  # what may be written is not always what can
                    return folder
    folder = Path(tempfile.gettempdir()) / f"landscaper-hpc-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder if _is_ours_alone(folder) else Path(tempfile.mkdtemp(prefix="landscaper-hpc-"))


def _is_ours_alone(folder: Path) -> bool:
    found = folder.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def jit(function: Any) -> Any:
    """Compile on first call, without the interpreter lock, cached in `cache_folder`."""
    before = numba_config.CACHE_DIR
    numba_config.CACHE_DIR = str(cache_folder())
    try:
        with _jit_enabled():
            # without what C would call it by, which nobody does and which is a fifth of the compilation
            options: Any = {"nogil": True, "cache": True, "error_model": "numpy", "no_cfunc_wrapper": True}
            compiled: Any = numba.njit(**options)(function)
    finally:
        numba_config.CACHE_DIR = before
    _keep(compiled)
    return compiled


@contextmanager
def _jit_enabled() -> Iterator[None]:
    """As Python, kernels would be of other arithmetic, and parts of numba that they call be no kernels:
    NUMBA_DISABLE_JIT is for the user's own code."""
    before, numba_config.DISABLE_JIT = numba_config.DISABLE_JIT, 0
    try:
        yield
    finally:
        numba_config.DISABLE_JIT = before


def _keep(compiled: Any) -> None:
    """See to it that what one process compiles the others of this host load."""
    cache, compile_one = compiled._cache, compiled.compile
    load, save = cache.load_overload, cache.save_overload
    # numba gives a file of code the name of an older one of another source, and the index that says so is there first
    file = cache._cache_file
    source = canonical_sha256([numba.__version__, repr(file._source_stamp)])[:16]
    file._data_name_pattern = file._data_name_pattern.replace("{number", f"{source}.{{number")
    turn = _Turn(file._index_path)

    def compile_in_turn(signature: Any) -> Any:
        with global_compiler_lock, turn, _jit_enabled():
            return compile_one(signature)

    def load_or_take_turn(*what: Any) -> Any:
        found = load(*what)
        if found is None and turn.take():
            found = load(*what)  # meanwhile somebody else may have compiled it
        return found

    def save_if_possible(*what: Any) -> None:
        with suppress(OSError):  # a full disk: then it is compiled again next time
            save(*what)

    compiled.compile, cache.load_overload, cache.save_overload = compile_in_turn, load_or_take_turn, save_if_possible


class _Turn:
    """The turn to compile one kernel, among the processes of this host that run the same installation: numba keeps the
    code of others apart. Whoever has it may wait for the turns of kernels that this one calls, which call no others
    that call it: nobody waits in a circle."""

    def __init__(self, index: str) -> None:
        self._name = f"lock_{canonical_sha256(index)[:16]}"
        self._depth = 0
        self._lock: IO[str] | None = None

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if not self._depth and self._lock:
            self._lock.close()
            self._lock = None

    def take(self) -> bool:
        """Wait for it. Whether it had to be taken; not on a file system without locks, or a full one."""
        if self._lock is None:
            with suppress(OSError):
                lock = (cache_folder() / self._name).open("a")
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._lock = lock
                return True
        return False


def _lowest_bit(context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return numba.int64(numba.uint64), generate


lowest_bit: Any = intrinsic(_lowest_bit)
"""For compiled functions: the number of the lowest bit of a 64-bit word that is not zero."""
