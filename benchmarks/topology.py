"""Merge and contour trees against numpy's argsort, cripser, GUDHI, higra, scikit-image and Landscaper, in one table.

    python benchmarks/topology.py                 all of it; the slowest peers take minutes
    python benchmarks/topology.py --only smooth   smooth, dense, contour, large, noise or landscaper
    python benchmarks/topology.py --only start    the command from the shell: its very first run, and the next ones
    python benchmarks/topology.py --no-peers      only ours and argsort

Peers: pip install -r benchmarks/requirements.txt; Landscaper comes in an environment of its own (`peers.py`).
numpy sorts several times faster where the processor has AVX-512 or AVX2 than where it has not. So argsort is measured
twice: as it is, and "argsort without AVX", with these paths of numpy switched off, which compares between machines.
Each number is the best of a few runs within one process; every work runs in a process of its own, so that peak memory
is its own. The load of the machine is written beside the numbers; processor seconds, of all threads together, are what
to compare where other work shared the cores. Each row is written as soon as it is measured, in the place of an older
one of the same work: a run that is cut off, or measures a part, leaves the other rows as they were.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fields import field_of, smooth
from numpy.typing import NDArray

RESULTS = Path(__file__).parent / "results"


def contour(connectivity: str) -> Callable[[NDArray[Any]], Any]:
    from landscaper_hpc.topology import contour_tree

    def work(field: NDArray[Any]) -> Any:
        tree = contour_tree(field, connectivity)
        return {"nodes": len(tree.nodes), "minima": len(tree.minima), "maxima": len(tree.maxima)}

    for dtype in ("f4", "f8"):
        work(np.indices((64, 64)).sum(0).astype(dtype) % 2)
    return work


def ours(connectivity: str) -> Callable[[NDArray[Any]], Any]:
    from landscaper_hpc.topology import merge_tree
    from landscaper_hpc.topology.metrics import smad

    def work(field: NDArray[Any]) -> Any:
        tree = merge_tree(field, connectivity)  # type: ignore[arg-type]
        tree.persistence()
        return {"n_minima": tree.n_minima, "smad": smad(tree)}

    work(np.zeros((2, 2), "f4"))
    work(np.zeros((2, 2)))
    return work


def cripser(field: NDArray[Any]) -> Any:
    import cripser

    return {"pairs": len(cripser.computePH(field, maxdim=0))}


def gudhi(field: NDArray[Any]) -> Any:
    import gudhi

    found = gudhi.CubicalComplex(vertices=field)
    found.compute_persistence(homology_coeff_field=2)
    return {"pairs": len(found.persistence_intervals_in_dimension(0))}


def skimage(field: NDArray[Any]) -> Any:
    from skimage.morphology import max_tree

    max_tree(-field, connectivity=1)


def higra(field: NDArray[Any]) -> Any:
    import higra

    ids = np.arange(field.size).reshape(field.shape)
    sources = np.concatenate([ids.take(range(0, k - 1), axis=d).ravel() for d, k in enumerate(field.shape)])
    targets = np.concatenate([ids.take(range(1, k), axis=d).ravel() for d, k in enumerate(field.shape)])
    graph = higra.UndirectedGraph(field.size)
    graph.add_edges(sources, targets)
    higra.component_tree_min_tree(graph, field.ravel())


def argsort(field: NDArray[Any]) -> Any:
    np.argsort(field, axis=None)
    return {"numpy_paths": vector_paths()}


def vector_paths() -> list[str]:
    """Which of numpy's code paths for AVX2 and AVX-512 this process uses."""
    from numpy._core import _multiarray_umath as numpy_core

    names = numpy_core.__cpu_dispatch__
    return [n for n in names if n.startswith(("AVX", "X86_V3", "X86_V4")) and numpy_core.__cpu_features__[n]]


@contextmanager
def without_avx() -> Iterator[None]:
    """For processes that start within."""
    os.environ["NPY_DISABLE_CPU_FEATURES"] = " ".join(vector_paths())
    try:
        yield
    finally:
        del os.environ["NPY_DISABLE_CPU_FEATURES"]


