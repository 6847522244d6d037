"""Which GPU a process uses: one process per GPU, by its rank on the node."""

from __future__ import annotations

import os

LOCAL_RANK = "LANDSCAPER_HPC_LOCAL_RANK"
"""Set for the workers of a process pool; the others are set by Slurm, Open MPI, MPICH and PALS."""

_LOCAL_RANKS = (LOCAL_RANK, "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PALS_LOCAL_RANKID", "SLURM_LOCALID")


def local_device(device: str) -> str:
    """`cuda` becomes the GPU of this process, `cuda:<rank on the node>` modulo the GPUs it sees; others stay.

    The choice is made here and not by the scheduler: binding a rank to its GPU there hides the others, which breaks
    CUDA-aware MPI at some sites.
    """
    if device != "cuda":
        return device
    import torch

    rank = next((int(os.environ[name]) for name in _LOCAL_RANKS if os.environ.get(name, "").isdigit()), 0)
    return f"cuda:{rank % max(1, torch.cuda.device_count())}"
