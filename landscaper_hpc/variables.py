"""Variables of the environment, and the current folder, that packages read as they are imported, and may end by.

What cannot hurt is put right; what can be told at once is told before anything is spent; the rest where it happens.
"""

from __future__ import annotations

import os
import resource
import traceback
from pathlib import Path

from landscaper_hpc.errors import InputError, is_users

_LEAST_MEMORY = 500_000_000
"""Bytes of addresses: where fewer may be had, OpenBLAS waits for ever for more, as numba loads it."""

_BEGINNINGS = {"torch": ("TORCH", "PYTORCH"), "numba": ("NUMBA",), "matplotlib": ("MPL", "MATPLOTLIB")}


def number(name: str, default: int = 0) -> int:
    """What a variable says, where that is a whole number from 0 on; the default where it says anything else."""
    value = os.environ.get(name, "")
    return int(value) if value.isascii() and value.isdigit() else default


def settle() -> None:
    """To be called before anything is imported that reads them; `InputError` for what some package will refuse when it
    is needed at last."""
    try:
        Path.cwd()
    except FileNotFoundError:  # MKL ends the process in words of its own
        raise InputError("the folder that this was started in is gone; change into one that is there (cd)") from None
    if "MPLBACKEND" in os.environ:
        os.environ["MPLBACKEND"] = "agg"  # figures become files; a name that matplotlib does not know ends its import
    memory = resource.getrlimit(resource.RLIMIT_AS)[0]
    if resource.RLIM_INFINITY != memory < _LEAST_MEMORY:
        raise InputError(
            f"a process may have {memory / 1e6:,.0f} MB of memory here, and loading numerical packages hangs or ends "
            f"halfway with less than {_LEAST_MEMORY / 1e6:.0f} MB; raise the limit (ulimit -v)"
        )
    threads = os.environ.get("NUMBA_NUM_THREADS")
    if threads is not None and not (threads.strip().isdecimal() and int(threads) > 0):
        raise InputError(
            f"NUMBA_NUM_THREADS={threads} in the environment: numba needs a number from 1 on; correct or unset it"
        )


def refused(error: BaseException) -> str:
    """An import that failed, in a sentence with the variables that may be to blame; nothing for other errors, and
    where no such variable is set."""
    frames = traceback.extract_tb(error.__traceback__)
    if any(is_users(frame.filename) for frame in frames):
        return ""
    for frame in frames:
        parts = Path(frame.filename).parts
        inside = [parts[i + 1] for i, part in enumerate(parts[:-1]) if part in ("site-packages", "dist-packages")]
        if frame.name != "<module>" or not inside or inside[-1] not in _BEGINNINGS:
            continue
        beginnings = _BEGINNINGS[inside[-1]]
        found = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(beginnings)]
        if found:
            # torch answers with pages
            why = " ".join(f"{type(error).__name__}: {error}".split())[:120]
            return (
                f"{inside[-1]} cannot be imported with {', '.join(found)} in the environment ({why}); correct or unset "
                f"{'it' if len(found) == 1 else 'the wrong one of them'}"
            )
    return ""
