"""Confirmed minima and saddles side by side with TopSearch: found, missed, gradients spent, where minima are known.

    python benchmarks/confirm.py                     # ours
    python benchmarks/confirm.py --topsearch PYTHON  # and TopSearch's, by a Python that has topsearch installed
    python benchmarks/confirm.py --gradients         # of networks: gradients per second

Both get the same box. Ours starts at the minima of a grid, whose points are told beside the gradients; TopSearch by
basin hopping, 100 steps or ten for each minimum, then connects each minimum with its two nearest, and what is left
unconnected; its settings were chosen by hand and are not tuned. A Hessian counts as n gradients. Run by TopSearch's
Python, this file is its side.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

# ---- functions: value, gradient, box, points of our grid, minima inside the box --------------------------------------


def rastrigin(x: Any) -> Any:
    value = (10 + x**2 - 10 * np.cos(2 * np.pi * x)).sum()
    return value, 2 * x + 20 * np.pi * np.sin(2 * np.pi * x)


def wells(x: Any) -> Any:
    weight = np.arange(1, len(x) + 1)
    value = (weight * (x**2 - 1) ** 2 + 0.1 * np.sqrt(weight) * x).sum()
    return value, 4 * weight * x * (x**2 - 1) + 0.1 * np.sqrt(weight)


def mueller_brown(x: Any) -> Any:
    A, a = np.array([-200.0, -100.0, -170.0, 15.0]), np.array([-1.0, -1.0, -6.5, 0.7])
    b, c = np.array([0.0, 0.0, 11.0, 0.6]), np.array([-10.0, -10.0, -6.5, 0.7])
    u, v = x[0] - np.array([1.0, 0.0, -0.5, -1.0]), x[1] - np.array([0.0, 0.5, 1.5, 1.0])
    terms = A * np.exp(a * u * u + b * u * v + c * v * v)
    return terms.sum(), np.array([(terms * (2 * a * u + b * v)).sum(), (terms * (b * u + 2 * c * v)).sum()])


def camelback(x: Any) -> Any:
    p, q = x
    value = (4 - 2.1 * p**2 + p**4 / 3) * p**2 + p * q + (4 * q**2 - 4) * q**2
    return value, np.array([8 * p - 8.4 * p**3 + 2 * p**5 + q, p + 16 * q**3 - 8 * q])


def valley(x: Any) -> Any:
    n = len(x)
    rotation = np.linalg.qr(np.column_stack([np.arange(1, n + 1) ** 0.5, np.eye(n)[:, 1:]]))[0]
    slope = rotation @ np.diag([1.0] + [1e5] * (n - 1)) @ rotation.T @ (x - 0.1)
    return (x - 0.1) @ slope / 2, slope


def _axis(f: Any, i: int, n: int, low: float, high: float) -> list[float]:
    """Minima along one axis of a sum of functions of one number, by bisection of the derivative."""
    x = np.linspace(low, high, 2001)

    def slope(t: float) -> float:
        point = np.zeros(n)
        point[i] = t
        return float(f(point)[1][i])

    at = np.array([slope(t) for t in x])
    found = []
    for j in np.flatnonzero((at[:-1] < 0) & (at[1:] >= 0)):
        a, b = x[j], x[j + 1]
        for _ in range(60):
            a, b = ((a + b) / 2, b) if slope((a + b) / 2) < 0 else (a, (a + b) / 2)
        found.append(float(b))
    return found


def _separable(f: Any, n: int, half: float) -> list[list[float]]:
    return [list(point) for point in product(*(_axis(f, i, n, -half, half) for i in range(n)))]


CASES: dict[str, tuple[Any, list[tuple[float, float]], int, Any]] = {
    "Rastrigin, 2-D": (rastrigin, [(-2.7, 2.7)] * 2, 41, lambda: _separable(rastrigin, 2, 2.7)),
    "Rastrigin, 3-D": (rastrigin, [(-2.7, 2.7)] * 3, 31, lambda: _separable(rastrigin, 3, 2.7)),
    "double wells, 2-D": (wells, [(-1.5, 1.5)] * 2, 21, lambda: _separable(wells, 2, 1.5)),
    "double wells, 4-D": (wells, [(-1.5, 1.5)] * 4, 11, lambda: _separable(wells, 4, 1.5)),
    "Müller–Brown": (
        mueller_brown,
        [(-1.5, 1.2), (-0.2, 2.0)],
        41,
        lambda: [[-0.55822, 1.44173], [0.62350, 0.02804], [-0.05001, 0.46669]],
    ),
    "camelback": (
        camelback,
        [(-2.1, 2.1), (-1.2, 1.2)],
        41,
        lambda: [
            *([0.08984, -0.71266], [-0.08984, 0.71266], [1.70361, -0.79608]),
            *([-1.70361, 0.79608], [1.60710, 0.56865], [-1.60710, -0.56865]),
        ],
    ),
    "slanted valley, 2-D": (valley, [(-1.0, 1.0)] * 2, 201, lambda: [[0.1, 0.1]]),
    "slanted valley, 3-D": (valley, [(-1.0, 1.0)] * 3, 31, lambda: [[0.1, 0.1, 0.1]]),
}


def score(found: Any, box: Any, truth: Any) -> dict[str, int]:
    """Of the minima inside the box: how many of the true ones were found, missed, and found that are none."""
    width = np.array([high - low for low, high in box])
    truth, found = np.array(truth), np.array(found).reshape(-1, len(box))
    near = (np.abs((truth[:, None] - found) / width).max(axis=2) < 1e-3) if len(found) else np.zeros((len(truth), 0))
    hit = int(near.any(axis=1).sum())
    return {"found": hit, "missed": len(truth) - hit, "wrong": int(len(found) - near.any(axis=0).sum())}


# ---- ours -----------------------------------------------------------------------------------------------------------


def ours(name: str) -> dict[str, Any]:
    from landscaper_hpc.confirm.confirmed import confirm
    from landscaper_hpc.grid import Axis, Grid
    from landscaper_hpc.topology import merge_tree

    f, box, count, truth = CASES[name]

    class Surface:
        rounding = 2.2e-16

        def gradients(self, points: Any) -> Any:
            both = [f(point) for point in points]
            return np.array([value for value, _ in both]), np.array([slope for _, slope in both])

        def hessians(self, points: Any) -> Any:
            steps = np.eye(points.shape[1]) * 1e-6
            rows = np.array([[(f(p + s)[1] - f(p - s)[1]) / 2e-6 for s in steps] for p in points])
            return (rows + rows.transpose(0, 2, 1)) / 2

    grid = Grid(tuple(Axis(low, high, count) for low, high in box))
    points = np.stack(np.meshgrid(*grid.coordinates(), indexing="ij"), axis=-1).reshape(-1, grid.ndim)
    values = np.array([f(point)[0] for point in points]).reshape(grid.shape)
    tree = merge_tree(values)
    got = confirm(Surface(), grid, values, tree)
    inside = got.points[got.kinds == 0]
    return {
        **score(inside, box, truth()),
        "saddles": got.n_saddles,
        "gradients": got.gradients_spent + got.products_spent,
        "grid minima": tree.n_minima,
        "grid points": grid.size,
    }


# ---- TopSearch ------------------------------------------------------------------------------------------------------


def topsearch(name: str) -> dict[str, Any]:
    from topsearch.data.coordinates import StandardCoordinates
    from topsearch.data.kinetic_transition_network import KineticTransitionNetwork
    from topsearch.global_optimisation.basin_hopping import BasinHopping
    from topsearch.global_optimisation.perturbations import StandardPerturbation
    from topsearch.potentials.potential import Potential
    from topsearch.sampling.exploration import NetworkSampling
    from topsearch.similarity.similarity import StandardSimilarity
    from topsearch.transition_states.hybrid_eigenvector_following import HybridEigenvectorFollowing
    from topsearch.transition_states.nudged_elastic_band import NudgedElasticBand

    f, box, _, truth = CASES[name]
    truth = truth()
    np.random.seed(0)
    spent = [0]

    class Counted(Potential):  # type: ignore[misc]
        def function(self, position: Any) -> float:
            spent[0] += 1
            return float(f(position)[0])

        def gradient(self, position: Any, displacement: float = 0.0) -> Any:
            spent[0] += 1
            return f(position)[1]

        def function_gradient(self, position: Any) -> Any:
            spent[0] += 1
            value, slope = f(position)
            return float(value), slope

    os.chdir(tempfile.mkdtemp())  # it writes a log where it is
    similarity = StandardSimilarity(distance_criterion=0.02, energy_criterion=1e-2)
    network, coordinates, potential = KineticTransitionNetwork(), StandardCoordinates(len(box), box), Counted()
    hopping = BasinHopping(network, potential, similarity, StandardPerturbation(1.0, proportional_distance=True))
    single = HybridEigenvectorFollowing(potential, 1e-5, 75, 1e-1, steepest_descent_conv_crit=1e-6)
    double = NudgedElasticBand(potential, 50.0, 10.0, 20, 1e-2)
    sampling = NetworkSampling(network, coordinates, hopping, single, double, similarity)
    sampling.get_minima(coordinates, 10 * max(10, len(truth)), 1e-6, 100.0)
    hops = spent[0]
    sampling.get_transition_states("ClosestEnumeration", 2)
    sampling.get_transition_states("ConnectUnconnected", 2)
    width = [high - low for low, high in box]
    points = [network.get_minimum_coords(i) for i in range(network.n_minima)]
    inside = [
        p
        for p in points
        if all(low + 1e-6 * w < x < high - 1e-6 * w for x, (low, high), w in zip(p, box, width, strict=True))
    ]
    return {**score(inside, box, truth), "saddles": network.n_ts, "gradients": spent[0], "for minima": hops}


# ---- gradients per second -------------------------------------------------------------------------------------------


def gradient_rates(seconds: float = 10.0) -> dict[str, dict[str, Any]]:
    """Of one thread and processor time, the quickest call of each way, which take turns: as the loss is written, and as
    searches get them, of eight points, three, and one."""
    import time

    import models
    import torch

    from landscaper_hpc import Task
    from landscaper_hpc.confirm.of_objective import ObjectiveSurface
    from landscaper_hpc.directions.directions import random_directions
    from landscaper_hpc.objective.objective import Objective

    torch.set_num_threads(1)
    table: dict[str, dict[str, Any]] = {}
    cases = {
        "PINN": (models.pinn, "float64"),
        "small CNN": (models.cnn, "float32"),
        "tanh network": (models.mlp, "float64"),
    }
    cases |= {"transformer": (models.transformer, "float32"), "tiny tanh network": (_tiny, "float64")}
    for name, (make, precision) in cases.items():
        model, data, loss = make()
        objective = Objective(Task(model, loss, data), precision=precision)
        surface = ObjectiveSurface(objective, random_directions(objective, 3), np.full(3, 0.005))
        points = np.random.default_rng(0).uniform(-0.05, 0.05, (8, 3))
        began = time.process_time()
        row: dict[str, Any] = {"way": surface.ways.said, "proof, seconds": round(time.process_time() - began, 2)}
        plain = [surface._gradient(point) for point in points]
        row["same bits as written"] = all(
            value == expected and (slope == slopes).all()
            for (expected, slopes), value, slope in zip(plain, *surface.gradients(points), strict=True)
        )
        ways = {"as written": (lambda s=surface, p=points: [s._gradient(point) for point in p], 8)}
        ways |= {f"of {k}": (lambda s=surface, p=points[:k]: s.gradients(p), k) for k in (8, 3, 1)}
        best = dict.fromkeys(ways, np.inf)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for way, (do, _) in ways.items():
                began = time.process_time()
                do()
                best[way] = min(best[way], time.process_time() - began)
        row |= {way: round(count / best[way], 1) for way, (_, count) in ways.items()}
        table[name] = row
        print(f"{name:17} {row}", flush=True)
    return table


def _tiny() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    return model, [(torch.randn(20, 2), torch.randn(20, 1))], lambda u, batch: (u(batch[0]) - batch[1]).square().mean()


# ---- side by side ---------------------------------------------------------------------------------------------------


def _peer(python: str, name: str, seconds: float) -> dict[str, Any] | str:
    try:
        done = subprocess.run(
            [python, __file__, "--case", name],
            check=False,
            capture_output=True,
            text=True,
            timeout=seconds,
            env=os.environ | {"PYTHONPATH": ""},
        )
    except subprocess.TimeoutExpired:
        return f"not done after {seconds:.0f} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["failed"])[-1][:100]
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topsearch", metavar="PYTHON", help="a Python that has topsearch")
    parser.add_argument("--seconds", type=float, default=120, help="the most that TopSearch gets for a function")
    parser.add_argument("--gradients", action="store_true", help="only gradients per second")
    parser.add_argument("--out", type=Path, help="write the table as JSON")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        print(json.dumps(topsearch(asked.case)))
        return
    table: dict[str, Any] = {}
    if asked.gradients:
        table = gradient_rates()
        if asked.out:
            asked.out.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")
        return
    print(f"{'':22} {'minima':>6}  {'found, missed, wrong':>22} {'saddles':>8} {'gradients':>10}")
    for name in CASES:
        table[name] = {"ours": ours(name)}
        if asked.topsearch:
            table[name]["TopSearch"] = _peer(asked.topsearch, name, asked.seconds)  # type: ignore[assignment]
        for who, row in table[name].items():
            if isinstance(row, str):
                print(f"{name:22} {'':>6}  {who}: {row}")
                continue
            counts = f"{row['found']}, {row['missed']}, {row['wrong']}"
            total = row["found"] + row["missed"]
            more = f"  {who}" + (f", from {row['grid minima']} grid minima" if who == "ours" else "")
            print(f"{name:22} {total:>6}  {counts:>22} {row['saddles']:>8} {row['gradients']:>10,}{more}")
        sys.stdout.flush()
    if asked.out:
        asked.out.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
