"""What somebody meets who tries the tool: how near losses come to a model's own best rate, and what a command takes.

    python benchmarks/everyday.py            # both
    python benchmarks/everyday.py share      # of each model of `models.EVERYDAY`
    python benchmarks/everyday.py way        # from command to report

A model's best is the quickest of its plain call, channels last, and batches of 64, 128 and 256. Everything is processor
time (user and system, of the whole tree of processes), which other load on the machine changes less than wall time; the
best of a second's calls, with one thread.
"""

from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import EVERYDAY, Problem
from torch.utils import _pytree as pytree

from landscaper_hpc.directions.directions import random_directions
from landscaper_hpc.losses.evaluate import choose_batch, losses, prove_for
from landscaper_hpc.objective.device import keep_freed_memory
from landscaper_hpc.objective.objective import Objective, Task

POINTS = 961
DIGITS = """
import sys
sys.path.insert(0, {benchmarks!r})
from models import digits
from landscaper_hpc import Task

def task():
    model, data, loss = digits()
    return Task(model, loss, data)
"""
STUDY = """
name: digits
task: task.py
checkpoints: [{name: digits, file: digits.pt}]
directions: {kind: hessian, n: 2}
grid: {range: 0.5, count: 31}
precision: float32
"""


def best(call: Callable[[], object], seconds: float = 1.0) -> float:
    """Processor seconds of the quickest call."""
    call()
    found, began, calls = float("inf"), time.process_time(), 0
    while calls < 3 or time.process_time() - began < seconds:
        before = time.process_time()
        call()
        found, calls = min(found, time.process_time() - before), calls + 1
    return found


def ways(problem: Problem) -> dict[str, Callable[[], object]]:
    """The ways to call a model that its user would try."""
    model, data, loss = problem
    found: dict[str, Callable[[], object]] = {"plain": lambda: [loss(model, batch) for batch in data]}
    images = any(t.ndim == 4 for t in pytree.tree_leaves(data))
    if images:
        last = copy.deepcopy(model).to(memory_format=torch.channels_last)
        laid = pytree.tree_map(_laid, data)
        found["channels last"] = lambda: [loss(last, batch) for batch in laid]
    for size in (64, 128, 256):
        pairs = all(isinstance(batch, tuple) and isinstance(batch[1], torch.Tensor) for batch in data)
        if pairs and len(data[0][0]) > size:
            parts = [
                part for x, y in (laid if images else data) for part in zip(x.split(size), y.split(size), strict=True)
            ]
            called = last if images else model
            found[f"batches of {size}"] = lambda parts=parts, called=called: [loss(called, part) for part in parts]
    return found


def _laid(t: torch.Tensor) -> torch.Tensor:
    if t.ndim != 4:
        return t
    c, h, w = t.shape[1:]
    return torch.empty_strided(t.shape, (c * h * w, 1, c * w, c), dtype=t.dtype).copy_(t)


def share(names: list[str]) -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    shares = []
    for name in names or EVERYDAY:
        problem = EVERYDAY[name]()
        with torch.no_grad():
            theirs = {way: best(call) for way, call in ways(problem).items()}
        model, data, loss = EVERYDAY[name]()
        objective = Objective(Task(model, loss, data), precision="float32")
        directions = random_directions(objective, 2)
        points = np.random.default_rng(0).uniform(-0.3, 0.3, (64, 2))
        prove_for(objective, directions, np.array([[-0.3, -0.3], [0.3, 0.3]]))
        batch = choose_batch(objective, directions, points=POINTS)
        few = points[: max(batch, min(64, int(0.2 / min(theirs.values())) + 1))]
        ours = best(partial(losses, objective, directions, few, batch)) / len(few)
        way = min(theirs, key=theirs.__getitem__)
        shares.append(theirs[way] / ours)
        print(
            f"{name:25s} plain {1e3 * theirs['plain']:8.3f} ms   best {1e3 * theirs[way]:8.3f} ({way})   "
            f"ours {1e3 * ours:8.3f} (batches of {batch})   share {shares[-1]:.2f}",
            flush=True,
        )
    print(f"geometric mean of {len(shares)}: {np.exp(np.mean(np.log(shares))):.2f}")


def way() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        command("init", folder / "first")
        for label, study in (("the study of init", folder / "first/study.yaml"), ("digits, 31 × 31", _digits(folder))):
            out = folder / study.parent.name / "run"
            for what, words in (
                (f"plan, {label}", ("plan", study)),
                (f"run, {label}", ("run", study, "--out", out)),
                (f"run again, {label}", ("run", study, "--out", out)),
            ):
                spent, wall = command(*words)
                print(f"{what:35s} {spent:6.2f} s of processor time   {wall:6.2f} s", flush=True)
        began = os.times()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        print(f"{'import torch':35s} {_children(os.times()) - _children(began):6.2f} s of processor time")


def _digits(folder: Path) -> Path:
    inside = folder / "digits"
    inside.mkdir()
    (inside / "task.py").write_text(DIGITS.format(benchmarks=str(Path(__file__).parent)))
    (inside / "study.yaml").write_text(STUDY)
    torch.save(EVERYDAY["digits"]()[0].state_dict(), inside / "digits.pt")
    return inside / "study.yaml"


def command(*words: object) -> tuple[float, float]:
    """Processor and wall seconds of a command, with all processes that it starts."""
    before, began = os.times(), time.monotonic()
    subprocess.run(
        [str(Path(sys.executable).with_name("landscaper-hpc")), *map(str, words)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return _children(os.times()) - _children(before), time.monotonic() - began


def _children(times: Any) -> float:
    return float(times.children_user + times.children_system)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("share", "way"))
    parser.add_argument("--models", nargs="*", default=[], choices=list(EVERYDAY))
    asked = parser.parse_args()
    if asked.what in (None, "share"):
        share(asked.models)
    if asked.what in (None, "way"):
        way()
