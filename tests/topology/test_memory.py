"""`--max-memory` holds: peaks of processes of their own, with limits below what is planned for the field at once.

On noise most of the memory is the tree, which no cut makes smaller: there the plan is cautious, and blocks save little.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.mpi.test_ranks import ROOT

PROGRAM = """
import json, sys
from pathlib import Path
from landscaper_hpc.topology.distributed import merge_tree_blocks, peak_memory
from landscaper_hpc.topology.readers import NpyReader
limit = int(sys.argv[2]) or None
found = merge_tree_blocks(NpyReader(Path(sys.argv[1])), max_memory=limit, threads=1)
print(json.dumps([peak_memory(), found.planned_bytes, found.boxes.size, found.tree.n_minima]))
"""


def measured(path: Path, limit: int) -> Any:
    command = [sys.executable, "-c", PROGRAM, str(path), str(limit)]
    done = subprocess.run(command, check=True, cwd=ROOT, timeout=100, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def separable() -> Any:
    # nearly every descent from a face leaves the block
    x = np.linspace(-1, 1, 29)
    along = [(0.5 * x**2 + 0.3 * np.cos(7 * x + d)).astype("f4") for d in range(5)]
    return sum(a.reshape([-1 if d == i else 1 for d in range(5)]) for i, a in enumerate(along))


@pytest.mark.parametrize(
    ("field", "limit"),
    [
        (separable, 240_000_000),
        (lambda: np.random.default_rng(0).random((19,) * 5, "f4"), 330_000_000),
    ],
    ids=["separable", "noise"],
)
def test_the_peak_stays_below_the_limit(field: Any, limit: int, tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", field())
    free_peak, _, _, free_minima = measured(tmp_path / "f.npy", 0)
    peak, planned, blocks, minima = measured(tmp_path / "f.npy", limit)
    assert blocks > 1
    assert planned <= limit
    assert peak <= limit
    assert minima == free_minima
    if field is separable:
        assert free_peak > 1.2 * limit
