"""Run beside tests that begin where no kernel is compiled yet: compiles those of the merge tree, the rare ones first.

All processes of tests come to the same kernels in the same order, and would wait for one that compiles them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]


def main() -> None:
    from landscaper_hpc.topology.blocks.distributed import merge_tree_blocks
    from landscaper_hpc.topology.readers import NpyReader
    from tests.mpi.test_ranks import cases

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "field.npy"
        for case, field in reversed(cases()):
            np.save(path, field)
            block = tuple(case["block"]) if case["block"] else None
            merge_tree_blocks(NpyReader(path), case["connectivity"], case["direction"], block_shape=block, threads=1)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    main()
