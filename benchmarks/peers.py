"""Landscaper 1.3.1 and pyhessian 0.1 in a virtual environment of their own (Landscaper needs numpy < 2), made on
first use.

Run by that environment's Python, this file is the peer's side of a benchmark: `python peers.py NAME
ARGUMENTS-AS-JSON` prints one JSON object, or, where it is timed, a rate for every line that it reads. Imported by ours,
it makes the environment and calls it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-landscaper"
PACKAGES = ("landscaper==1.3.1", "pyhessian==0.1", "numpy<2")


def call(name: str, timeout: float | None = None, **arguments: Any) -> dict[str, Any]:
    """Run one of the functions below in the peers' environment; subprocess.TimeoutExpired after `timeout` seconds."""
    done = subprocess.run(
        command(name, arguments),
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=timeout,
    )
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


class Guest:
    """One of the generator functions below, in the peers' environment, as something that takes turns: `send(seconds)`
    lets it run for that long, at least for one unit, `recv()` gives its units per second; `send(None)` ends it."""

    def __init__(self, name: str, **arguments: Any) -> None:
        self._process = subprocess.Popen(
            command(name, arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def send(self, seconds: float | None) -> None:
        if seconds is None:
            self._process.communicate()
        else:
            assert self._process.stdin is not None
            print(seconds, file=self._process.stdin, flush=True)

    def recv(self) -> float:
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())


def rate(units: Iterator[int], seconds: float) -> float:
    """Units per second of a generator that yields how many it has just done."""
    done, start = 0, time.perf_counter()
    while not done or time.perf_counter() - start < seconds:
        done += next(units)
    return done / (time.perf_counter() - start)


def command(name: str, arguments: dict[str, Any]) -> list[str]:
    """The peers' Python with what it runs; the environment is made first where it is missing."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "ready").exists():
        from importlib.metadata import version

        print(f"making {ENVIRONMENT.name} with {', '.join(PACKAGES)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
        # exactly the torch that we run on: the peers then compute with the same kernels
        pip = [str(python), "-m", "pip", "install", "-q", f"torch=={version('torch')}", *PACKAGES]
        subprocess.run([*pip, *os.environ.get("PEERS_PIP_OPTIONS", "").split()], check=True, stderr=subprocess.DEVNULL)
        (ENVIRONMENT / "ready").touch()
    return [str(python), str(Path(__file__).resolve()), name, json.dumps(arguments)]


# ---- run by the peers' Python ---------------------------------------------------------------------------------------


def landscape(
    problem: str, steps: int, dim: int, device: str, options: dict[str, Any], threads: int | None = None
) -> Iterator[int]:
    """Points of Landscaper's compute_loss_landscape on random directions, by default with its default threads."""
    import models
    import torch
    from landscaper.compute import compute_loss_landscape

    if threads is not None:
        torch.set_num_threads(threads)
    model, data, loss = models.PROBLEMS[problem](**options)
    model = model.to(device).eval()
    data = [torch.utils._pytree.tree_map(lambda t: t.to(device), batch) for batch in data]
    torch.manual_seed(2)
    directions = [[torch.randn_like(p) for p in model.parameters()] for _ in range(dim)]

    def scalar(model: torch.nn.Module, data: Any) -> float:
        return sum(loss(model, batch).item() for batch in data) / len(data)

    while True:
        compute_loss_landscape(model, data, directions, scalar, steps=steps, distance=0.05, dim=dim, device=device)
        yield steps**dim


def way(steps: int) -> dict[str, Any]:
    """What somebody writes with Landscaper for the digits: top two eigenvectors, a plane along them, SMAD."""
    import torch
    import zoo
    from landscaper.hessian import PyHessian
    from landscaper.landscape import LossLandscape

    model, data, loss = zoo.EVERYDAY["digits"]()
    model = model.eval()
    found = PyHessian(model, lambda output, target: loss(lambda _: output, (None, target)), data, "cpu")
    _, directions = found.eigenvalues(top_n=2)

    def scalar(model: torch.nn.Module, data: Any) -> float:
        with torch.no_grad():
            return sum(loss(model, batch).item() for batch in data) / len(data)

    plane = LossLandscape.compute(model, data, directions, scalar, steps=steps, distance=0.5, dim=2, device="cpu")
    return {"points": int(plane.loss.size), "smad": float(plane.smad())}


class _GaveUp(Exception):
    """More products than we wait for."""


def hessian(
    problem: str, options: dict[str, Any], training: int, library: str, n: int, tolerance: float, limit: int
) -> dict[str, Any]:
    """Top n eigenpairs by `library`: products spent, seconds, and the residual ‖Hv − λv‖ / |λ| that is left, measured
    the same way for everyone. The tolerance of both libraries is on the change of the eigenvalue: after the default it
    is tightened until the residual meets `tolerance`, or one attempt spends `limit` products (then without one)."""
    import models
    import torch

    torch.set_num_threads(1)  # products are counted here, not timed
    torch.manual_seed(3)
    model, data, loss = models.trained(models.PROBLEMS[problem](**options), training)
    model.zero_grad(set_to_none=True)
    solve = _landscaper_eigenpairs if library == "landscaper" else _pyhessian_eigenpairs
    attempts: list[dict[str, Any]] = []
    for tol in (None, 1e-5, 1e-6, 1e-7, 0.0):
        limits = {} if tol is None else {"maxIter": limit, "tol": tol}
        start = time.perf_counter()
        count = _Counter(limit)
        try:
            values, vectors = solve(model, loss, data[0], count, top_n=n, **limits)
            left = residual(model, loss, data[0], vectors)
        except _GaveUp:
            values, left = None, None
        seconds = time.perf_counter() - start
        attempts.append({"tol": tol, "products": count.n, "seconds": seconds, "residual": left, "values": values})
        if left is None or left <= tolerance:
            break
    return {"attempts": attempts}


class _Counter:
    """Counts the calls of what it wraps, up to a limit."""

    def __init__(self, limit: int) -> None:
        self.n, self.limit = 0, limit

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any) -> Any:
            if self.n == self.limit:
                raise _GaveUp
            self.n += 1
            return function(*arguments)

        return counting


