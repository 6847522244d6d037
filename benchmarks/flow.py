"""Does a grid minimum's descent end where the gradient flow ends? On fields that the method was not made with.

    python benchmarks/flow.py                 # all families; about half an hour on one core, most of it for the flow
    python benchmarks/flow.py --family tanh   # one of them
    python benchmarks/flow.py --family tanh --only 5-D --minima 20 --others 5   # fields by name, and fewer starts
    python benchmarks/flow.py --out FILE      # the table as JSON

The flow is followed by the linearly implicit Euler method within the box, with exact Hessians, in steps of a fiftieth
of a grid step, however flat it is. A start whose flow ends elsewhere when it is moved by a fiftieth of a grid step, or
followed in steps a third as long, lies on a watershed and is not counted, nor is one whose flow had not come to rest
(Newton's step at its end is longer than a twentieth of the grid's). An end is right
where it is that of the flow, to a seventh of a step, and is called what it is: `edge` on a face of the box, else
`interior`. Beside minima of the grid some of its other points are followed, which lie further from where they lead.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.confirm.descents import Descents, curvatures
from landscaper_hpc.confirm.rows import searching
from landscaper_hpc.confirm.surface import Box, Cost, search
from landscaper_hpc.grid import Axis, Grid
from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.readers import ArrayReader

Array = NDArray[np.float64]
RIGHT = 0.15


class Field:
    """A function of points (b, n) with its derivatives: values (b,), gradients (b, n), Hessians (b, n, n)."""

    rounding = 2.2e-16

    def gradients(self, x: Array) -> tuple[Array, Array]:
        raise NotImplementedError

    def hessians(self, x: Array) -> Array:
        """By differences of gradients."""
        steps = 1e-5 * np.eye(x.shape[1])
        rows = [(self.gradients(x + s)[1] - self.gradients(x - s)[1]) / 2e-5 for s in steps]
        found = np.stack(rows, axis=1)
        return (found + found.transpose(0, 2, 1)) / 2

    def on(self, grid: Grid) -> Array:
        points = np.stack(np.meshgrid(*grid.coordinates(), indexing="ij"), axis=-1).reshape(-1, grid.ndim)
        return np.concatenate([self.gradients(part)[0] for part in np.array_split(points, 64)]).reshape(grid.shape)


class Waves(Field):
    """Waves in a bowl, or in a valley `10 ** stiff` times as steep across as along."""

    def __init__(self, n: int, seed: int, stiff: float) -> None:
        draw, m = np.random.default_rng(seed), 8 * n
        self.K, self.a = draw.normal(0, 2.0 if n < 5 else 1.5, (m, n)), draw.uniform(0.2, 1, m)
        self.phase = draw.uniform(0, 6.28, m)
        axes = np.linalg.qr(draw.normal(size=(n, n)))[0]
        self.A = axes.T @ np.diag(0.6 * 10.0 ** np.linspace(0, stiff, n)) @ axes

    def gradients(self, x: Array) -> tuple[Array, Array]:
        phase = x @ self.K.T + self.phase
        values = np.cos(phase) @ self.a + np.einsum("pi,ij,pj->p", x, self.A, x) / 2
        return values, -(np.sin(phase) * self.a) @ self.K + x @ self.A


class Gaussians(Field):
    """Wells of any depth, width and direction in a wide bowl."""

    def __init__(self, n: int, seed: int) -> None:
        draw, m = np.random.default_rng(seed), 6 * n
        self.centres, self.depth = draw.uniform(-1, 1, (m, n)), draw.uniform(0.3, 2, m)
        axes = np.linalg.qr(draw.normal(size=(m, n, n)))[0]
        narrow = 10 ** draw.uniform(0.3, 1.5, (m, n))
        self.A = np.einsum("mki,mk,mkj->mij", axes, narrow, axes)

    def gradients(self, x: Array) -> tuple[Array, Array]:
        apart = x[:, None] - self.centres
        along = np.einsum("mij,bmj->bmi", self.A, apart)
        wells = self.depth * np.exp(-np.einsum("bmi,bmi->bm", along, apart) / 2)
        return (x**2).sum(axis=1) / 4 - wells.sum(axis=1), x / 2 + np.einsum("bm,bmi->bi", wells, along)


class MuellerBrown(Field):
    """Müller and Brown's surface, turned and stretched, its terms changed by up to a fifth."""

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        change = draw.uniform(0.8, 1.2, (2, 4))
        self.A = np.array([-200.0, -100.0, -170.0, 15.0]) * change[0]
        self.a = np.array([-1.0, -1.0, -6.5, 0.7]) * change[1]
        self.b, self.c = np.array([0.0, 0.0, 11.0, 0.6]) * change[1], np.array([-10.0, -10.0, -6.5, 0.7]) * change[1]
        turn = draw.uniform(0, 6.28)
        turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        self.M = turned @ np.diag(draw.uniform(0.7, 1.4, 2))

    def gradients(self, x: Array) -> tuple[Array, Array]:
        y = x @ self.M.T + np.array([-0.15, 0.8])
        u, v = y[:, :1] - np.array([1, 0, -0.5, -1.0]), y[:, 1:] - np.array([0, 0.5, 1.5, 1.0])
        terms = self.A * np.exp(self.a * u * u + self.b * u * v + self.c * v * v)
        slope = [(terms * (2 * self.a * u + self.b * v)).sum(1), (terms * (self.b * u + 2 * self.c * v)).sum(1)]
        return terms.sum(axis=1), np.stack(slope, axis=1) @ self.M


