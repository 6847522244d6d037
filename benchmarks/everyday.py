"""What somebody meets who tries the tool: how near losses come to a model's own best rate, and what a command takes.

    python benchmarks/everyday.py            # all of it
    python benchmarks/everyday.py share      # of each model of `zoo.EVERYDAY`
    python benchmarks/everyday.py way        # from command to report, Landscaper's script beside it
    python benchmarks/everyday.py plan       # the rate that `plan` tells against the one that a run has

A model's best is the quickest of its plain call, channels last, and batches of 64, 128 and 256. Everything is
processor time (user and system, of the whole tree of processes), which other load on the machine changes less than wall
time. What is compared takes turns, with one thread; the quickest call counts. A loss at the checkpoint that is not the
plain one ends it.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
from models import Problem
from torch.utils import _pytree as pytree
from zoo import EVERYDAY

from landscaper_hpc.directions.directions import hessian_directions, random_directions
from landscaper_hpc.losses.evaluate import choose_batch, evaluation_mode, losses, prove_for
from landscaper_hpc.objective.data import examples_in, slabs
from landscaper_hpc.objective.device import keep_freed_memory
from landscaper_hpc.objective.objective import Objective, Task

POINTS, FEWEST = 961, 31
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
TASK = """
import sys
sys.path.insert(0, {benchmarks!r})
from zoo import EVERYDAY
from landscaper_hpc import Task

def task():
    model, data, loss = EVERYDAY[{name!r}]()
    return Task(model, loss, data)
"""
STUDY = """
name: of_zoo
task: task.py
checkpoints: [{{name: whole, file: whole.pt}}]
directions: {{kind: {directions}, n: 2}}
grid: {{range: 0.5, count: 31}}
precision: float32
"""
PLANNED = 5.0
"""Seconds that a run shall take which is held against `plan`."""


def side_by_side(calls: dict[str, Callable[[], object]], seconds: float = 3.0) -> dict[str, float]:
    """Processor seconds of the quickest call of each: they take turns, so that a busy machine is as busy for all."""
    found = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()
    began, rounds = time.process_time(), 0
    while rounds < 5 or time.process_time() - began < seconds:
        for name, call in calls.items():
            before = time.process_time()
            call()
            found[name] = min(found[name], time.process_time() - before)
        rounds += 1
    return found


def _times(n: int, call: Callable[[], object]) -> None:
    for _ in range(n):
        call()


def ways(problem: Problem) -> dict[str, Callable[[], object]]:
    """The ways to call a model that its user would try."""
    model, data, loss = problem
    found: dict[str, Callable[[], object]] = {"plain": lambda: [loss(model, batch) for batch in data]}
    called, laid = model, data
    if any(t.ndim == 4 for t in pytree.tree_leaves(data) if isinstance(t, torch.Tensor)):
        called = copy.deepcopy(model).to(memory_format=torch.channels_last)
        laid = pytree.tree_map(_laid, data)
        found["channels last"] = lambda: [loss(called, batch) for batch in laid]
    for size in (64, 128, 256):
        if all(size < (examples_in(batch) or 0) for batch in laid):
            parts = [part for batch in laid for part in slabs(batch, size)]
            found[f"batches of {size}"] = lambda parts=parts: [loss(called, part) for part in parts]
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
        with torch.no_grad():
            calls = ways(EVERYDAY[name]())
            expected = float(torch.stack([torch.as_tensor(v) for v in calls["plain"]()]).double().mean())  # type: ignore[attr-defined]
            once = min(side_by_side(calls, 0.5).values())
        model, data, loss = EVERYDAY[name]()
        objective = Objective(Task(model, loss, data), precision="float32")
        directions = random_directions(objective, 2)
        points = np.random.default_rng(0).uniform(-0.3, 0.3, (POINTS, 2))
        prove_for(objective, directions, np.array([[-0.3, -0.3], [0.3, 0.3]]))
        batch = choose_batch(objective, directions, points=POINTS)
        mode = evaluation_mode(objective, directions, batch)
        value = float(losses(objective, directions, np.zeros((1, 2)), batch)[0])
        if not abs(value - expected) <= 1e-5 * abs(expected):  # NaN neither
            raise SystemExit(f"{name}: the loss is {value!r} for {expected!r}")
        # as many as a small study's shards hold, since a call costs something by itself
        few = points[: max(1, round(max(FEWEST, min(POINTS, 0.03 / once)) / batch)) * batch]
        # as many of each: the quickest of short calls meets less of other work than that of long ones
        repeated = {way: partial(_times, len(few), call) for way, call in calls.items()}
        with torch.no_grad():
            whole = side_by_side(repeated | {"ours": partial(losses, objective, directions, few, batch)})
        times = {way: spent / len(few) for way, spent in whole.items()}
        ours = times.pop("ours")
        way = min(times, key=times.__getitem__)
        shares.append(times[way] / ours)
        print(
            f"{name:25s} plain {1e3 * times['plain']:8.3f} ms   best {1e3 * times[way]:8.3f} ({way})   "
            f"ours {1e3 * ours:8.3f} (batches of {batch}; {mode})   share {shares[-1]:.2f}",
            flush=True,
        )
    print(f"geometric mean of {len(shares)}: {np.exp(np.mean(np.log(shares))):.2f}")


def way() -> None:
    adopt_orphans()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        command("init", folder / "first")
        for label, study in (
            ("the study of init", folder / "first/study.yaml"),
            ("digits, 31 × 31", _study(folder / "digits", "digits", "hessian")),
        ):
            out = folder / study.parent.name / "run"
            for what, words in (
                (f"plan, {label}", ("plan", study)),
                (f"run, {label}", ("run", study, "--out", out)),
                (f"run again, {label}", ("run", study, "--out", out)),
                (f"report, {label}", ("report", out)),
            ):
                spent, wall = command(*words)
                print(f"{what:35s} {spent:6.2f} s of processor time   {wall:6.2f} s", flush=True)
        spent, wall = timed(peers.command("way", {"steps": 31}))
        print(f"{'Landscaper, digits, 31 × 31':35s} {spent:6.2f} s of processor time   {wall:6.2f} s", flush=True)
        command("run", _fifty(folder), "--out", folder / "fifty/run")
        spent, wall = command("report", folder / "fifty/run")
        print(f"{'report, 50 landscapes':35s} {spent:6.2f} s of processor time   {wall:6.2f} s")
        began = os.times()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        print(f"{'import torch':35s} {_children(os.times()) - _children(began):6.2f} s of processor time")


def eigenvectors() -> None:
    """The top two of the small CNN's Hessian, in a process that has torch."""
    model, data, loss = EVERYDAY["digits"]()
    began = time.process_time()
    objective = Objective(Task(model, loss, data), precision="float32")
    found = hessian_directions(objective, 2)
    spent, products = time.process_time() - began, found.iterations
    print(f"{'top 2 eigenvectors, digits':35s} {spent:6.2f} s of processor time   ({products} products)", flush=True)


