"""Landscaper 1.3.1 and pyhessian 0.1 in a virtual environment of their own (Landscaper needs numpy < 2), made on
first use.

Run by that environment's Python, this file is the peer's side of a benchmark: `python peers.py NAME
ARGUMENTS-AS-JSON` prints one JSON object. Imported by ours, it makes the environment and calls it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-landscaper"
PACKAGES = ("landscaper==1.3.1", "pyhessian==0.1", "numpy<2")


def call(name: str, timeout: float | None = None, **arguments: Any) -> dict[str, Any]:
    """Run one of the functions below in the peers' environment; subprocess.TimeoutExpired after `timeout` seconds."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "ready").exists():
        from importlib.metadata import version

        print(f"making {ENVIRONMENT.name} with {', '.join(PACKAGES)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
        # exactly the torch that we run on: the peers then compute with the same kernels
        pip = [str(python), "-m", "pip", "install", "-q", f"torch=={version('torch')}", *PACKAGES]
        subprocess.run([*pip, *os.environ.get("PEERS_PIP_OPTIONS", "").split()], check=True, stderr=subprocess.DEVNULL)
        (ENVIRONMENT / "ready").touch()
    command = [str(python), str(Path(__file__).resolve()), name, json.dumps(arguments)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=timeout
    )
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


# ---- run by the peers' Python ---------------------------------------------------------------------------------------


def landscape(problem: str, steps: int, dim: int, device: str, options: dict[str, Any]) -> dict[str, Any]:
    """Landscaper's compute_loss_landscape on random directions, with its default threads."""
    import models
    import torch
    from landscaper.compute import compute_loss_landscape

    model, data, loss = models.PROBLEMS[problem](**options)
    model = model.to(device).eval()
    data = [torch.utils._pytree.tree_map(lambda t: t.to(device), batch) for batch in data]
    torch.manual_seed(2)
    directions = [[torch.randn_like(p) for p in model.parameters()] for _ in range(dim)]

    def scalar(model: torch.nn.Module, data: Any) -> float:
        return sum(loss(model, batch).item() for batch in data) / len(data)

    def run(steps: int) -> float:
        start = time.perf_counter()
        compute_loss_landscape(model, data, directions, scalar, steps=steps, distance=0.05, dim=dim, device=device)
        return time.perf_counter() - start

    run(2)
    return {"points": steps**dim, "seconds": min(run(steps) for _ in range(3))}


def hessian(
    problem: str, options: dict[str, Any], training: int, library: str, n: int, tolerance: float
) -> dict[str, Any]:
    """Top n eigenpairs by `library`: products spent, seconds, and the residual ‖Hv − λv‖ / |λ| that is left, measured
    the same way for everyone. The tolerance of both libraries is on the change of the eigenvalue; it is tightened
    tenfold, then only the number of iterations counts, until the residual meets `tolerance`."""
    import models
    import torch

    torch.set_num_threads(1)  # products are counted here, not timed
    torch.manual_seed(3)
    model, data, loss = models.trained(models.PROBLEMS[problem](**options), training)
    model.zero_grad(set_to_none=True)
    attempts, spent = [], 0.0
    settings = [(None, None), (1e-4, 400), (1e-5, 400), (1e-6, 400)]
    settings += [(0.0, most) for most in (25, 35, 50, 70, 100, 200)]
    for inner_tolerance, iterations in settings:
        limits = {} if iterations is None else {"maxIter": iterations, "tol": inner_tolerance}
        start = time.perf_counter()
        solve = _landscaper_eigenpairs if library == "landscaper" else _pyhessian_eigenpairs
        values, vectors, products = solve(model, loss, data[0], top_n=n, **limits)
        seconds = time.perf_counter() - start
        left = residual(model, loss, data[0], vectors)
        attempts.append(
            {"tol": inner_tolerance, "products": products, "seconds": seconds, "residual": left, "values": values}
        )
        spent += seconds
        if left <= tolerance or spent > 180:  # what they reached by then is their result
            break
    return {"attempts": attempts}


def _landscaper_eigenpairs(model: Any, loss: Any, batch: Any, **limits: Any) -> tuple[list[float], Any, int]:
    from landscaper.hessian import PyHessian

    products = 0
    found = PyHessian(model, lambda output, target: loss(lambda _: output, (None, target)), [batch], "cpu")
    real = found.hv_product

    def counting(v: Any) -> Any:
        nonlocal products
        products += 1
        return real(v)

    found.hv_product = counting
    values, vectors = found.eigenvalues(**limits)
    return [float(x) for x in values], vectors, products


def _pyhessian_eigenpairs(model: Any, loss: Any, batch: Any, **limits: Any) -> tuple[list[float], Any, int]:
    import importlib
    from unittest import mock

    module = importlib.import_module("pyhessian.hessian")  # the package has a class of that name
    found = module.hessian(model, lambda output, target: loss(lambda _: output, (None, target)), data=batch, cuda=False)
    real = module.hessian_vector_product
    with mock.patch.object(module, "hessian_vector_product", side_effect=real) as counting:
        values, vectors = found.eigenvalues(**limits)
    return [float(x) for x in values], vectors, counting.call_count


def merge_tree(points: int, dim: int) -> dict[str, Any]:
    """Landscaper's merge tree of the benchmark's smooth field, minima alone, without what it is plotted from."""
    import numpy as np
    from landscaper.tda import merge_tree as theirs
    from topology import smooth

    field = smooth(points, dim)
    axes = np.meshgrid(*[np.linspace(-1, 1, points)] * dim, indexing="ij")
    coordinates = np.stack([a.ravel() for a in axes], axis=1)
    start = time.perf_counter()
    tree = theirs(field, coordinates)
    return {"seconds": time.perf_counter() - start, "nodes": len(tree.nodes), "edges": len(tree.edges)}


def residual(model: Any, loss: Any, batch: Any, vectors: Any) -> float:
    """The largest ‖Hv − λv‖ / |λ| with λ = vᵀHv, in float64 by plain double backward: the same for everyone."""
    import copy

    import torch

    wide = copy.deepcopy(model).double()
    params = list(wide.parameters())
    inputs = tuple(x.double() if x.is_floating_point() else x for x in batch)
    gradients = torch.autograd.grad(loss(wide, inputs), params, create_graph=True)
    worst = 0.0
    for v in vectors:
        v = [part.double() for part in v]
        product = torch.autograd.grad(gradients, params, grad_outputs=v, retain_graph=True)
        value = sum(float((a * b).sum()) for a, b in zip(product, v, strict=True))
        difference = sum(float((a - value * b).square().sum()) for a, b in zip(product, v, strict=True)) ** 0.5
        worst = max(worst, difference / abs(value))
    return worst


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    sys.stdout, real_stdout = sys.stderr, sys.stdout  # Landscaper prints
    answer = {"landscape": landscape, "hessian": hessian, "merge_tree": merge_tree}[sys.argv[1]](
        **json.loads(sys.argv[2])
    )
    print(json.dumps(answer), file=real_stdout)