def _landscaper_eigenpairs(
    model: Any, loss: Any, batch: Any, count: _Counter, **limits: Any
) -> tuple[list[float], Any]:
    from landscaper.hessian import PyHessian

    found = PyHessian(model, lambda output, target: loss(lambda _: output, (None, target)), [batch], "cpu")
    found.hv_product = count(found.hv_product)
    values, vectors = found.eigenvalues(**limits)
    return [float(x) for x in values], vectors


def _pyhessian_eigenpairs(model: Any, loss: Any, batch: Any, count: _Counter, **limits: Any) -> tuple[list[float], Any]:
    import importlib
    from unittest import mock

    module = importlib.import_module("pyhessian.hessian")  # the package has a class of that name
    found = module.hessian(model, lambda output, target: loss(lambda _: output, (None, target)), data=batch, cuda=False)
    with mock.patch.object(module, "hessian_vector_product", count(module.hessian_vector_product)):
        values, vectors = found.eigenvalues(**limits)
    return [float(x) for x in values], vectors


def merge_tree(points: int, dim: int) -> dict[str, Any]:
    """Landscaper's merge tree of the benchmark's smooth field, minima alone, without what it is plotted from."""
    import numpy as np
    from fields import smooth
    from landscaper.tda import merge_tree as theirs

    field = smooth(points, dim)
    axes = np.meshgrid(*[np.linspace(-1, 1, points)] * dim, indexing="ij")
    coordinates = np.stack([a.ravel() for a in axes], axis=1)
    start = time.perf_counter()
    tree = theirs(field, coordinates)
    return {"seconds": time.perf_counter() - start, "nodes": len(tree.nodes), "edges": len(tree.edges)}


def contour_tree(points: int, dim: int) -> dict[str, Any]:
    """Landscaper's contour tree of the benchmark's smooth field."""
    import numpy as np
    from fields import smooth
    from landscaper.landscape import LossLandscape

    landscape = LossLandscape(smooth(points, dim), [np.linspace(-1, 1, points)] * dim)
    start = time.perf_counter()
    tree = landscape.get_contour_tree()
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
    asked = {f.__name__: f for f in (landscape, way, hessian, merge_tree, contour_tree)}[sys.argv[1]]
    answer: Any = asked(**json.loads(sys.argv[2]))
    if isinstance(answer, dict):
        print(json.dumps(answer), file=real_stdout)
    else:
        for line in sys.stdin:
            print(rate(answer, float(line)), file=real_stdout, flush=True)
