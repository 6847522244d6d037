"""Points per second of loss evaluation, side by side with Landscaper 1.3.1 and with the model's own forward pass.

`python benchmarks/evaluation.py [--device cuda] [--only mlp pinn resnet20 transformer]` measures and writes
results/evaluation-<device>.json. Our side is what a study runs: one process per core (or GPU), one thread each, a
batch shape found by measurement; start-up and measurement are not counted, on either side. Landscaper runs with its
default threads and with one; the better counts. A GPU is one device: rows whose products tensor cores compute have
TF32 for everyone, and all say how many GPU-hours a grid takes. What is compared takes turns, so that a busy machine
is as busy for everyone. A row is written as soon as it is measured; the whole takes about five minutes on two cores.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import multiprocessing
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models
import numpy as np
import peers
import torch

from landscaper_hpc.directions.directions import random_directions
from landscaper_hpc.grid import Axis, Grid
from landscaper_hpc.losses.evaluate import choose_batch, losses, prove_for
from landscaper_hpc.objective.objective import Objective, Task

RESULTS = Path(__file__).resolve().parent / "results"
SECONDS, ROUNDS = 1.5, 4  # of each measurement; the best round counts, for everyone
GPT2 = {"layers": 12, "width": 768, "heads": 12, "vocabulary": 50257, "length": 1024, "sequences": 16}


def objective(problem: str, options: dict[str, Any], precision: str, device: str) -> Objective:
    model, data, loss = models.PROBLEMS[problem](**options)
    return Objective(Task(model, loss, data), precision=precision, device=device)


def grid(n: int) -> np.ndarray:
    """A piece of a 41ⁿ grid in the order in which a shard is evaluated."""
    full = Grid((Axis(-0.05, 0.05, 41),) * n)
    return full.points(next(full.shards(full.shard_shape(4096))))


# ---- rates over processes -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """A generator function that yields the units it has just done, run by so many processes at once; `threads` of
    torch in each, by default torch's own choice."""

    function: Callable[..., Iterator[int]]
    arguments: tuple[Any, ...]
    processes: int = 1
    threads: int | None = None


def side_by_side(works: Mapping[str, Work], guests: Mapping[str, peers.Guest] | None = None) -> dict[str, float]:
    """Units per second of each work, all its processes together, and of each guest; they take turns, the best of all
    rounds counts."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["landscaper_hpc.losses.evaluate"])  # torch is imported once, not by each process
    crews: dict[str, list[Any]] = {name: [guest] for name, guest in (guests or {}).items()}
    started = []
    for name, work in works.items():
        crews[name] = []
        for _ in range(work.processes):
            mine, theirs = context.Pipe()
            started.append(context.Process(target=_member, args=(work, theirs), daemon=True))
            started[-1].start()
            crews[name].append(mine)
            theirs.close()
    rates: dict[str, float] = dict.fromkeys(crews, 0.0)
    for seconds in (0.0, *[SECONDS] * ROUNDS):  # one unit each to warm up
        for name, crew in crews.items():
            for member in crew:
                member.send(seconds)
            rate = sum(member.recv() for member in crew)
            rates[name] = max(rates[name], rate) if seconds else 0.0
    for crew in crews.values():
        for member in crew:
            member.send(None)
    for process in started:
        process.join()
    return rates


def _member(work: Work, connection: Any) -> None:
    if work.threads is not None:
        torch.set_num_threads(work.threads)
    units = work.function(*work.arguments)
    while (seconds := connection.recv()) is not None:
        connection.send(peers.rate(units, seconds))


def our_points(problem: str, options: dict[str, Any], precision: str, device: str, n: int, batch: int) -> Iterator[int]:
    found = objective(problem, options, precision, device)
    directions = random_directions(found, n)
    points = grid(n)
    prove_for(found, directions, points)  # as a worker does before its first shard
    # shards of some hundredths of a second to seconds, as in a study
    size = 16 * batch if batch > 1 else 4 if problem == "resnet20" or device == "cuda" else 64
    for start in itertools.count(0, size):
        losses(found, directions, points[np.arange(start, start + size) % len(points)], batch)
        yield size


def one_call_at_a_time(problem: str, options: dict[str, Any], precision: str, device: str, n: int) -> Iterator[int]:
    """The plain way: displace all parameters, one functional_call."""
    found = objective(problem, options, precision, device)
    directions = random_directions(found, n)
    for alpha in itertools.cycle(grid(n)):
        params = {
            k: p + sum(float(a) * directions.vectors[k][i] for i, a in enumerate(alpha))
            for k, p in found.parameters.items()
        }
        found.loss(params).item()
        yield 1


def tf32(device: str) -> None:
    """What our precision tf32 does, for the model alone."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = device == "cuda"


def forward_images(options: dict[str, Any], layout: str, batch: int, device: str) -> Iterator[int]:
    tf32(device)
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


def landscaper(device: str, problem: str, steps: int, **options: Any) -> dict[str, peers.Guest]:
    """Landscaper as its users call it, and with one thread, which is faster on a busy machine."""
    return {
        name: peers.Guest("landscape", problem=problem, steps=steps, dim=3, device=device, options=options, **more)
        for name, more in (("landscaper", {}), ("landscaper, one thread", {"threads": 1}))
    }


