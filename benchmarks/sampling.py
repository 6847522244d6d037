"""The lowest part of fields from a part of their points, against the dense merge tree.

    python benchmarks/sampling.py                 fields of 3 to 5 dimensions, lowest 1 % and 10 %; minutes
    python benchmarks/sampling.py --only 41^5     the field that a dense grid is too dear for: time and memory of ours
    python benchmarks/sampling.py --only network  the lowest part of all data from 2 of 32 batches; needs scikit-learn
    python benchmarks/sampling.py --only throughput   a search by `run`'s own stages against evaluation alone
    python benchmarks/sampling.py --run RUN [--landscape NAME]   a landscape of a finished run, of all points

The share of the points that are evaluated, random descents among them; how many of the dense tree's minima and pairs
below the level were found (what was found is checked to be exact); the bound of what was not met; and processor
microseconds per evaluated vertex of all that is not evaluation, compiling left out.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.sampling.all_data import lowest_of_all_data
from landscaper_hpc.sampling.lowest import lowest
from landscaper_hpc.store.landscape import open_landscape
from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.scope import below, level_of_share

SHARES = (0.01, 0.1)


def _coordinates(k: int, n: int) -> list[NDArray[np.float64]]:
    return np.meshgrid(*[np.linspace(-1, 1, k)] * n, indexing="ij", sparse=True)


def fourier(k: int, n: int, most: int, bowl: float = 0.0) -> NDArray[np.float64]:
    """Twenty waves of up to so many half periods along each axis, and a bowl."""
    rng = np.random.default_rng(0)
    x = _coordinates(k, n)
    field = np.zeros((k,) * n)
    for _ in range(20):
        phase = sum(np.pi / 2 * rng.integers(-most, most + 1) * c for c in x) + rng.uniform(0, 2 * np.pi)
        field += rng.normal() * np.cos(phase)
    return field + bowl * sum(c**2 for c in x)


def rastrigin(k: int, n: int) -> NDArray[np.float64]:
    return sum((3 * c) ** 2 - 10 * np.cos(2 * np.pi * 3 * c) for c in _coordinates(k, n)) + np.zeros((k,) * n)


def wells(k: int, n: int) -> NDArray[np.float64]:
    """A double well along each axis, which lean."""
    return sum((d + 1) * ((2 * c) ** 2 - 1) ** 2 + 0.3 * c for d, c in enumerate(_coordinates(k, n)))


FIELDS = {
    "Fourier 41^3": lambda: fourier(41, 3, 8, 1.0),
    "Rastrigin 41^3": lambda: rastrigin(41, 3),
    "wells 41^3": lambda: wells(41, 3),
    "Fourier with bowl 41^4": lambda: fourier(41, 4, 10, 2.0),
    "Rastrigin 41^4": lambda: rastrigin(41, 4),
    "Fourier rough 21^4": lambda: fourier(21, 4, 12),
    "Fourier smooth 21^5": lambda: fourier(21, 5, 4),
    "wells 21^5": lambda: wells(21, 5),
}


def measure(field: NDArray[Any], share: float, start: Sequence[int] = ()) -> dict[str, Any]:
    flat = field.reshape(-1)
    tree = merge_tree(field, labels=True)
    assert tree.labels is not None
    dense = below(tree, field, tree.labels, level_of_share(field, share))
    begun = time.process_time()
    found = lowest(lambda ids: flat[ids], field.shape, share=share, start=start)
    spent = time.process_time() - begun
    met = np.isin(dense.minima, found.tree.minima)
    if found.level == dense.value_range[1]:
        mine = np.searchsorted(np.sort(found.tree.minima), dense.minima[met])
        np.testing.assert_array_equal(
            found.tree.basin_size[np.argsort(found.tree.minima)][mine], dense.basin_size[met], "a basin is wrong"
        )
    pairs = np.isin(dense.minima[dense.death_value < dense.value_range[1]], found.tree.minima[found.tree.parent >= 0])
    evaluated = sum(found.evaluated.values())
    return {
        "share evaluated": evaluated / field.size,
        "by": found.evaluated,
        "minima": [int(met.sum()), dense.n_minima],
        "pairs": [int(pairs.sum()), len(pairs)],
        "level": [found.level, dense.value_range[1]],
        "unmet at most": found.unmet,
        "random descents": found.descents,
        "microseconds": 1e6 * spent / evaluated,
    }


def large() -> dict[str, Any]:
    """41^5, never made whole: its values are computed where they are asked for."""
    shape = (41,) * 5
    x = np.linspace(-1, 1, 41)
    along = [(0.5 * x**2 + 0.3 * np.cos(7 * x + d)).astype(np.float32) for d in range(5)]
    evaluating = 0.0

    def evaluate(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        nonlocal evaluating
        begun = time.process_time()
        values = sum(a[i] for a, i in zip(along, np.unravel_index(ids, shape), strict=True))
        evaluating += time.process_time() - begun
        return values  # type: ignore[no-any-return]

    begun = time.process_time()
    found = lowest(evaluate, shape, share=0.01)
    spent = time.process_time() - begun - evaluating
    evaluated = sum(found.evaluated.values())
    return {
        "share evaluated": evaluated / 41**5,
        "by": found.evaluated,
        "minima": found.tree.n_minima,
        "unmet at most": found.unmet,
        "microseconds": 1e6 * spent / evaluated,
        "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def of_all_data(name: str, share: float, k: int = 31) -> dict[str, Any]:
    """Examples that a search on all data takes, and one on few of them with all where that decides."""
    from few import BATCHES, Losses, digits, language, trained

    made = {"digits CNN": (digits, 600, 1e-2), "language model": (language, 1500, 5e-3)}[name]
    shape, few = (k,) * 3, np.sort(np.random.default_rng(0).choice(BATCHES, 2, replace=False))
    losses = Losses(*trained(*made), shape, reach=1.0)
    start = [k**3 // 2]
    whole = lowest(lambda ids: losses(ids).mean(axis=1), shape, share=share, start=start)
    alone = lowest(lambda ids: losses(ids)[:, few].mean(axis=1), shape, share=share, start=start)
    found = lowest_of_all_data(
        lambda ids: losses(ids)[:, few].mean(axis=1),
        lambda ids: losses(ids).mean(axis=1),
        shape,
        share=share,
        start=start,
    )
    trees = {"all": whole.tree, "few": alone.tree, "few, then all": found.lowest.tree}
    pairs = {what: {(m, d) for m, d in zip(t.minima, t.death, strict=True) if d >= 0} for what, t in trees.items()}
    minima = {what: set(tree.minima.tolist()) for what, tree in trees.items()}
    batches = sum(whole.evaluated.values()) * BATCHES
    return {
        "times fewer examples": batches / (len(found.ids) * BATCHES + found.evaluated * len(few)),
        "points on all data": [sum(whole.evaluated.values()), len(found.ids)],
        "points on few": found.evaluated,
        "minima": {what: [len(m & minima["all"]), len(m)] for what, m in minima.items()},
        "pairs": {what: [len(p & pairs["all"]), len(p)] for what, p in pairs.items()},
        "level": [whole.level, alone.level, found.lowest.level],
        "error": found.error,
    }


TASK = """
import sys
sys.path.insert(0, {place!r})
import models
from landscaper_hpc import Task

