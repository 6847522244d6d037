"""What a process uses of a node: its GPU, by its rank there, and memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

from landscaper_hpc.errors import InputError

if TYPE_CHECKING:
    import torch

LOCAL_RANK = "LANDSCAPER_HPC_LOCAL_RANK"
"""Set for the workers of a process pool; the others are set by Slurm, Open MPI, MPICH and PALS."""

_LOCAL_RANKS = (LOCAL_RANK, "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PALS_LOCAL_RANKID", "SLURM_LOCALID")


def local_device(device: str, of: int = 1, member: int = 0) -> str:
    """`cuda` becomes the GPU of this process, `cuda:<rank on the node>` modulo the GPUs it sees; others stay.
    Of a group of so many processes, that have as many next to each other, that of a `member` (0, 1, …).

    The choice is made here and not by the scheduler: binding a rank to its GPU there hides the others, which breaks
    CUDA-aware MPI at some sites.
    """
    if device != "cuda":
        return device
    import torch

    rank = next((int(os.environ[name]) for name in _LOCAL_RANKS if os.environ.get(name, "").isdigit()), 0)
    seen = torch.cuda.device_count()
    if of > max(1, seen):
        raise InputError(f"gpus_per_model is {of} but torch sees {seen} CUDA devices; ask for as many on a node")
    return f"cuda:{(rank * of + member) % max(1, seen)}"


_KEPT = 256 << 20
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # <malloc.h>
_LARGEST = 32 << 20  # that glibc takes for the first


def keep_freed_memory() -> None:
    """Let this process keep what it frees, up to 256 MB: results of the same size are needed for the next point, and
    pages that go back to the system and come again cost as much time as a convolution. Does nothing without glibc."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on a CPU (where torch has no class of its own for it)."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


class Peak:
    """The most memory that this process has taken on a device since the object was made, above what it held then: of
    a GPU what torch allocated, of a CPU what was resident."""

    def __init__(self, device: torch.device) -> None:
        import psutil
        import torch

        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = int(torch.cuda.memory_allocated(device))
        else:
            with contextlib.suppress(OSError):  # then the peak counts from the start of the process: on the safe side
                Path("/proc/self/clear_refs").write_text("5")  # the kernel's own peak begins anew
            self._before = int(psutil.Process().memory_info().rss)

    def bytes(self) -> int:
        import torch

        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device)) - self._before
        return max(0, peak_resident() - self._before)

    def free(self) -> int:
        """What is free now."""
        return free_bytes(self._device)


def free_bytes(device: torch.device) -> int:
    """What is free on a device now."""
    import psutil
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def peak_resident() -> int:
    """The most memory that this process ever had, in bytes."""
    import resource
    import sys

    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def usable_device(device: str) -> torch.device:
    """The device of that name; `InputError` where there is none."""
    import torch

    try:
        result = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device is {device!r}; choose cpu, cuda or cuda:<number>") from error
    if result.type == "cuda" and (result.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device is {device!r} but torch sees {torch.cuda.device_count()} CUDA devices; "
            "use cpu, or check the driver"
        )
    return result