def landscaper(field: NDArray[Any], what: str = "merge_tree") -> Any:
    """In its own environment, on the same field; it times itself. None if it does not finish in time, or is killed as
    it takes all memory."""
    import peers

    try:
        found = peers.call(what, timeout=LIMIT + 30, points=field.shape[0], dim=field.ndim)
    except subprocess.TimeoutExpired:
        return None
    except subprocess.CalledProcessError as error:
        if error.returncode == -signal.SIGKILL:
            return None
        raise
    return found if found["seconds"] <= LIMIT else None


LIMIT = 120
"""Seconds that Landscaper may take: the largest square that it finishes in them is looked for."""
WORK: list[tuple[str, str, str, int]] = [
    # group, field, who, how often
    ("smooth", "smooth 41^4", "ours axis", 7),
    ("smooth", "smooth 41^4", "argsort", 5),
    ("smooth", "smooth 41^4", "argsort without AVX", 5),
    ("smooth", "smooth 41^4", "cripser", 2),
    ("smooth", "smooth 41^4", "higra", 1),
    ("smooth", "smooth 41^4", "gudhi", 1),
    ("smooth", "smooth 41^4", "skimage", 1),
    ("dense", "smooth 21^5", "ours freudenthal", 3),
    ("dense", "smooth 21^5", "ours full", 3),
    ("contour", "smooth 41^4 float32", "ours contour axis", 5),
    ("contour", "smooth 41^4 float32", "ours contour freudenthal", 3),
    ("contour", "noise 41^4 float32", "ours contour axis", 5),
    ("contour", "ties 41^4 float32", "ours contour axis", 5),
    ("contour", "plateau 41^4 float32", "ours contour axis", 5),
    ("contour", "holes 41^4 float32", "ours contour axis", 5),
    ("contour", "smooth 21^2", "ours contour axis", 5),
    ("contour", "smooth 21^2", "landscaper contour", 1),
    ("large", "smooth 41^5 float32", "ours axis", 3),
    ("large", "smooth 41^5 float32", "argsort", 1),
    ("large", "smooth 41^5 float32", "argsort without AVX", 1),
    ("noise", "noise 41^4", "ours axis", 5),
    ("noise", "noise 41^4", "argsort", 5),
    ("noise", "noise 41^4", "argsort without AVX", 5),
]
PEERS: dict[str, Callable[[NDArray[Any]], Any]] = {
    "argsort": argsort,
    "argsort without AVX": argsort,
    "landscaper": landscaper,
    "landscaper contour": partial(landscaper, what="contour_tree"),
    "cripser": cripser,
    "gudhi": gudhi,
    "skimage": skimage,
    "higra": higra,
}


