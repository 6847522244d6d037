"""Run under mpiexec by test_ranks.py: the merge tree of each field in a folder, saved by rank 0.

Given numbers of ranks, each of them in turn: by that many of the ranks, while the others wait.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from landscaper_hpc.parallel.comm import Comm, MpiComm, SerialComm, world
from landscaper_hpc.topology.blocks.distributed import merge_tree_blocks
from landscaper_hpc.topology.readers import NpyReader, Region


class Slice:
    """A reader that fails on one rank, if asked to."""

    def __init__(self, path: Path, fail: bool) -> None:
        self._reader = NpyReader(path)
        self.shape, self.dtype, self._fail = self._reader.shape, self._reader.dtype, fail

    def read(self, region: Region) -> np.ndarray:
        if self._fail:
            raise OSError("the disk of this rank is gone")
        return self._reader.read(region)


def main() -> None:
    folder = Path(sys.argv[1])
    everyone = world()
    for ranks in [int(number) for number in sys.argv[2:]] or [everyone.size]:
        comm = first(ranks, everyone)
        if everyone.rank < ranks:
            trees(folder, comm)
        everyone.meet()


def first(ranks: int, everyone: Comm) -> Comm:
    """That many of the ranks among themselves."""
    if ranks == everyone.size:
        return everyone
    from mpi4py import MPI

    part = MPI.COMM_WORLD.Split(everyone.rank < ranks, everyone.rank)
    return SerialComm() if ranks == 1 else MpiComm.of(part)


def trees(folder: Path, comm: Comm) -> None:
    for case in json.loads((folder / "cases.json").read_text()):
        result = merge_tree_blocks(
            Slice(folder / case["field"], case.get("fail") == comm.rank),
            case["connectivity"],
            case["direction"],
            block_shape=tuple(case["block"]) if case["block"] else None,
            threads=1,
            comm=comm,
        )
        assert (result.tree is not None) == (comm.rank == 0)
        if result.tree is not None:
            assert len(result.stats) == comm.size
            np.savez(folder / f"{case['name']}.{comm.size}.npz", **result.tree.to_arrays())


if __name__ == "__main__":
    main()
