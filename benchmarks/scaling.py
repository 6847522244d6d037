"""Strong and weak scaling of the distributed merge tree as far as this machine goes, and what follows for larger ones.

    python benchmarks/scaling.py                  41^5 float32, 1, 2 and 4 ranks of one thread
    python benchmarks/scaling.py --points 21      a small one

Measured: seconds per phase and bytes sent, for each number of ranks. Extrapolated, and said so: seconds for 64 ranks
and 101^5, from what two ranks of the weak scaling took per vertex of a block, ghosts included, and per vertex of the
face between them, and a network of the given rate.
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
from topology import smooth

from landscaper_hpc.topology.boxes import choose_boxes

RESULTS = Path(__file__).parent / "results"
PROGRAM = "import sys; sys.argv[0] = 'landscaper-hpc'; from landscaper_hpc.cli import main; main()"


def run(path: Path, ranks: int) -> dict[str, Any]:
    launcher = Path(sys.executable).with_name("mpiexec")
    command = [sys.executable, "-c", PROGRAM, "topology", str(path), "--threads", "1", "--json"]
    if ranks > 1:
        command = [str(launcher), "-n", str(ranks), *command]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    # without the start of the interpreter and the compiler's cache
    work = max(sum(p["seconds"] for n, p in r["phases"].items() if n != "compile") for r in found["ranks"])
    return {
        "ranks": ranks,
        "vertices": int(np.prod(found["shape"])),
        "seconds": work,
        "phases": {n: max(r["phases"][n]["seconds"] for r in found["ranks"]) for n in found["ranks"][0]["phases"]},
        "bytes_sent": sum(r["bytes_sent"] for r in found["ranks"]),
        "peak_rss_mb": found["peak_rss_mb"],
        "smad": found["smad"],
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=41, help="per axis, in five dimensions")
    parser.add_argument("--bandwidth", type=float, default=1e10, help="bytes per second and rank of the larger machine")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4], help="numbers of ranks, 1 and 2 among them")
    parser.add_argument("--runs", type=int, default=3, help="the best of how many")
    options = parser.parse_args()
    strong, weak = [], []
    with tempfile.TemporaryDirectory() as folder:
        k = options.points
        field = smooth(k, 5, "f4")
        np.save(f"{folder}/strong.npy", field)
        for ranks in options.ranks:
            strong.append(
                min((run(Path(folder) / "strong.npy", ranks) for _ in range(options.runs)), key=lambda r: r["seconds"])
            )
            print(strong[-1], flush=True)
            np.save(f"{folder}/weak.npy", field[: max(2, k * ranks // 4)])
            weak.append(
                min((run(Path(folder) / "weak.npy", ranks) for _ in range(options.runs)), key=lambda r: r["seconds"])
            )
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