class Valleys(Field):
    """A steep valley along a curve that is turned away from the axes, with minima along it."""

    def __init__(self, n: int, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.Q = np.linalg.qr(draw.normal(size=(n, n)))[0]
        self.steep, self.wide = 10 ** draw.uniform(1, 3), draw.uniform(0.1, 0.4, n - 1)
        self.pace, self.phase = draw.uniform(1, 3, n - 1), draw.uniform(0, 6.28, n)
        self.waves = draw.uniform(4, 9)

    def gradients(self, x: Array) -> tuple[Array, Array]:
        y = x @ self.Q.T
        t = y[:, :1]
        off = y[:, 1:] - self.wide * np.sin(self.pace * t + self.phase[1:])
        bends = self.wide * self.pace * np.cos(self.pace * t + self.phase[1:])
        t = t[:, 0]
        values = self.steep * (off**2).sum(axis=1) / 2 + np.cos(self.waves * t + self.phase[0]) / 2 + 0.3 * t**2
        along = (
            -self.steep * (off * bends).sum(axis=1) - self.waves * np.sin(self.waves * t + self.phase[0]) / 2 + 0.6 * t
        )
        return values, np.column_stack([along, self.steep * off]) @ self.Q


class Tanh(Field):
    """The mean square error of a small tanh network, over a random subspace."""

    def __init__(self, n: int, seed: int, width: int = 8) -> None:
        draw = np.random.default_rng(seed)
        self.width, size = width, 3 * width + 1
        self.theta, self.U = draw.normal(0, 1, size), draw.normal(0, 1, (n, size))
        self.x = np.linspace(-1, 1, 40)
        self.y = np.sin(3 * self.x)

    def gradients(self, x: Array) -> tuple[Array, Array]:
        w = self.width
        theta = self.theta + x @ self.U
        first, bias, last, level = theta[:, :w], theta[:, w : 2 * w], theta[:, 2 * w : 3 * w], theta[:, 3 * w]
        hidden = np.tanh(first[:, :, None] * self.x + bias[:, :, None])
        off = np.einsum("bw,bwk->bk", last, hidden) + level[:, None] - self.y
        back = last[:, :, None] * (1 - hidden**2) * off[:, None]
        slopes = [back @ self.x, back.sum(axis=2), np.einsum("bwk,bk->bw", hidden, off), off.sum(axis=1)[:, None]]
        scale = 2 / len(self.x)
        return (off**2).mean(axis=1), scale * np.concatenate(slopes, axis=1) @ self.U.T


def cube(n: int, half: float, count: int) -> Grid:
    return Grid((Axis(-half, half, count),) * n)


SHAPES = {2: (2.0, 25), 3: (2.0, 15), 4: (1.5, 9), 5: (1.5, 7)}
FAMILIES: dict[str, Callable[[], Iterator[tuple[str, Field, Grid]]]] = {
    "waves": lambda: ((f"{n}-D, {s}", Waves(n, 100 + s, s % 4), cube(n, *SHAPES[n])) for n in SHAPES for s in range(4)),
    "Gaussian wells": lambda: ((f"{n}-D, {s}", Gaussians(n, 200 + s), cube(n, 1.2, c)) for n, c in
                               ((2, 25), (3, 15), (4, 9), (5, 7)) for s in range(4)),
    "Müller–Brown": lambda: ((str(s), MuellerBrown(300 + s), cube(2, 1.2, 31)) for s in range(8)),
    "valleys": lambda: ((f"{n}-D, {s}", Valleys(n, 400 + s), cube(n, *SHAPES[n])) for n in SHAPES for s in range(4)),
    # how closely descents keep to the flow in more than three directions was chosen on 500 to 503 in four
    "tanh": lambda: ((f"{n}-D, {s}", Tanh(n, (500 if n < 4 else 504) + s), cube(n, *SHAPES[n])) for n in SHAPES
                     for s in range(4)),
}  # fmt: skip


def flowed(field: Field, box: Box, x: Array, longest: float = 0.02) -> Array:
    """Where the flow from points (k, n), in steps, ends."""
    scale, left, x = np.outer(box.step, box.step), np.arange(len(x)), x.copy()
    ladder = 10.0 ** np.linspace(6, -12, 73)  # of 1 / time, as shares of the largest curvature
    for _ in range(20_000):
        at = x[left]
        slopes = field.gradients(box.alpha(at))[1] * box.step
        free = ~(((at <= 0) & (slopes > 0)) | ((at >= box.far) & (slopes < 0)))
        hessians = field.hessians(box.alpha(at)) * scale * free[:, :, None] * free[:, None, :]
        rates, modes = np.linalg.eigh(hessians)
        along = np.einsum("bij,bi->bj", modes, slopes * free)
        largest = np.maximum(np.abs(rates).max(axis=1), 1e-100)  # in a corner nothing is free
        least = np.maximum(-2 * rates[:, 0], 0.0) + 1e-12 * largest  # or else it is no flow
        per_time = least[:, None] + largest[:, None] * ladder
        lengths = np.sqrt((along[:, None] ** 2 / (rates[:, None] + per_time[:, :, None]) ** 2).sum(axis=2))
        short = lengths <= longest
        last = np.where(short.any(axis=1), len(ladder) - 1 - np.argmax(short[:, ::-1], axis=1), 0)
        steps = -np.einsum("bij,bj->bi", modes, along / (rates + per_time[np.arange(len(left)), last][:, None]))
        steps /= np.maximum(np.linalg.norm(steps, axis=1, keepdims=True) / longest, 1.0)
        x[left] = np.clip(at + steps, 0, box.far)
        left = left[np.abs(x[left] - at).max(axis=1) > 1e-9]
        if not len(left):
            break
    return x


def at_rest(field: Field, box: Box, x: Array) -> NDArray[np.bool_]:
    """Whether minima are no further from points (k, n), in steps, than a twentieth of a step."""
    slopes = field.gradients(box.alpha(x))[1] * box.step
    hessians = field.hessians(box.alpha(x)) * np.outer(box.step, box.step)
    free = ~(((x <= 0) & (slopes > 0)) | ((x >= box.far) & (slopes < 0)))
    found = np.ones(len(x), bool)
    for i, (g, H, f) in enumerate(zip(slopes, hessians, free, strict=True)):
        if f.any():
            found[i] = np.abs(np.linalg.lstsq(H[np.ix_(f, f)], g[f], rcond=None)[0]).max() < 0.05
    return found


def judged(field: Field, grid: Grid, most: int, more: int) -> dict[str, int]:
    """Of so many minima of a grid at most, and so many other points."""
    values, box = field.on(grid), Box.of(grid)
    minima = merge_tree(values).minima
    if len(minima) > most:
        minima = minima[np.linspace(0, len(minima) - 1, most).astype(int)]
    vertices = np.concatenate([minima, np.random.default_rng(1).integers(0, grid.size, more)])
    starts = np.stack(np.unravel_index(vertices, grid.shape), axis=1).astype(np.float64)
    moved = np.clip(starts + 0.02 * np.random.default_rng(0).normal(size=starts.shape), 0, box.far)
    expected, beside = np.split(flowed(field, box, np.vstack([starts, moved])), 2)
    finer = flowed(field, box, starts, 0.02 / 3)
    sure = (np.abs(np.stack([beside, finer]) - expected).max(axis=(0, 2)) < 0.1) & at_rest(field, box, expected)
    cost = Cost()

    def run(what: Any, rows: Array) -> Array:
        return np.array(search(field, box, [searching(what, row, box, field.rounding) for row in rows], cost))

    descents = Descents(run, box, field.rounding)
    ends = [descents.ends[i] for i in descents.follow(starts, curvatures(ArrayReader(values), vertices))]
    there = np.abs(np.array([end.point for end in ends]) - expected).max(axis=1) < RIGHT
    faces = ((expected <= 0) | (expected >= box.far)).any(axis=1)
    named = np.array([end.kind for end in ends]) == np.where(faces, "edge", "interior")
    own = np.arange(len(starts)) < len(minima)
    return {
        "minima": int((sure & own).sum()),
        "minima right": int((sure & own & there & named).sum()),
        "others": int((sure & ~own).sum()),
        "others right": int((sure & ~own & there & named).sum()),
        "not sure": int((~sure).sum()),
        "gradients": cost.total,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=FAMILIES, help="one of them only")
    parser.add_argument("--only", default="", metavar="TEXT", help="only fields with this in their name")
    parser.add_argument("--minima", type=int, default=40, help="of a grid, at most")
    parser.add_argument("--others", type=int, default=10, help="other points of a grid")
    parser.add_argument("--each", action="store_true", help="tell every field")
    parser.add_argument("--out", type=Path, help="write the table as JSON")
    asked = parser.parse_args()
    table: dict[str, dict[str, int]] = {}
    for family in FAMILIES if asked.family is None else [asked.family]:
        total: dict[str, int] = {}
        began, fields = time.perf_counter(), 0
        for name, field, grid in FAMILIES[family]():
            if asked.only not in name:
                continue
            found = judged(field, grid, asked.minima, asked.others)
            fields += 1
            total = {key: total.get(key, 0) + count for key, count in found.items()}
            if asked.each:
                print(f"  {name}: {found}", flush=True)
        table[family] = {"fields": fields} | total
        shares = ", ".join(f"{total[f'{of} right']} of {total[of]} {of}" for of in ("minima", "others"))
        print(f"{family:16} {fields:3} fields: {shares}; {total['gradients']:,} gradients, "
              f"{total['not sure']} not sure ({time.perf_counter() - began:.0f} s)", flush=True)  # fmt: skip
    if asked.out:
        asked.out.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
