from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import ranks

from landscaper_hpc.topology import MergeTree, merge_tree
from tests.topology.test_merge_tree import adversaries, assert_same_tree

pytestmark = pytest.mark.mpi
ROOT = Path(__file__).parents[2]


def mpiexec(ranks: int, *command: str, timeout: float = 600.0) -> subprocess.CompletedProcess[str]:
    beside = Path(sys.executable).with_name("mpiexec")
    launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
    if launcher is None:
        pytest.skip("no mpiexec")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [launcher, "-n", str(ranks), *command],
        capture_output=True, text=True, timeout=timeout, env=environment, check=False,
    )  # fmt: skip


def cases() -> list[tuple[dict[str, Any], np.ndarray]]:
    rng = np.random.default_rng(7)
    strange = rng.choice([0.0, -0.0, 1.0, 2.0, np.nan, np.inf, -np.inf], (7, 1, 6, 5))
    fields = {
        "noise": rng.random((9, 8, 7, 6)),
        "ties": rng.integers(0, 3, (12, 11, 5)).astype(np.float32),
        "strange": strange,
        "few": rng.random((3, 2)),  # fewer blocks than ranks
        **{name: adversaries()[name] for name in ("spiral", "ridge", "checkerboard", "one basin", "all NaN")},
    }
    blocks: dict[str, list[list[int] | None]] = {
        "noise": [None, [4, 3, 7, 2]],
        "ties": [None, [3, 4, 2]],
        "strange": [[2, 1, 3, 3]],
        "few": [None],
        "spiral": [None, [3, 3], [31, 1]],
        "ridge": [[5, 3]],
        "checkerboard": [[5, 4, 12]],
        "one basin": [None, [3, 60]],
        "all NaN": [[2, 2]],
    }
    found = []
    for name, field in fields.items():
        for i, block in enumerate(blocks[name]):
            for connectivity in ("axis", "full") if i == 0 else ("freudenthal",):
                case = {
                    "name": f"{name}-{i}-{connectivity}",
                    "field": f"{name}.npy",
                    "connectivity": connectivity,
                    "direction": "superlevel" if name == "ties" else "sublevel",
                    "block": block,
                }
                found.append((case, field))
    return found


RANKS = [1, 2, 3, 5]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trees of all cases by each number of ranks; started once, as starting takes longer than the trees."""
    folder = tmp_path_factory.mktemp("ranks")
    for case, field in cases():
        np.save(folder / case["field"], field)
    (folder / "cases.json").write_text(json.dumps([case for case, _ in cases()]))
    program = str(Path(__file__).with_name("ranks.py"))
    done = subprocess.run(
        ranks(max(RANKS), program, folder, *RANKS), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("number", RANKS)
def test_every_number_of_ranks_gives_the_same_bytes(saved: Path, number: int) -> None:
    for case, field in cases():
        with np.load(saved / f"{case['name']}.{number}.npz") as arrays:
            tree = MergeTree.from_arrays(dict(arrays))
        assert_same_tree(tree, merge_tree(field, case["connectivity"], case["direction"]))


def test_a_failing_rank_stops_all_with_its_error(tmp_path: Path) -> None:
    case, field = cases()[0]
    np.save(tmp_path / case["field"], field)
    (tmp_path / "cases.json").write_text(json.dumps([{**case, "fail": 2}]))
    done = mpiexec(3, sys.executable, str(Path(__file__).with_name("ranks.py")), str(tmp_path), timeout=300)
    assert done.returncode != 0
    assert "the disk of this rank is gone" in done.stderr
    assert "rank 2" in done.stderr


@pytest.mark.parametrize(
    ("launched", "said"),
    [
        ({"PMI_SIZE": "4"}, "the launcher started 4 ranks but MPI sees"),
        # MPICH itself would end the process, with an exit code of its own
        ({"SLURM_STEP_NUM_TASKS": "4", "PMIX_NAMESPACE": "a", "PMIX_RANK": "0"}, "by PMIx, which MPICH does not know"),
    ],
)
def test_ranks_that_do_not_find_each_other_are_refused(launched: dict[str, str], said: str) -> None:
    environment = {**os.environ, **launched, "PYTHONPATH": str(ROOT)}
    code = "from landscaper_hpc.parallel.comm import world; world()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode != 0
    assert said in done.stderr


def test_who_waits_for_the_others_leaves_them_the_processors() -> None:
    code = """
import time
from landscaper_hpc.parallel.comm import agree, world
ranks = world()
begin = time.process_time()
if ranks.rank == 0:
    time.sleep(2)
agree(ranks, None)
print(f"{time.process_time() - begin}\\n", end="", flush=True)  # in one piece: two ranks write
"""
    done = mpiexec(2, sys.executable, "-c", code, timeout=300)
    assert done.returncode == 0, done.stderr
    assert sum(map(float, done.stdout.split())) < 0.2
