"""Top eigenpairs and Hessian-vector products, side by side with Landscaper 1.3.1, pyhessian 0.1 and curvlinops.

`python benchmarks/hessian.py [--only eigenpairs products]` writes results/hessian-cpu.json. Products are
counted, not timed, for the eigenpairs, and a peer gives up at LIMIT times as many as we needed; the residual
‖Hv − λv‖ / |λ| is measured in the same way for everyone, in float64. Time and memory of one product are measured in a
process of its own each. A row is written as soon as it is measured.

curvlinops: pip install -r benchmarks/requirements.txt; Landscaper and pyhessian come in an environment of their own
(`peers.py`).
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import models
import peers
import psutil
import torch
from evaluation import device_name

from landscaper_hpc.directions.directions import hessian_directions
from landscaper_hpc.directions.hessian import Hessian
from landscaper_hpc.objective.objective import Objective, Task

RESULTS = Path(__file__).resolve().parent / "results"
LIMIT = 12
SECONDS = 4.0  # of each measurement of a product
CASES: dict[str, tuple[dict[str, Any], int]] = {
    # options, training steps
    "mlp": ({}, 500),
    "resnet20": ({"images": 32, "batch": 32}, 60),
}


def trained(name: str) -> Objective:
    options, steps = CASES[name]
    torch.manual_seed(3)
    model, data, loss = models.trained(models.PROBLEMS[name](**options), steps)
    return Objective(Task(model, loss, data[:1]), precision="float32")


def eigenpairs(name: str, n: int = 5, tolerance: float = 1e-3) -> dict[str, Any]:
    torch.set_num_threads(1)
    objective = trained(name)
    start = time.perf_counter()
    found = hessian_directions(objective, n, tolerance=tolerance, max_iterations=500, normalization="unit")
    seconds = time.perf_counter() - start
    assert found.eigenvalues is not None
    vectors = [[v[i] for v in found.vectors.values()] for i in range(n)]
    options, steps = CASES[name]
    torch.manual_seed(3)
    model, data, loss = models.trained(models.PROBLEMS[name](**options), steps)
    result: dict[str, Any] = {
        "ours": {
            "products": found.iterations,
            "seconds": seconds,
            "residual": peers.residual(model, loss, data[0], vectors),
            "values": found.eigenvalues.tolist(),
        }
    }
    with ThreadPoolExecutor() as pool:
        libraries = ("landscaper", "pyhessian")
        calls = {
            library: pool.submit(
                peers.call,
                "hessian",
                problem=name,
                options=options,
                training=steps,
                library=library,
                n=n,
                tolerance=min(tolerance, result["ours"]["residual"]),
                limit=LIMIT * found.iterations,
            )
            for library in libraries
        }
    for library in libraries:
        result[library] = attempts = calls[library].result()["attempts"]
        for what, residual in (("the tolerance", tolerance), ("our residual", result["ours"]["residual"])):
            enough = [a["products"] for a in attempts if a["residual"] is not None and a["residual"] <= residual]
            most = max(a["products"] for a in attempts)
            ratio = (min(enough) if enough else most) / found.iterations
            result[f"fewer than {library} for {what}"] = f"{ratio:.1f}" if enough else f"over {ratio:.1f}"
    return result


# ---- one product ----------------------------------------------------------------------------------------------------


def products(name: str) -> dict[str, Any]:
    """The better of two rounds, in turns."""
    rounds = [{who: _alone(_measure_product, name, who) for who in ("ours", "curvlinops")} for _ in range(2)]
    return {who: {what: min(turn[who][what] for turn in rounds) for what in rounds[0][who]} for who in rounds[0]}


def _measure_product(name: str, who: str) -> dict[str, float]:
    """Seconds per product (the best of many) and peak memory above what the trained model and data took, in MB."""
    from curvlinops import HessianLinearOperator

    torch.set_num_threads(1)
    objective = trained(name)
    gc.collect()
    process, peak, stop = psutil.Process(), [0], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not stop.wait(0.001):
            peak[0] = max(peak[0], process.memory_info().rss)

    threading.Thread(target=watch, daemon=True).start()
    if who == "ours":
        hessian = Hessian(objective)
        vector = hessian.random(0)
    else:
        model = objective.model.requires_grad_(True)
        loss = torch.nn.MSELoss() if name == "mlp" else torch.nn.CrossEntropyLoss()
        params = list(model.parameters())
        hessian = HessianLinearOperator(model, loss, params, objective.batches, check_deterministic=False)
        vector = torch.randn(hessian.shape[1])
    best = float("inf")
    begin = time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        start = time.perf_counter()
        hessian @ vector
        best = min(best, time.perf_counter() - start)
    stop.set()
    return {"milliseconds": 1e3 * best, "peak_mb": (peak[0] - before) / 2**20}


def _alone(work: Any, *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=["eigenpairs", "products"], default=["eigenpairs", "products"])
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    target = RESULTS / "hessian-cpu.json"
    result: dict[str, Any] = json.loads(target.read_text()) if target.exists() else {}
    result |= {"date": datetime.date.today().isoformat(), "device": device_name("cpu"), "torch": torch.__version__}
    for what in arguments.only:
        for name in arguments.cases:
            work = {"eigenpairs": eigenpairs, "products": products}[what]
            result[f"{what}, {name}"] = work(name)
            RESULTS.mkdir(exist_ok=True)
            target.write_text(json.dumps(result, indent=2) + "\n")
            print(what, name, json.dumps(result[f"{what}, {name}"], indent=2), flush=True)


if __name__ == "__main__":
    main()