# ---- rows -----------------------------------------------------------------------------------------------------------


def ours(problem: str, options: dict[str, Any], precision: str, device: str, processes: int, batch: int) -> Work:
    return Work(our_points, (problem, options, precision, device, 3, batch), processes, threads=1)


def row_mlp(device: str, processes: int) -> dict[str, Any]:
    found = objective("mlp", {}, "float32", device)
    batch = choose_batch(found, random_directions(found, 3))
    rates = side_by_side(
        {"ours": ours("mlp", {}, "float32", device, processes, batch)}, landscaper(device, problem="mlp", steps=11)
    )
    best = max(rate for name, rate in rates.items() if name != "ours")
    return rates | {"ratio": rates["ours"] / best, "batch": batch, "unit": "points/s"}


def row_pinn(device: str, processes: int) -> dict[str, Any]:
    found = objective("pinn", {}, "float64", device)
    batch = choose_batch(found, random_directions(found, 3))
    plain = ("pinn", {}, "float64", device, 3)
    rates = side_by_side(
        {
            "ours": ours("pinn", {}, "float64", device, processes, batch),
            "one_call_at_a_time": Work(one_call_at_a_time, plain),
            "one_call_at_a_time, a process per core": Work(one_call_at_a_time, plain, processes, threads=1),
        }
    )
    best = max(rate for name, rate in rates.items() if name != "ours")
    return rates | {"ratio": rates["ours"] / best, "batch": batch, "unit": "points/s"}


def row_resnet20(device: str, processes: int) -> dict[str, Any]:
    """On a CPU the data are one batch: we choose the slabs. On a GPU they are batches of 1000."""
    images = 512 if device == "cpu" else 10_000
    options = {"images": images, "batch": 512 if device == "cpu" else 1000}
    precision = "float32" if device == "cpu" else "tf32"
    rates = side_by_side(
        {"ours": ours("resnet20", options, precision, device, processes, 1)}
        | {
            f"{layout}, {batch}": Work(forward_images, (options, layout, batch, device), processes, threads=1)
            for layout in ("default", "channels-last")
            for batch in ((16, 32, 64, 128) if device == "cpu" else (500, 1000, 2500))
        },
        landscaper(device, problem="resnet20", steps=2, images=images, batch=min(images, 2500)),
    )
    points = rates.pop("ours")
    theirs = {name: images * rates.pop(name) for name in list(rates) if name.startswith("landscaper")}
    return {
        "ours": images * points,
        **theirs,
        "ratio": images * points / max(theirs.values()),
        "forward": rates,
        "of_best_forward": images * points / max(rates.values()),
        "points_per_second": points,
        "precision": precision,
        "unit": "images/s",
    }


def row_transformer(device: str, processes: int) -> dict[str, Any]:
    options = GPT2 if device == "cuda" else {}
    precision = "float32" if device == "cpu" else "tf32"
    batch = 1
    if device == "cpu":
        found = objective("transformer", options, precision, device)
        batch = choose_batch(found, random_directions(found, 3))
    sequences = (4,) if device == "cpu" else (2, 4, 8, 16)
    rates = side_by_side(
        {"ours": ours("transformer", options, precision, device, processes, batch)}
        | {f"forward, {n}": Work(forward_tokens, (options, n, device), processes, threads=1) for n in sequences}
    )
    forward = max(rates[f"forward, {n}"] for n in sequences)
    return rates | {
        "of_best_forward": rates["ours"] / forward,
        "points_per_second": rates["ours"],
        "batch": batch,
        "precision": precision,
        "unit": "points/s",
    }


def forward_tokens(options: dict[str, Any], sequences: int, device: str) -> Iterator[int]:
    """The loss of all data in batches of so many sequences."""
    tf32(device)
    model, data, loss = models.transformer(**options)
    model = model.to(device)
    inputs, targets = (x.to(device).split(sequences) for x in data[0])
    with torch.no_grad():
        while True:
            for _ in range(4):
                for batch in zip(inputs, targets, strict=True):
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


def gpu_hours(points_per_second: float) -> dict[str, float]:
    return {f"41^{n}": 41**n / points_per_second / 3600 for n in (3, 4, 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--only", nargs="*", choices=ROWS, default=list(ROWS))
    arguments = parser.parse_args()
    processes = len(os.sched_getaffinity(0)) if arguments.device == "cpu" else 1
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "device": device_name(arguments.device),
        "processes": processes,
        "torch": torch.__version__,
        "landscaper": next(p.partition("==")[2] for p in peers.PACKAGES if p.startswith("landscaper")),
    }
    if arguments.device == "cuda":
        result |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    target = RESULTS / f"evaluation-{arguments.device}.json"
    if target.exists():
        result = json.loads(target.read_text()) | result
    for row in arguments.only:
        load = os.getloadavg()[0]  # above 0 before anything has begun, the machine was not ours alone
        result[row] = ROWS[row](arguments.device, processes) | {"load_before": load}
        if arguments.device == "cuda":
            found = result[row]
            found["gpu_hours"] = gpu_hours(found.get("points_per_second", found["ours"]))
        RESULTS.mkdir(exist_ok=True)
        target.write_text(json.dumps(result, indent=2) + "\n")
        print(row, json.dumps(result[row], indent=2), flush=True)


if __name__ == "__main__":
    main()