def measure(field_name: str, who: str, runs: int) -> dict[str, Any] | None:
    """In a process of its own: best seconds, peak memory over the array, what it found. None if it did not finish."""
    from landscaper_hpc.topology.blocks.stats import peak_memory

    who_, _, connectivity = who.rpartition(" ")
    work = {"ours": ours, "ours contour": contour}[who_](connectivity) if who_.startswith("ours") else PEERS[who]
    timed = who.startswith("landscaper")
    before = peak_memory()
    field = field_of(field_name)
    made = peak_memory()
    seconds, used = [], []
    for _ in range(runs):
        start, cpu = time.perf_counter(), time.process_time()
        found = work(field)
        if timed and found is None:
            return None
        seconds.append(found["seconds"] if timed else time.perf_counter() - start)
        used.append(time.process_time() - cpu)
    return {
        "field": field_name, "who": who, "vertices": field.size, "seconds": min(seconds), "runs": seconds,
        "processor_seconds": None if timed else min(used),
        "ns_per_vertex": min(seconds) / field.size * 1e9,
        # making the field may have peaked higher than the work: then this is an upper bound
        "memory_over_array": None if field.size < 10**5 else (max(peak_memory(), made) - before) / field.nbytes,
        "found": found, "load": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def start() -> None:
    """`landscaper-hpc topology small.npy`, first with an empty cache of compiled code."""
    command = [str(Path(sys.executable).with_name("landscaper-hpc")), "topology", "small.npy", "--json"]
    seconds, used, load = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/small.npy", smooth(21, 3))
        for _ in range(4):
            before, began = os.times(), time.perf_counter()
            cache = {"NUMBA_CACHE_DIR": f"{folder}/cache"}
            subprocess.run(command, check=True, cwd=folder, env=os.environ | cache, stdout=subprocess.DEVNULL)
            after = os.times()
            seconds.append(time.perf_counter() - began)
            used.append(sum(after[2:4]) - sum(before[2:4]))
            load.append(os.getloadavg()[0])
    rows = zip(("very first", "second", "third", "fourth"), seconds, used, load, strict=True)
    text = "\n".join(
        [
            f"`landscaper-hpc topology small.npy --json` (21^3, float64) from the shell, compiled code in a new "
            f"NUMBA_CACHE_DIR; {time.strftime('%Y-%m-%d')}, {processor()}, {os.cpu_count()} cores\n",
            "| run | seconds | of processor time | load |",
            "|---|---|---|---|",
            *(f"| {name} | {s:.1f} | {u:.1f} | {x:.1f} |" for name, s, u, x in rows),
        ]
    )
    (RESULTS / "topology-start.md").write_text(text + "\n")
    print(text)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| field | who | seconds | processor seconds | ns / vertex | memory / array | ours is faster by | load | day |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        own = next((r for r in rows if r["field"] == row["field"] and r["who"].startswith("ours")), None)
        ratio = "" if own is None or row["who"].startswith("ours") else f"{row['seconds'] / own['seconds']:.3g} ×"
        lines.append(
            f"| {row['field']} | {row['who']} | {row['seconds']:.3g} "
            f"| {row['processor_seconds'] or float('nan'):.3g} | {row['ns_per_vertex']:.3g} "
            f"| {row['memory_over_array'] or float('nan'):.2f} | {ratio} "
            f"| {row['load']:.1f} | {row['date']} |".replace("nan", "")
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["smooth", "dense", "contour", "large", "noise", "landscaper", "start"])
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    if options.only == "start":
        start()
        return
    for group, field, who, runs in WORK:
        if options.only in (None, group) and (not options.no_peers or who.startswith(("ours", "argsort"))):
            record(field, who, runs)
    if options.only in (None, "landscaper") and not options.no_peers:
        largest_landscaper()
    print((RESULTS / "topology.md").read_text())


def largest_landscaper() -> None:
    """Ours and Landscaper on squares, each of half as many vertices again, until it does not finish."""
    k = 41
    while record(name := f"smooth {k}^2", "landscaper", 1):
        record(name, "ours axis", 7)
        k = round(1.5**0.5 * k)


def record(field: str, who: str, runs: int) -> dict[str, Any] | None:
    """Measure, and write the row beside what has been measured before on this machine with this numpy."""
    context = multiprocessing.get_context("spawn")
    with without_avx() if who == "argsort without AVX" else nullcontext(), context.Pool(1) as pool:
        row: dict[str, Any] | None = pool.apply(measure, (field, who, runs))
    if row is None:
        print(f"{field:22} {who:18} not finished in {LIMIT} s, or in this memory", flush=True)
        return None
    print(f"{field:22} {who:18} {row['seconds']:8.3f} s {row['ns_per_vertex']:9.1f} ns/vertex "
          f"{row['memory_over_array'] or 0:5.2f} × the array (load {row['load']:.1f})", flush=True)  # fmt: skip
    machine = {
        "processor": processor(), "cores": os.cpu_count(), "numpy": np.__version__, "numpy_paths": vector_paths(),
    }  # fmt: skip
    file = RESULTS / "topology.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    rows = before["rows"] if before.get("machine") == machine else []
    rows = [r for r in rows if (r["field"], r["who"]) != (field, who)] + [row]
    place = {(field, who): i for i, (_, field, who, _) in enumerate(WORK)}
    last = len(WORK)
    rows.sort(key=lambda r: (place.get((r["field"], r["who"]), last), r["vertices"], r["who"]))
    RESULTS.mkdir(exist_ok=True)
    file.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    text = (
        f"{machine['processor']}, {machine['cores']} cores, numpy {np.__version__} with "
        f'{", ".join(vector_paths()) or "no AVX"}; "argsort without AVX": with these switched off. '
        f"Load: the machine's load average after the row was measured.\n\n{table(rows)}"
    )
    (RESULTS / "topology.md").write_text(text)
    return row


if __name__ == "__main__":
    main()
