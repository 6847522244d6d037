"""Strong and weak scaling of the distributed merge tree as far as this machine goes, and what follows for larger ones.

    python benchmarks/scaling.py                  41^5 float32, 1, 2 and 4 ranks of one thread
    python benchmarks/scaling.py --points 21      a small one

Measured: seconds per phase and bytes sent, for each number of ranks. Extrapolated, and said so: seconds for 64 ranks
and 101^5, from what two ranks of the weak scaling took per vertex of a block, ghosts included, and per vertex of the
face between them, and a network of the given rate.

The same processes do the work several times, and the fastest counts: a virtual machine may give free memory back to
its host after a moment, and to get it again takes many times as long as to clear it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from fields import smooth

from landscaper_hpc.parallel.comm import world
from landscaper_hpc.topology.blocks.boxes import choose_boxes
from landscaper_hpc.topology.blocks.distributed import merge_tree_blocks
from landscaper_hpc.topology.metrics import smad
from landscaper_hpc.topology.readers import NpyReader

RESULTS = Path(__file__).parent / "results"


def run(path: Path, ranks: int, runs: int) -> dict[str, Any]:
    """The fastest of some runs."""
    launcher = [str(Path(sys.executable).with_name("mpiexec")), "-n", str(ranks)] if ranks > 1 else []
    command = [*launcher, sys.executable, __file__, "--rank-of", str(path), "--runs", str(runs)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return min(map(json.loads, done.stdout.splitlines()), key=lambda one: one["seconds"])


def rank_of(path: Path, runs: int) -> None:
    """What each rank does: the same work several times. Rank 0 prints each as a line of JSON."""
    comm = world()
    for _ in range(runs):
        found = merge_tree_blocks(NpyReader(path), threads=1, comm=comm)
        phases = [rank.phases for rank in found.stats]
        if found.tree is not None:
            # without the compiler's cache
            seconds = max(sum(p["seconds"] for name, p in each.items() if name != "compile") for each in phases)
            one = {
                "ranks": comm.size,
                "vertices": found.tree.n_vertices,
                "seconds": seconds,
                "phases": {name: max(each[name]["seconds"] for each in phases) for name in phases[0]},
                "bytes_sent": sum(int(p["bytes_sent"]) for each in phases for p in each.values()),
                "peak_rss_mb": max(p["peak_rss_mb"] for each in phases for p in each.values()),
                "smad": smad(found.tree),
                "load": os.getloadavg()[0],
            }
            print(json.dumps(one), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=41, help="per axis, in five dimensions")
    parser.add_argument("--bandwidth", type=float, default=1e10, help="bytes per second and rank of the larger machine")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4], help="numbers of ranks, 1 and 2 among them")
    parser.add_argument("--runs", type=int, default=30, help="the best of how many")
    parser.add_argument("--rank-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_of:
        rank_of(options.rank_of, options.runs)
        return
    strong, weak = [], []
    with tempfile.TemporaryDirectory() as folder:
        k = options.points
        field = smooth(k, 5, "f4")
        np.save(f"{folder}/strong.npy", field)
        for ranks in options.ranks:
            strong.append(run(Path(folder) / "strong.npy", ranks, options.runs))
            print(strong[-1], flush=True)
            np.save(f"{folder}/weak.npy", field[: max(2, k * ranks // 4)])
            weak.append(run(Path(folder) / "weak.npy", ranks, options.runs))
            print(weak[-1], flush=True)
    assert len({r["smad"] for r in strong}) == 1, "every number of ranks must give the same"
    alone, two = strong[0], weak[1]
    # of two ranks, each has one face and one layer of ghosts
    rate = two["phases"]["blocks"] / (two["vertices"] / 2 + k**4)
    resolve = sum(two["phases"][name] for name in ("exchange", "forest", "merge", "tree")) / k**4
    bytes_per_face_vertex = two["bytes_sent"] / k**4
    ranks, points = 64, 101
    boxes = choose_boxes((points,) * 5, 4, ranks)
    ghosted = max(int(np.prod([s.stop - s.start for s in boxes.ghosted(b)])) for b in range(boxes.size))
    own = [int(np.prod([s.stop - s.start for s in boxes.core(b)])) for b in range(boxes.size)]
    inner = [(b, c) for b, c in zip(boxes.block, boxes.counts, strict=True) if c > 1]
    faces = sum(2 * max(own) // b for b, _ in inner)
    sent = bytes_per_face_vertex * faces / options.bandwidth
    parts = (rate * ghosted, resolve * faces, sent)
    lines = [
        f"Measured, {k}^5 float32, one thread per rank, best of {options.runs}; {time.strftime('%Y-%m-%d')}, "
        f"{os.cpu_count()} cores, load average after each run in the table:\n",
        "| | ranks | vertices | seconds | speed-up or efficiency | bytes sent | peak MB | load |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| strong | {r['ranks']} | {r['vertices']:,} | {r['seconds']:.2f} "
            f"| {alone['seconds'] / r['seconds']:.2f} × "
            f"| {r['bytes_sent']:,} | {r['peak_rss_mb']:.0f} | {r['load']:.1f} |"
            for r in strong
        ),
        *(
            f"| weak | {r['ranks']} | {r['vertices']:,} | {r['seconds']:.2f} "
            f"| {weak[0]['seconds'] / r['seconds']:.2f} "
            f"| {r['bytes_sent']:,} | {r['peak_rss_mb']:.0f} | {r['load']:.1f} |"
            for r in weak
        ),
        f"\nMeasured with two ranks (weak): {rate * 1e9:.1f} ns a vertex of a block, ghosts included, in `blocks`; "
        f"{resolve * 1e9:.1f} ns and {bytes_per_face_vertex:.2f} bytes sent per vertex of the face between them.\n",
        f"Extrapolated, not measured: {points}^5 = {points**5:,} vertices on {ranks} ranks of one thread in blocks of "
        f"{' × '.join(map(str, boxes.block))}: {sum(parts):.1f} s. Blocks {parts[0]:.1f} s for {ghosted:,} vertices "
        f"with ghosts; faces {parts[1]:.1f} s for {faces:,} vertices of an inner block's faces; network "
        f"{parts[2]:.2f} s at {options.bandwidth:.2g} bytes/s assumed. Nothing is said of the file system, of ranks "
        "that share a node's memory bandwidth, or of a field that is rougher than this one.",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "topology-scaling.md").write_text("\n".join(lines) + "\n")
    (RESULTS / "topology-scaling.json").write_text(json.dumps({"strong": strong, "weak": weak}, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
