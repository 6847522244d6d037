"""Points per second of loss evaluation, side by side with Landscaper 1.3.1 and with the model's own forward pass.

`python benchmarks/evaluation.py [--device cuda] [--only mlp pinn resnet20 transformer]` measures and writes
results/evaluation-<device>.json. Our side is what a study runs: one process per core (or per GPU), one thread each, a
batch shape found by measurement; start-up and measurement are not counted, on either side. Landscaper runs with its
default threads.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import models
import numpy as np
import peers
import torch

from landscaper_hpc.directions import random_directions
from landscaper_hpc.evaluate import choose_batch, losses
from landscaper_hpc.grid import Axis, Grid
from landscaper_hpc.objective import Objective, Task

RESULTS = Path(__file__).resolve().parent / "results"
SECONDS, ROUNDS = 4.0, 3  # of each measurement; the best round counts, for everyone
GPT2 = {"layers": 12, "width": 768, "heads": 12, "vocabulary": 50257, "length": 1024, "sequences": 16}


def objective(problem: str, options: dict[str, Any], precision: str, device: str) -> Objective:
    model, data, loss = models.PROBLEMS[problem](**options)
    return Objective(Task(model, loss, data), precision=precision, device=device)


def grid(n: int) -> np.ndarray:
    """A piece of a 41ⁿ grid in the order in which a shard is evaluated."""
    full = Grid((Axis(-0.05, 0.05, 41),) * n)
    return full.points(next(full.shards(full.shard_shape(4096))))


# ---- rates over processes -------------------------------------------------------------------------------------------


def together(work: Callable[..., Iterator[int]], processes: int, *arguments: Any) -> float:
    """Units per second of `processes` copies of `work` at the same time, after all of them have begun."""
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(processes), context.SimpleQueue()
    started = [context.Process(target=_timed, args=(work, arguments, ready, results)) for _ in range(processes)]
    for process in started:
        process.start()
    rounds = [results.get() for _ in started]
    for process in started:
        process.join()
    if not all(rounds):
        raise SystemExit("a process of the benchmark failed; see above")
    return max(sum(rates) for rates in zip(*rounds, strict=True))


def _timed(work: Callable[..., Iterator[int]], arguments: tuple[Any, ...], ready: Any, results: Any) -> None:
    try:
        torch.set_num_threads(1)
        units = work(*arguments)
        next(units)  # one unmeasured round
        rates = []
        for _ in range(ROUNDS):
            ready.wait()
            done, start = 0, time.perf_counter()
            while time.perf_counter() - start < SECONDS:
                done += next(units)
            rates.append(done / (time.perf_counter() - start))
        results.put(rates)
    except BaseException:
        results.put([])
        ready.abort()
        raise


def our_points(problem: str, options: dict[str, Any], precision: str, device: str, n: int, batch: int) -> Iterator[int]:
    found = objective(problem, options, precision, device)
    directions = random_directions(found, n)
    points = grid(n)
    size = max(batch, 1 if problem in ("resnet20", "transformer") else 8)
    for start in range(0, 10**12, size):
        block = points[[i % len(points) for i in range(start, start + 4 * size)]]
        losses(found, directions, block, batch)
        yield len(block)


def one_call_at_a_time(problem: str, options: dict[str, Any], precision: str, device: str, n: int) -> float:
    """Points per second of the plain way with torch's default threads: displace all parameters, one functional_call."""
    found = objective(problem, options, precision, device)
    directions = random_directions(found, n)
    rates, points = [], grid(n)
    for seconds in (0.5, *[SECONDS] * ROUNDS):
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            alpha = points[done % len(points)]
            params = {
                k: p + sum(float(a) * directions.vectors[k][i] for i, a in enumerate(alpha))
                for k, p in found.parameters.items()
            }
            found.loss(params).item()
            done += 1
        rates.append(done / (time.perf_counter() - start))
    return max(rates)


def forward_images(options: dict[str, Any], layout: str, batch: int, device: str, precision: str) -> Iterator[int]:
    model, data, _ = models.resnet20(**options)
    memory = torch.channels_last if layout == "channels-last" else torch.contiguous_format
    model = model.to(device=device, memory_format=memory)
    images = torch.cat([x for x, _ in data]).to(device=device, memory_format=memory)
    with torch.no_grad():
        while True:
            for part in images.split(batch):
                model(part)
            if device == "cuda":
                torch.cuda.synchronize()
            yield len(images)


