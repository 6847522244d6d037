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

from landscaper_hpc.topology.blocks.distributed import merge_tree_blocks
from landscaper_hpc.topology.readers import ArrayReader
from tests.kinds import slow
from tests.mpi.test_ranks import ROOT

pytestmark = pytest.mark.processes

PROGRAM = """
import json, sys
from pathlib import Path
from landscaper_hpc.errors import InputError
from landscaper_hpc.topology.blocks.distributed import merge_tree_blocks
from landscaper_hpc.topology.blocks.labels import ZarrLabels
from landscaper_hpc.topology.readers import NpyReader
from landscaper_hpc.topology.blocks.stats import peak_memory
path, limit = Path(sys.argv[1]), int(sys.argv[2]) or None
labels = ZarrLabels(path.with_suffix(".zarr")) if sys.argv[3] == "labels" else None
try:
    block = (8, 29, 29, 29, 29) if labels else None
    found = merge_tree_blocks(NpyReader(path), labels=labels, block_shape=block, max_memory=limit, threads=1)
    print(json.dumps([peak_memory(), found.planned_bytes, found.boxes.size, found.tree.n_minima]))
except InputError as error:
    print(json.dumps([peak_memory(), str(error)]))
"""


@pytest.fixture(autouse=True, scope="module")
def _compiled() -> None:
    """Not in a process that is measured: the compiler takes memory of its own, once on each host."""
    merge_tree_blocks(ArrayReader(np.zeros((3,) * 5, "f4")), block_shape=(2,) * 5, threads=1)


def measured(path: Path, limit: int, labels: str = "") -> Any:
    command = [sys.executable, "-c", PROGRAM, str(path), str(limit), labels]
    done = subprocess.run(command, check=True, cwd=ROOT, timeout=280, stdout=subprocess.PIPE, text=True)
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


def test_the_peak_stays_below_the_plan_with_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", separable())
    peak, planned, blocks, _ = measured(tmp_path / "f.npy", 0, "labels")
    assert blocks == 4
    assert peak <= planned < 600_000_000


def test_a_field_that_is_rough_where_nobody_looked_is_refused_before_it_takes_the_memory(tmp_path: Path) -> None:
    field = separable()
    field[19:21] = np.random.default_rng(0).random((2, *field.shape[1:]), "f4")
    np.save(tmp_path / "f.npy", field)
    limit = 240_000_000
    peak, message = measured(tmp_path / "f.npy", limit)
    assert f"max-memory is {limit} bytes" in message and "minima" in message
    assert peak <= limit
    peak, _, _, minima = measured(tmp_path / "f.npy", 480_000_000)
    assert minima > 100_000
    assert peak <= 480_000_000


CONTOUR = """
import sys
import numpy as np
from landscaper_hpc.topology import contour_tree
rng = np.random.default_rng(0)
field = rng.random((41,) * 4, "f4")
if sys.argv[1] == "ties":
    field = np.floor(10 * field)
if sys.argv[1] == "plateau":
    field[field < 0.7] = 0.5
if sys.argv[1] == "nan":
    field[rng.random(field.shape, "f4") < 0.01] = np.nan
contour_tree(field[:5, :5, :5, :5].copy(), threads=2)

def status(key):
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))

before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
contour_tree(field, threads=2)
print((status("VmHWM") - before) / field.nbytes + 1)
"""


# ties are more on a plateau
@pytest.mark.parametrize(("field", "arrays"), [("noise", 12), slow("ties", 12), ("nan", 12), ("plateau", 12)])
def test_a_contour_tree_takes_so_many_times_its_field(field: str, arrays: float) -> None:
    done = subprocess.run([sys.executable, "-c", CONTOUR, field], check=True, cwd=ROOT, stdout=subprocess.PIPE)
    assert float(done.stdout) <= arrays