def task():
    model, data, loss = models.mlp()
    return Task(model=model, loss=loss, data=data[0])
"""
STUDY = """
name: throughput
task: task.py
checkpoints: [{name: mlp, file: mlp.pt}]
directions: {kind: random, n: 4}
grid: {range: 1, count: 41}
precision: float32
scope: {share: 0.02}
"""
LARGE_ROUND = 10_000


def evaluate_alone(job: tuple[Any, NDArray[np.float64]], progress: Any) -> None:
    from landscaper_hpc.losses.evaluate import losses
    from landscaper_hpc.work.loaded import worker_for

    item, alphas = job
    worker = worker_for(item)
    losses(worker.objective, worker.directions, alphas, worker.batch)


def spent() -> NDArray[np.float64]:
    """Wall and processor seconds, of this process and those under it."""
    import psutil

    me = psutil.Process()
    return np.array([time.perf_counter(), sum(sum(p.cpu_times()[:2]) for p in (me, *me.children(recursive=True)))])


def throughput(executor: str, workers: int) -> dict[str, Any]:
    """What share of the evaluator's throughput a search has, (by wall time, by processor time): the points of each
    large round are evaluated alone, too, by the same processes a moment before. The first round loads, and is left
    out; what is done between rounds is not."""
    import models
    import torch

    from landscaper_hpc.executors import LocalMapper, SerialMapper
    from landscaper_hpc.progress import Bars
    from landscaper_hpc.study.site import Site
    from landscaper_hpc.study.study import Study
    from landscaper_hpc.work.campaign import Campaign
    from landscaper_hpc.work.mapped import Mapped
    from landscaper_hpc.work.points import Points
    from landscaper_hpc.work.preparation import prepare_all
    from landscaper_hpc.work.scope import seek

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "task.py").write_text(TASK.format(place=str(Path(__file__).resolve().parent)))
        torch.save(models.mlp()[0].state_dict(), folder / "mlp.pt")
        (folder / "study.yaml").write_text(STUDY)
        site = Site(executor=executor, workers=workers)
        campaign = Campaign.of(Study.load(folder / "study.yaml"), site, folder / "run")
        prepare_all(campaign.landscapes, SerialMapper(), Bars())
        (item,) = campaign.landscapes
        grid = item.open().grid
        with closing(SerialMapper() if executor == "serial" else LocalMapper(workers)) as mapper:
            carrier = Mapped(mapper, Bars())
            sizes: list[int] = []
            alone: list[NDArray[np.float64]] = []
            rounds: list[NDArray[np.float64]] = []
            last = spent()

            def deal(pieces: Sequence[Points]) -> None:
                nonlocal last
                ids = np.concatenate([piece.ids for piece in pieces])
                sizes.append(len(ids))
                began = spent() if len(ids) >= LARGE_ROUND else last
                if len(ids) >= LARGE_ROUND:
                    index = np.unravel_index(ids, grid.shape)
                    alphas = np.stack([axis[i] for axis, i in zip(grid.coordinates(), index, strict=True)], axis=1)
                    parts = [(item, part) for part in np.array_split(alphas, workers)]
                    list(mapper.map_unordered(evaluate_alone, parts))
                    alone.append(spent() - began)
                carrier.deal(pieces, item)
                if len(ids) >= LARGE_ROUND:
                    now = spent()
                    rounds.append(now - last - alone[-1])
                last = spent() if len(ids) >= LARGE_ROUND // 4 else last  # which takes longer than a small round

            begun = spent()
            seek(item, deal, workers, None)
            whole = spent() - begun - sum(alone)
        large = [size for size in sizes if size >= LARGE_ROUND][1:]
        own = sum(alone[1:]) / sum(large)  # seconds a point
        return {
            "points": sum(sizes),
            "rounds": len(sizes),
            "large rounds": len(large),
            "points a second alone": float(1 / own[0]),
            "of it in large rounds": [float(x) for x in own * sum(large) / sum(rounds[1:])],
            "of it in all, starts among them": [float(x) for x in own * sum(sizes) / whole],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="fields whose names have this in them")
    parser.add_argument("--run", type=Path, help="the folder of a run, in place of all others")
    parser.add_argument("--landscape", help="which of its landscapes, where it has several")
    parser.add_argument("--out", type=Path, help="write the table as JSON")
    asked = parser.parse_args()
    warm = np.random.default_rng(0).random((9, 9, 9))
    lowest(lambda ids: warm.reshape(-1)[ids], warm.shape, share=0.1)
    table: dict[str, Any] = {}

    def is_asked(name: str) -> bool:
        return asked.run is None and (asked.only is None or asked.only in name)

    fields = {name: make for name, make in FIELDS.items() if is_asked(name)}
    if asked.run:
        fields[f"{asked.run.name} {asked.landscape or ''}".strip()] = open_landscape(asked.run, asked.landscape).loss
    for name, make in fields.items():
        field = make()
        for share in SHARES:
            start = [field.size // 2] if asked.run else []  # the checkpoint
            row = table[f"{name}, lowest {share:.0%}"] = measure(field, share, start)
            pairs, minima = ("{} of {}".format(*row[what]) for what in ("pairs", "minima"))
            print(
                f"{name:24} {share:4.0%}: {row['share evaluated']:6.2%} evaluated, {minima} minima, {pairs} pairs, "
                f"unmet ≤ {row['unmet at most']:.1%} ({row['random descents']}), {row['microseconds']:.2f} µs",
                flush=True,
            )
    if is_asked("41^5"):
        table["ripples 41^5, lowest 1%"] = row = large()
        print(f"ripples 41^5: {row}")
    for name in ("digits CNN", "language model"):
        for share in SHARES:
            if asked.only is not None and is_asked(f"{name} network"):
                table[f"{name}, lowest {share:.0%}, of all data"] = row = of_all_data(name, share)
                print(f"{name} {share:.0%}: {row}", flush=True)
    for executor, workers in (("serial", 1), ("local", 2)):
        if is_asked("throughput"):
            table[f"throughput, {executor}"] = row = throughput(executor, workers)
            print(f"throughput, {executor}: {row}", flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