# ---- rows -----------------------------------------------------------------------------------------------------------


def row_mlp(device: str, processes: int) -> dict[str, Any]:
    found = objective("mlp", {}, "float32", device)
    batch = choose_batch(found, random_directions(found, 3))
    ours = together(our_points, processes, "mlp", {}, "float32", device, 3, batch)
    peer = peers.call("landscape", problem="mlp", steps=11, dim=3, device=device, options={})
    theirs = peer["points"] / peer["seconds"]
    return {"ours": ours, "landscaper": theirs, "ratio": ours / theirs, "batch": batch, "unit": "points/s"}


def row_pinn(device: str, processes: int) -> dict[str, Any]:
    found = objective("pinn", {}, "float64", device)
    batch = choose_batch(found, random_directions(found, 3))
    plain = one_call_at_a_time("pinn", {}, "float64", device, 3)
    ours = together(our_points, processes, "pinn", {}, "float64", device, 3, batch)
    return {"ours": ours, "one_call_at_a_time": plain, "ratio": ours / plain, "batch": batch, "unit": "points/s"}


def row_resnet20(device: str, processes: int) -> dict[str, Any]:
    images = 512 if device == "cpu" else 10_000
    size = 32 if device == "cpu" else 1000
    ours = together(our_points, processes, "resnet20", {"images": images, "batch": size}, "float32", device, 3, 1)
    forward = {
        f"{layout}, {batch}": together(forward_images, processes, {"images": images, "batch": images}, layout, batch,
                                       device, "float32")
        for layout in ("default", "channels-last")
        for batch in ((16, 32, 64, 128) if device == "cpu" else (500, 1000, 2500))
    }  # fmt: skip
    peer = peers.call(
        "landscape",
        problem="resnet20",
        steps=3,
        dim=3,
        device=device,
        options={"images": images, "batch": min(images, 2500)},
    )
    theirs = images * peer["points"] / peer["seconds"]
    best = max(forward.values())
    return {"ours": images * ours, "landscaper": theirs, "ratio": images * ours / theirs, "forward": forward,
            "of_best_forward": images * ours / best, "points_per_second": ours, "unit": "images/s"}  # fmt: skip


def row_transformer(device: str, processes: int) -> dict[str, Any]:
    options = GPT2 if device == "cuda" else {}
    ours = together(our_points, processes, "transformer", options, "float32", device, 3, 1)
    forward = together(forward_tokens, processes, options, device)
    return {"ours": ours, "forward": forward, "of_best_forward": ours / forward, "unit": "points/s"}


def forward_tokens(options: dict[str, Any], device: str) -> Iterator[int]:
    model, data, loss = models.transformer(**options)
    model = model.to(device)
    batch = tuple(x.to(device) for x in data[0])
    with torch.no_grad():
        while True:
            for _ in range(4):
                loss(model, batch)
            if device == "cuda":
                torch.cuda.synchronize()
            yield 4


def device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


ROWS = {"mlp": row_mlp, "pinn": row_pinn, "resnet20": row_resnet20, "transformer": row_transformer}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--only", nargs="*", choices=ROWS, default=list(ROWS))
    arguments = parser.parse_args()
    processes = len(os.sched_getaffinity(0)) if arguments.device == "cpu" else torch.cuda.device_count()
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "device": device_name(arguments.device),
        "processes": processes,
        "torch": torch.__version__,
    }
    target = RESULTS / f"evaluation-{arguments.device}.json"
    if target.exists():
        result = json.loads(target.read_text()) | result
    for row in arguments.only:
        load = os.getloadavg()[0]  # above 0 before anything has begun, the machine was not ours alone
        result[row] = ROWS[row](arguments.device, processes) | {"load_before": load}
        RESULTS.mkdir(exist_ok=True)
        target.write_text(json.dumps(result, indent=2) + "\n")
        print(row, json.dumps(result[row], indent=2), flush=True)


if __name__ == "__main__":
    main()