def _fifty(folder: Path) -> Path:
    """The network of `init` fifty times, so that there are fifty landscapes on one page."""
    inside = folder / "fifty"
    shutil.copytree(folder / "first", inside, ignore=shutil.ignore_patterns("run"))
    one = "{name: c%d, file: checkpoints/trained.pt, options: {hidden: 16}}"
    study = f"""
name: fifty
task: task.py
checkpoints: [{", ".join(one % i for i in range(50))}]
directions: {{kind: random, n: 2}}
grid: {{range: 0.5, count: 31}}
batch: 32
"""
    (inside / "study.yaml").write_text(study)
    return inside / "study.yaml"


def _study(folder: Path, name: str, directions: str) -> Path:
    """A study of one of the zoo's models."""
    folder.mkdir()
    (folder / "task.py").write_text(TASK.format(benchmarks=str(Path(__file__).parent), name=name))
    (folder / "study.yaml").write_text(STUDY.format(directions=directions))
    torch.save(EVERYDAY[name]()[0].state_dict(), folder / "whole.pt")
    return folder / "study.yaml"


def planned(names: list[str]) -> None:
    """The rate that `plan` tells, and the one between the first shard and the last of a run in one process."""
    ratios = []
    with tempfile.TemporaryDirectory() as scratch:
        for i, name in enumerate(names or EVERYDAY):
            study = _study(Path(scratch) / str(i), name, "random")
            told, spent = _plan(study)
            count = min(101, max(7, 2 * round((PLANNED * told) ** 0.5 / 2) + 1))
            run = ["--set", f"grid.count={count}", "--set-site", f"shard_points={count * max(1, count // 10)}"]
            command("run", study, *run, "--executor", "serial", "--out", study.parent / "run")
            (done,) = (study.parent / "run/study.zarr/whole").glob("done")
            ends = sorted(path.stat().st_mtime for path in done.rglob("c.*") if path.is_file())
            points = count**2 * (len(ends) - 1) / len(ends)
            met = points / (ends[-1] - ends[0])
            ratios.append(told / met)
            print(
                f"{name:25s} told {told:10.4g} points/s in {spent:4.1f} s   met {met:10.4g}   ratio {ratios[-1]:.2f}",
                flush=True,
            )
    worst = max(ratios, key=lambda ratio: abs(np.log(ratio)))
    print(f"of {len(ratios)}: the worst {worst:.2f}")


def _plan(study: Path) -> tuple[float, float]:
    began = time.monotonic()
    program = str(Path(sys.executable).with_name("landscaper-hpc"))
    said = subprocess.run([program, "plan", str(study), "--json"], check=True, capture_output=True, text=True).stdout
    return float(json.loads(said)["points_per_second"]), time.monotonic() - began


def command(*words: object) -> tuple[float, float]:
    """Processor and wall seconds of a command: the former of all processes that it starts, those too that it does not
    wait for, as the one that workers are forked from."""
    return timed([str(Path(sys.executable).with_name("landscaper-hpc")), *map(str, words)])


def timed(words: list[str]) -> tuple[float, float]:
    before, began = os.times(), time.monotonic()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.monotonic() - began
    with suppress(ChildProcessError):
        while True:
            os.wait()
    return _children(os.times()) - _children(before), wall


def adopt_orphans() -> None:
    """Let what a command leaves behind become a child of this process (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _children(times: Any) -> float:
    return float(times.children_user + times.children_system)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("share", "way", "plan"))
    parser.add_argument("--models", nargs="*", default=[], choices=list(EVERYDAY))
    asked = parser.parse_args()
    if asked.what in (None, "share"):
        share(asked.models)
    if asked.what in (None, "way"):
        eigenvectors()
        way()
    if asked.what in (None, "plan"):
        planned(asked.models)
